"""Which lines somebody entered at a console, and what `console.audit` tells of them (PROTOCOL 5). Performs no I/O."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LINE_BYTES = 1024
LINES_A_SECOND = 5

_ERASE = "\b\x7f"


@dataclass(frozen=True, slots=True)
class Typed:
    """One line entered (`command`; None where lines are not told), or `count` lines that were too many to tell."""

    command: str | None
    count: int = 1


class EnteredLines:
    """Puts keystrokes together to lines: CR or LF ends one, backspace erases, control characters are left out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line: list[str] = []
        self._bytes = 0
        self._after_cr = False
        self._unfinished = False  # a character is

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` ends, each of 1 KiB at most."""
        if len(data) == 1 and b" " <= data < b"\x7f" and not self._unfinished:
            self._after_cr = False
            self._put(data.decode("ascii"), 1)
            return []
        text = self._decoder.decode(data)
        self._unfinished = bool(self._decoder.getstate()[0])
        return list(self._lines(text))

    def _lines(self, text: str) -> Iterator[str]:
        for char in text:
            if char in "\r\n":
                if not (char == "\n" and self._after_cr):
                    yield "".join(self._line)
                    self._line.clear()
                    self._bytes = 0
            elif char in _ERASE:
                if self._line:
                    self._bytes -= len(self._line.pop().encode())
            elif char >= " " and not "\x7f" <= char <= "\x9f":
                self._put(char, len(char.encode()))
            self._after_cr = char == "\r"

    def _put(self, char: str, size: int) -> None:
        if self._bytes + size <= LINE_BYTES:
            self._line.append(char)
            self._bytes += size


class AuditLines:
    """Which of the lines entered are told one by one.

    `mode` is `full`, `redacted` (that lines were entered, not which) or `off`.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._window = 0.0  # when the second began in which lines are counted
        self._told = 0
        self._untold = 0

    def feed(self, lines: Sequence[str], now: float) -> list[Typed]:
        """What is told of these lines; `now` in seconds that only go forward."""
        if self._mode == "off":
            return []
        told = self.woken(now)
        for line in lines:
            told += self._tell(line, now)
        return told

    def _tell(self, line: str, now: float) -> list[Typed]:
        if now >= self._window + 1:
            self._window, self._told = now, 0
        if self._told >= LINES_A_SECOND:
            self._untold += 1
            return []
        self._told += 1
        return [Typed(line if self._mode == "full" else None)]

    @property
    def due(self) -> float | None:
        """When the lines that were too many are to be told as a number; None: there are none."""
        return self._window + 1 if self._untold else None

    def woken(self, now: float) -> list[Typed]:
        """The number of lines that were too many, once their second is over."""
        return self.rest() if self.due is not None and now >= self.due else []

    def rest(self) -> list[Typed]:
        """The same at once: the session is over."""
        untold, self._untold = self._untold, 0
        return [Typed(None, untold)] if untold else []
