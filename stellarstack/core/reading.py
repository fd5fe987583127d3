"""Reads values out of a parsed document strictly, so that each refusal names the key. Performs no I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from stellarstack.core.messages import Json
from stellarstack.errors import StellarError

T = TypeVar("T")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MISSING = object()


class Fields:
    """One object of a document. `where` is its place in it (`docker`, `ports[0]`), `error` what a refusal raises.

    A key that is absent or null gives the default; without a default it is refused. Unknown keys are nobody's business.
    """

    def __init__(self, document: object, error: type[StellarError], where: str = "") -> None:
        self._error = error
        self._where = where
        if not isinstance(document, Mapping):
            raise self.refuse("", f"must be an object, not {kind_of(document)}")
        self._document = document

    def refuse(self, key: str, why: str) -> StellarError:
        """The error for `key` of this object, to be raised."""
        return self._error(f"{self.path(key) or 'it'}: {why}")

    def path(self, key: str) -> str:
        return ".".join(part for part in (self._where, key) if part)

    def has(self, *keys: str) -> bool:
        return any(self._document.get(key) is not None for key in keys)

    def raw(self, key: str) -> Json:
        found: Json = self._document.get(key)
        return found

    def text(self, key: str, default: str | None = None, *, most: int = 4096, lines: bool = False) -> str:
        """A string of at most `most` characters without NUL and control characters; numbers are read as written."""
        found = self._document.get(key)
        if found is None:
            if default is None:
                raise self.refuse(key, "is missing")
            return default
        if isinstance(found, int | float) and not isinstance(found, bool):
            found = str(found)
        if not isinstance(found, str):
            raise self.refuse(key, f"must be a string, not {kind_of(found)}")
        if len(found) > most:
            raise self.refuse(key, f"is over {most} characters")
        if _CONTROL.search(found) or (not lines and ("\n" in found or "\r" in found)):
            raise self.refuse(key, "has a control character in it")
        return found

    def number(self, key: str, default: float | None, low: float, high: float) -> float:
        """A finite number within the bounds."""
        found = self._document.get(key, default)
        if found is None:
            if default is None:
                raise self.refuse(key, "is missing")
            return default
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self.refuse(key, f"must be a number, not {kind_of(found)}")
        if not math.isfinite(found) or not low <= found <= high:
            raise self.refuse(key, f"must be from {low:g} to {high:g}, not {found!r:.40}")
        return found

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """A whole number within the bounds (`512.0` is one)."""
        found = self.number(key, default, low, high)
        if found != int(found):
            raise self.refuse(key, f"must be a whole number, not {found!r:.40}")
        return int(found)

    def boolean(self, key: str, default: bool) -> bool:
        found = self._document.get(key)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise self.refuse(key, f"must be true or false, not {kind_of(found)}")
        return found

    def choice(self, key: str, default: str, allowed: Sequence[str]) -> str:
        found = self.text(key, default)
        if found not in allowed:
            raise self.refuse(key, f"must be one of {', '.join(allowed)}, not {found!r:.60}")
        return found

    def items(self, key: str, *, most: int = 1000) -> list[Json]:
        """A list of at most `most` items; absent is empty."""
        found = self._document.get(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise self.refuse(key, f"must be a list, not {kind_of(found)}")
        if len(found) > most:
            raise self.refuse(key, f"has over {most} items")
        return found

    def objects(self, key: str, *, most: int = 1000) -> list[Fields]:
        """A list of objects, each ready to be read."""
        found = self.items(key, most=most)
        return [Fields(item, self._error, f"{self.path(key)}[{index}]") for index, item in enumerate(found)]

    def object(self, key: str) -> Fields:
        """The object under `key`; an absent one is empty."""
        found = self._document.get(key)
        return Fields({} if found is None else found, self._error, self.path(key))

    def mapping(self, key: str, *, most: int = 1000) -> Mapping[str, Json]:
        """The object under `key` as it is; an absent one is empty."""
        found = self._document.get(key)
        if found is None:
            return {}
        if not isinstance(found, Mapping):
            raise self.refuse(key, f"must be an object, not {kind_of(found)}")
        if len(found) > most or not all(isinstance(name, str) for name in found):
            raise self.refuse(key, f"must have at most {most} keys, all of them strings")
        return found


def kind_of(value: object) -> str:
    """What a person calls the type of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list"
