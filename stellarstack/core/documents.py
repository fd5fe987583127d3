"""Reads JSON, TOML and YAML that strangers wrote: bounded in size, depth and number of parts. Performs no I/O."""

from __future__ import annotations

import io
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from stellarstack.core.messages import Json
from stellarstack.errors import BlueprintInvalid, TooLarge

TEXT_MOST = 2 << 20
DEPTH_MOST = 64
PARTS_MOST = 200_000
YAML_PARTS_MOST = 50_000
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)


def load_text(text: str, name: str) -> Mapping[str, Json]:
    """The one object in `text`; the ending of `name` (.json, .toml, .yaml, .yml) says how to read it.

    TooLarge over 2 MiB; BlueprintInvalid for all else, naming the file. YAML aliases are refused: they can make a small
    file huge.
    """
    if len(text) > TEXT_MOST:
        raise TooLarge(f"{name}: is over {TEXT_MOST} characters")
    text = text.removeprefix("\ufeff")
    ending = name.rpartition(".")[2].lower()
    reader = _READERS.get(ending)
    if reader is None:
        raise BlueprintInvalid(f"{name}: must end in .json, .toml, .yaml or .yml")
    try:
        document = _plain(reader(text))
    except BlueprintInvalid as error:
        raise BlueprintInvalid(f"{name}: {error}") from error
    except (ValueError, YAMLError, RecursionError) as error:
        raise BlueprintInvalid(f"{name}: {_first_line(error)}") from error
    if not isinstance(document, Mapping):
        raise BlueprintInvalid(f"{name}: holds no object")
    return document


def load_json(text: str) -> Json:
    """JSON whose nesting is bounded before it is read; the last of a repeated key wins. ValueError."""
    check_nesting(text)
    found: Json = json.loads(text, parse_constant=_no_constant)
    return found


def check_nesting(text: str, most: int = DEPTH_MOST) -> None:
    """ValueError where the brackets outside of strings of a JSON text nest deeper than `most`, or are too many."""
    depth = parts = 0
    for found in _BRACKETS.finditer(text):
        if found[0] in "[{":
            depth += 1
        elif found[0] in "]}":
            depth -= 1
        parts += found[0] in "[{,"
        if depth > most:
            raise ValueError(f"nests deeper than {most}")
        if parts > PARTS_MOST:
            raise ValueError(f"has over {PARTS_MOST} parts")


def check_yaml(text: str, *, aliases: bool = False, depth_most: int = DEPTH_MOST) -> None:
    """ValueError where a YAML text nests too deep, has too many parts, or (unless allowed) an alias."""
    depth = 0
    for parts, event in enumerate(YAML(typ="rt", pure=True).parse(io.StringIO(text))):
        if isinstance(event, AliasEvent) and not aliases:
            raise ValueError("aliases (*name) are not allowed")
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > depth_most:
            raise ValueError(f"nests deeper than {depth_most}")
        if parts > YAML_PARTS_MOST:
            raise ValueError(f"has over {YAML_PARTS_MOST} parts")


def _no_constant(word: str) -> Json:
    raise ValueError(f"{word} is no JSON")


def _load_toml(text: str) -> Json:
    check_nesting_toml(text)
    return cast(Json, tomllib.loads(text))


def check_nesting_toml(text: str) -> None:
    """ValueError where a TOML text could nest too deep: by brackets in a value or by dots in a key."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > 1000 or line.count("[") > 1000 or line.count("{") > 1000:
            raise ValueError(f"line {number} nests too deep")


def _load_yaml(text: str) -> Json:
    check_yaml(text)
    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True
    return cast(Json, reader.load(text))


def _plain(value: object, depth: int = 0) -> Json:
    """The parsed document as JSON would hold it: keys and dates become strings."""
    if depth > DEPTH_MOST:
        raise ValueError(f"nests deeper than {DEPTH_MOST}")
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number")
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"holds a {type(value).__name__}, which is no value of JSON")


def _key(key: object) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if not isinstance(key, str | int | float | date):
        raise ValueError("has a key that is no string")
    return str(key)


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nests too deep"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if problem and mark is not None:
        return f"{problem} (line {mark.line + 1})"
    return " ".join(str(error).split())[:300]


_READERS: dict[str, Callable[[str], Json]] = {
    "json": load_json,
    "toml": _load_toml,
    "yaml": _load_yaml,
    "yml": _load_yaml,
}
