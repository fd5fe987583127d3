"""Reads the engine's answers without trusting their shape: odd values become the default. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def mapping(source: object, *path: str) -> Mapping[str, Any]:
    """The object at `path`, or an empty one."""
    found = _at(source, path)
    return found if isinstance(found, dict) else {}


def sequence(source: object, *path: str) -> Sequence[Any]:
    found = _at(source, path)
    return found if isinstance(found, list) else ()


def text(source: object, *path: str) -> str:
    found = _at(source, path)
    return found if isinstance(found, str) else ""


def number(source: object, *path: str) -> int:
    found = _at(source, path)
    return int(found) if isinstance(found, int | float) else 0


def flag(source: object, *path: str) -> bool:
    return _at(source, path) is True


def labels(source: object, *path: str) -> Mapping[str, str]:
    return {key: value for key, value in mapping(source, *path).items() if isinstance(value, str)}


def instant(source: object, *path: str) -> float | None:
    """An RFC 3339 time as Unix seconds; None for Go's zero time (year 1) and for what is no time."""
    found = _TIME.fullmatch(text(source, *path))
    if found is None or found.group(1) == "0001":
        return None
    date = "{}-{}-{}T{}:{}:{}".format(*found.groups()[:6])
    zone = found.group(8)
    try:
        whole = datetime.fromisoformat(date + ("+00:00" if zone == "Z" else zone)).astimezone(UTC)
    except ValueError:
        return None
    return whole.timestamp() + float(found.group(7) or 0)


def _at(source: object, path: tuple[str, ...]) -> object:
    for key in path:
        source = source.get(key) if isinstance(source, dict) else None
    return source
