"""YAML: comments, order, quotes and types as they were. Performs no I/O."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import ScalarString, SingleQuotedScalarString

from stellarstack.core.configfiles.prepared import Prepared, RawNumber
from stellarstack.core.configfiles.tree import Tree
from stellarstack.core.documents import check_yaml
from stellarstack.core.messages import Json

# What readers of YAML 1.1 (most Java games) take for something else than text where it stands without quotes.
_YAML_11 = re.compile(
    r"(?i)y|n|yes|no|on|off|true|false|null|~|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[-+]?0[0-7_]+|[-+]?0b[01_]+"
)
_YAML_11_BOOLEAN = re.compile(r"(?i)yes|no|on|off|true|false")


def patch_yaml(text: str, replacements: Sequence[Prepared]) -> str:
    """ValueError: it is no YAML. An empty text is an empty object."""
    try:
        check_yaml(text, aliases=True)
        yaml = _reader(text)
        document = yaml.load(text)
        if document is None:
            document = CommentedMap()
        if not isinstance(document, CommentedMap | CommentedSeq):
            raise ValueError("holds neither object nor list")
        Tree(document, make_object=CommentedMap, make_list=CommentedSeq, keep=_keep).apply(replacements)
        written = io.StringIO()
        yaml.dump(document, written)
    except YAMLError as error:
        raise ValueError(_why(error)) from error
    return (text if _only_comments(text) else "") + written.getvalue()


def _only_comments(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines())


def _reader(text: str) -> YAML:
    """Set to write as `text` is written."""
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    step, offset = _indents(text)
    yaml.indent(mapping=step, sequence=offset + 2, offset=offset)
    told = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    yaml.explicit_start = next(told, "").rstrip() == "---" or None
    return yaml


def _indents(text: str) -> tuple[int, int]:
    """How deep objects and lists stand below their keys, by the first of each: 2 and 0 where there is none."""
    step: int | None = None
    offset: int | None = None
    opened: int | None = None
    for line in text.splitlines():
        body = line.strip()
        if not body or body.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip(" "))
        if opened is not None and body.startswith("-"):
            offset = max(0, indent - opened) if offset is None else offset
        elif opened is not None and indent > opened:
            step = indent - opened if step is None else step
        opened = indent if body.partition(" #")[0].rstrip().endswith(":") and not body.startswith("-") else None
    return min(step or 2, 8), min(offset or 0, 8)


def _keep(old: Any, new: Json) -> Any:
    """The new scalar in the old one's quotes; text that an older reader would mistake is quoted."""
    if isinstance(new, RawNumber):
        return float(new)
    if not isinstance(new, str):
        return new
    if isinstance(old, ScalarString):
        return type(old)(new)
    if isinstance(old, str) and _YAML_11_BOOLEAN.fullmatch(old) and _YAML_11_BOOLEAN.fullmatch(new):
        return new if new.lower() not in ("true", "false") else new.lower() == "true"
    return SingleQuotedScalarString(new) if _YAML_11.fullmatch(new) else new


def _why(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1})" if mark is not None else str(problem)
