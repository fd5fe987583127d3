"""Regular expressions written by strangers, run over text written by other strangers. Performs no I/O.

Python's own engine can take years over one line, so it is never asked. RE2 does the work: linear in the length of the
text. What RE2 cannot say (looking around) is searched by sets of positions, in a bounded number of steps.
"""

from __future__ import annotations

import re
from typing import Protocol

import re2  # type: ignore[import-untyped]  # ships no types

from stellarstack.core.position_sets import NotSearchable, OutOfSteps, Part, is_found, parsed

PATTERN_MOST = 2000
AROUND_TEXT_MOST = 1024  # characters of a text in which an expression that looks around is searched
_RE2_MEMORY = 8 << 20


class BadPattern(ValueError):
    """The pattern cannot be read, or there is no engine for it that is sure to end."""


class Searcher(Protocol):
    """A compiled pattern."""

    def search(self, text: str) -> object | None:
        """Truthy where the pattern is found anywhere in `text`."""


class _Around:
    """A pattern that looks around. Where a search runs out of steps it finds nothing; after `lives` of them never."""

    def __init__(self, part: Part, lives: int | None) -> None:
        self._part = part
        self._lives = lives

    def search(self, text: str) -> object | None:
        if self._lives == 0:
            return None
        try:
            return is_found(self._part, text[:AROUND_TEXT_MOST]) or None
        except (OutOfSteps, RecursionError):
            if self._lives is not None:
                self._lives -= 1
            return None


def compile_pattern(
    text: str, *, ignore_case: bool = False, multiline: bool = False, lives: int | None = None
) -> Searcher:
    """A searcher for `text`, safe on any input. BadPattern says why there is none.

    `lives`: how often a search may run out of steps before the pattern is given up; None: always tried anew.
    """
    prefix = "".join(letter for letter, on in (("i", ignore_case), ("m", multiline)) if on)
    try:
        return compile_re2(f"(?{prefix}){text}" if prefix else text)
    except BadPattern:
        flags = (re.IGNORECASE if ignore_case else 0) | (re.MULTILINE if multiline else 0)
        return _Around(_read(text, flags), lives)


def compile_re2(text: str) -> re.Pattern[str]:
    """The same with all that a compiled pattern of the standard library answers, and without looking around."""
    if len(text) > PATTERN_MOST:
        raise BadPattern(f"is over {PATTERN_MOST} characters")
    options = re2.Options()
    options.max_mem = _RE2_MEMORY
    options.log_errors = False
    try:
        compiled: re.Pattern[str] = re2.compile(text, options)
        return compiled
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise BadPattern(f"is no regular expression: {told}") from error


def _read(text: str, flags: int) -> Part:
    if len(text) > PATTERN_MOST:
        raise BadPattern(f"is over {PATTERN_MOST} characters")
    try:
        return parsed(text, flags)
    except NotSearchable as error:
        raise BadPattern(f"could run for ever: {error}") from error
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"is no regular expression: {error}") from error
