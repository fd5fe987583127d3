"""Regular expressions written by strangers, run over text written by other strangers. Performs no I/O.

Python's own engine can take years over one line, so RE2 does the work: linear in the length of the text. What RE2
cannot say (looking around, back references) is left to Python's engine where its shape is harmless, else refused.
"""

from __future__ import annotations

import re
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for the parts of a parsed pattern
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any, Protocol

import re2  # type: ignore[import-untyped]  # ships no types

PATTERN_MOST = 2000
_PYTHON_TEXT_MOST = 1024
_RE2_MEMORY = 8 << 20


class BadPattern(ValueError):
    """The pattern cannot be read, or could run for ever."""


class Searcher(Protocol):
    """A compiled pattern."""

    def search(self, text: str) -> object | None:
        """Truthy where the pattern is found anywhere in `text`."""


class _Careful:
    """Python's engine on patterns that RE2 does not know, on short texts only."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def search(self, text: str) -> object | None:
        return self._pattern.search(text[:_PYTHON_TEXT_MOST])


def compile_pattern(text: str, *, ignore_case: bool = False, multiline: bool = False) -> Searcher:
    """A searcher for `text`, safe on any input. BadPattern says why there is none."""
    if len(text) > PATTERN_MOST:
        raise BadPattern(f"is over {PATTERN_MOST} characters")
    flags = (re.IGNORECASE if ignore_case else 0) | (re.MULTILINE if multiline else 0)
    prefix = "".join(letter for letter, on in (("i", ignore_case), ("m", multiline)) if on)
    options = re2.Options()
    options.max_mem = _RE2_MEMORY
    options.log_errors = False
    try:
        searcher: Searcher = re2.compile(f"(?{prefix}){text}" if prefix else text, options)
        return searcher
    except re2.error:
        return _Careful(_harmless(text, flags))


def _harmless(text: str, flags: int) -> re.Pattern[str]:
    try:
        if _repeats_repeat(sre_parser.parse(text, flags), depth=0):
            raise BadPattern("could run for ever: it repeats what repeats already")
        return re.compile(text, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"is no regular expression: {error}") from error


def _repeats_repeat(parsed: Any, depth: int) -> bool:
    """Whether an unbounded repeat stands inside another, or more than four of them side by side."""
    side_by_side = 0
    for operation, argument in parsed:
        inner = depth
        if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT) and argument[1] > 64:
            inner, side_by_side = depth + 1, side_by_side + 1
            if inner > 1 or side_by_side > 4:
                return True
        if any(_repeats_repeat(part, inner) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> list[Any]:
    """The patterns nested in one operation's argument."""
    if isinstance(argument, sre_parser.SubPattern):
        return [argument]
    if isinstance(argument, tuple | list):
        return [found for item in argument for found in _parts(item)]
    return []
