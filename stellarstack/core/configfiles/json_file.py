"""JSON: order, numbers and indent as they were. Performs no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from stellarstack.core.configfiles.prepared import Prepared, RawNumber
from stellarstack.core.configfiles.tree import Tree
from stellarstack.core.documents import check_nesting
from stellarstack.core.messages import Json

_INDENT = re.compile(r"[\[{][ \t]*\r?\n([ \t]+)\S")


def patch_json(text: str, replacements: Sequence[Prepared]) -> str:
    """ValueError: it is no JSON object or list (an empty text is none)."""
    check_nesting(text)
    document: Json = json.loads(text, parse_float=RawNumber, parse_constant=_refuse)
    if not isinstance(document, dict | list):
        raise ValueError("holds neither object nor list")
    Tree(document).apply(replacements)
    indent = _INDENT.search(text)
    unit = indent[1] if indent else ("" if "\n" not in text.strip() and len(text) > 2 else "  ")
    newline = "\r\n" if "\r\n" in text else "\n"
    written = "".join(_written(document, unit, newline if unit else "", 0))
    return written + (text[len(text.rstrip()) :] or ("" if text.strip() != "{}" else newline))


def _refuse(word: str) -> Json:
    raise ValueError(f"{word} is no JSON")


def _written(value: Json, unit: str, newline: str, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield from _items(
            [(f"{_scalar(key)}:{' ' if unit else ''}", item) for key, item in value.items()], "{}", unit, newline, depth
        )
    elif isinstance(value, list) and value:
        yield from _items([("", item) for item in value], "[]", unit, newline, depth)
    else:
        yield _scalar(value)


def _items(items: list[tuple[str, Json]], brackets: str, unit: str, newline: str, depth: int) -> Iterator[str]:
    yield brackets[0]
    for index, (head, item) in enumerate(items):
        yield f"{',' if index else ''}{newline}{unit * (depth + 1)}{head}"
        yield from _written(item, unit, newline, depth + 1)
    yield f"{newline}{unit * depth}{brackets[1]}"


def _scalar(value: Json) -> str:
    if isinstance(value, RawNumber):
        return value.literal
    try:
        written = json.dumps(value, ensure_ascii=False)
        written.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates, which JSON may hold as an escape
        return json.dumps(value)
    return written
