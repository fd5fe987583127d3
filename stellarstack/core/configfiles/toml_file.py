"""TOML: comments, order and types as they were. Performs no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from stellarstack.core.configfiles.prepared import Prepared, RawNumber
from stellarstack.core.configfiles.tree import Tree
from stellarstack.core.documents import check_nesting_toml
from stellarstack.core.messages import Json


def patch_toml(text: str, replacements: Sequence[Prepared]) -> str:
    """ValueError: it is no TOML. An empty text is an empty object."""
    check_nesting_toml(text)
    try:
        document = tomlkit.parse(text)
        Tree(document, make_object=tomlkit.table, make_list=tomlkit.array, keep=_keep).apply(replacements)
        written: str = tomlkit.dumps(document)
        return written
    except (TOMLKitError, RecursionError) as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else "nests too deep") from error


def _keep(old: Any, new: Json) -> Any:
    return float(new) if isinstance(new, RawNumber) else new
