"""Regular expressions written by strangers, run over text written by other strangers. Performs no I/O.

Python's own engine can take years over one line, so it is never asked. RE2 does the work: linear in the length of the
text, and of that only as much is looked at as the size of the expression's program allows. What RE2 cannot say
(looking around) or has no room for is searched by sets of positions, in a bounded number of steps.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import re2  # type: ignore[import-untyped]  # ships no types

from stellarstack.core.position_sets import NotSearchable, OutOfSteps, Part, is_found, parsed

PATTERN_MOST = 2000
AROUND_TEXT_MOST = 1024  # characters of a text in which an expression that is not for RE2 is searched
LINE_WORK = 500_000  # what RE2 may have to do for one text, bytes times instructions: some milliseconds at the worst
TEXT_LEAST = 64  # bytes of a text that an expression must be able to look at, to be of use
_MEMORY = 1 << 20  # bytes; a program that fills it takes some 20 ms to be made


class BadPattern(ValueError):
    """The pattern cannot be read, or there is no engine for it that is sure to end."""


class Searcher(Protocol):
    """A compiled pattern."""

    def search(self, text: str) -> object | None:
        """Truthy where the pattern is found anywhere in that part of `text` which it looks at. OutOfSteps."""

    def fits(self, text: str) -> bool:
        """Whether it looks at all of `text`."""


class _Linear:
    """A pattern for RE2. It looks at the first `most` bytes of a text in UTF-8."""

    def __init__(self, compiled: Any, most: int) -> None:
        self._compiled = compiled
        self._most = most

    def search(self, text: str) -> object | None:
        found: object | None = self._compiled.search(text[: self._most].encode("utf-8", "replace")[: self._most])
        return found

    def fits(self, text: str) -> bool:
        return len(text.encode("utf-8", "replace")) <= self._most


class _Around:
    """A pattern searched by sets of positions.

    Where a search runs out of steps it finds nothing; after `lives` of them never. Without `lives`: OutOfSteps.
    """

    def __init__(self, part: Part, lives: int | None) -> None:
        self._part = part
        self._lives = lives

    def search(self, text: str) -> object | None:
        if self._lives == 0:
            return None
        try:
            return is_found(self._part, text[:AROUND_TEXT_MOST]) or None
        except (OutOfSteps, RecursionError):
            if self._lives is None:
                raise OutOfSteps("the search takes too many steps") from None
            self._lives -= 1
            return None

    def fits(self, text: str) -> bool:
        return len(text) <= AROUND_TEXT_MOST


def compile_pattern(
    text: str, *, ignore_case: bool = False, multiline: bool = False, lives: int | None = None, work: int = LINE_WORK
) -> Searcher:
    """A searcher for `text`, safe on any input. BadPattern says why there is none.

    `lives`: how often a search may run out of steps before the pattern is given up; None: OutOfSteps each time.
    `work`: bytes of text, times instructions of the program, that one search may take.
    """
    prefix = "".join(letter for letter, on in (("i", ignore_case), ("m", multiline)) if on)
    try:
        return _linear(f"(?{prefix}){text}" if prefix else text, work)
    except BadPattern:
        flags = (re.IGNORECASE if ignore_case else 0) | (re.MULTILINE if multiline else 0)
        return _Around(_read(text, flags), lives)


def _linear(text: str, work: int) -> _Linear:
    compiled = compile_re2(text, never_capture=True)
    most = work // compiled.programsize
    if most < TEXT_LEAST:
        raise BadPattern("is too large: of no text more than a few bytes could be searched")
    return _Linear(compiled, most)


def compile_re2(text: str | bytes, *, memory: int = _MEMORY, **options: bool) -> Any:
    """What RE2 makes of `text`: all that a compiled pattern of the standard library answers. BadPattern: nothing.

    `options` are RE2's own, by their names there.
    """
    if len(text) > PATTERN_MOST:
        raise BadPattern(f"is over {PATTERN_MOST} characters")
    wanted = re2.Options()
    wanted.max_mem = memory
    wanted.log_errors = False
    for name, on in options.items():
        setattr(wanted, name, on)
    try:
        return re2.compile(text, wanted)
    except UnicodeEncodeError:
        raise BadPattern("has half a surrogate pair") from None
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise BadPattern(f"is no regular expression of RE2: {told}") from error


def _read(text: str, flags: int) -> Part:
    if len(text) > PATTERN_MOST:
        raise BadPattern(f"is over {PATTERN_MOST} characters")
    try:
        return parsed(text, flags)
    except NotSearchable as error:
        raise BadPattern(f"could run for ever: {error}") from error
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"is no regular expression: {error}") from error
