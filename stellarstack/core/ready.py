"""When a server that starts counts as running (PROTOCOL 12 `readyCheck`, EGGS.md 3). Performs no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from stellarstack.core.patterns import LINE_WORK, BadPattern, Searcher, compile_pattern

LINE_MOST = 65536
TIMEOUT_DEFAULT = 300.0
PATTERNS_MOST = 16
PATTERN_LIVES = 3  # lines that may make a pattern run out of steps before it is given up


class ReadyKind(Enum):
    """How readiness is told: by a line of the console, by an open port, by an HTTP answer, or at once."""

    LOG = "log"
    PORT = "port"
    HTTP = "http"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LinePattern:
    """What a line must hold: `text` itself, or with `regex` a match of it."""

    text: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class ReadyCheck:
    """`timeout` in seconds, 0: none. `port`: in the container, 0: the primary. `path`: of the HTTP request."""

    kind: ReadyKind = ReadyKind.NONE
    patterns: tuple[LinePattern, ...] = ()
    timeout: float = TIMEOUT_DEFAULT
    port: int = 0
    path: str = "/"


def work_of_each(several: int) -> int:
    """What each of several expressions may take of the work that one line is worth."""
    return LINE_WORK // max(1, several)


def egg_pattern(text: str, several: int = 1) -> LinePattern:
    """One of `several` entries of an egg's `done`: a substring, or after `regex:` an expression.

    A broken one is a substring.
    """
    expression = text.removeprefix("regex:")
    if expression == text or not expression:
        return LinePattern(text)
    try:
        compile_pattern(expression, work=work_of_each(several))
    except BadPattern:
        return LinePattern(text)
    return LinePattern(expression, regex=True)


class ReadyMatcher:
    """Tests console lines, escape codes removed, against all patterns of a check."""

    def __init__(self, patterns: Iterable[LinePattern]) -> None:
        several = tuple(patterns)
        work = work_of_each(sum(pattern.regex for pattern in several))
        self._tests: list[Callable[[str], bool]] = [_test(pattern, work) for pattern in several]

    def matches(self, line: str) -> bool:
        """Whether any pattern is found. Only the first 64 KiB of a line are looked at, for large expressions less."""
        line = line[:LINE_MOST]
        return any(test(line) for test in self._tests)


def _test(pattern: LinePattern, work: int) -> Callable[[str], bool]:
    if not pattern.regex:
        return lambda line: pattern.text in line
    searcher: Searcher = compile_pattern(pattern.text, lives=PATTERN_LIVES, work=work)
    return lambda line: bool(searcher.search(line))
