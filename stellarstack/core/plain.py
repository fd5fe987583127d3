"""Frozen dataclasses to plain JSON and back, for what the store keeps. Performs no I/O.

A key that a document lacks takes the dataclass's default and a key that it does not know is left out, so that
an older document can be read by a newer daemon.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from stellarstack.core.messages import Json

T = TypeVar("T")


def dump(value: object) -> Json:
    """`value` (a dataclass, enum, tuple, mapping or plain value) as JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: dump(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return cast(Json, value.value)
    if isinstance(value, Mapping):
        return {str(key): dump(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [dump(item) for item in value]
    return cast(Json, value)


def load(cls: type[T], document: Mapping[str, Json]) -> T:
    """The `cls` that `dump` wrote. ValueError: it is no such document."""
    values: dict[str, Any] = {}
    for name, (hint, needed) in _shape(cast(Any, cls)).items():
        if name in document:
            values[name] = _read(hint, document[name], f"{cls.__name__}.{name}")
        elif needed:
            raise ValueError(f"{cls.__name__}.{name} is missing")
    return cls(**values)


@cache
def _shape(cls: Any) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(cls)
    return {
        field.name: (hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(cls)
    }


def _read(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _read_union(hint, value, where)
    if origin is tuple:
        return _read_tuple(get_args(hint), value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is no object")
        return load(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if hint in (str, int, bool, float, type(None)) and not _fits(hint, value):
        raise ValueError(f"{where} is no {hint.__name__}")
    return value


def _read_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} is no list")
    return tuple(_read(items[0], item, where) for item in value)


def _read_union(hint: Any, value: Any, where: str) -> Any:
    for option in get_args(hint):
        try:
            return _read(option, value, where)
        except ValueError:
            continue
    raise ValueError(f"{where} has a value that does not fit")


def _fits(hint: type[Any], value: object) -> bool:
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
