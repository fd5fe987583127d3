"""Cuts a terminal's bytes where viewers and readers need them cut: at characters and at lines. Performs no I/O.

PROTOCOL 8 asks that JSON frames end on a UTF-8 border and that scrollback starts after a newline; EGGS.md section 3
tells what a line is.
"""

from __future__ import annotations

from collections.abc import Iterator

from stellarstack.core.ansi import strip_ansi

LINE_MAX = 65536


def unfinished(piece: bytes) -> int:
    """How many bytes at the end of `piece` (0 to 3) begin a UTF-8 character that is not complete yet."""
    for back in range(1, min(3, len(piece)) + 1):
        byte = piece[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            return back if back < _length(byte) and _may_go_on(piece[-back:]) else 0
    return 0


def _length(lead: int) -> int:
    if lead < 0xC2 or lead > 0xF4:
        return 1
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _may_go_on(start: bytes) -> bool:
    """Whether a second byte, where there is one, can follow its lead (no overlong forms, no surrogates)."""
    if len(start) < 2:
        return True
    low, high = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}.get(
        start[0], (0x80, 0xBF)
    )
    return low <= start[1] <= high


def orphans(piece: bytes) -> int:
    """How many bytes at the start of `piece` (0 to 3) end a character that began before it."""
    count = 0
    while count < min(3, len(piece)) and 0x80 <= piece[count] < 0xC0:
        count += 1
    return count


class LineCutter:
    """Cuts a stream into lines of at most 64 KiB; what a longer one has more is the next line."""

    __slots__ = ("_part",)

    def __init__(self) -> None:
        self._part = b""

    @property
    def part(self) -> str:
        """The unfinished last line as a reader sees it."""
        return readable(self._part)

    def feed(self, piece: bytes) -> Iterator[str]:
        """The lines that end in `piece`, readable. The iterator must be used up before the next piece."""
        whole, newline, rest = piece.rpartition(b"\n")
        if newline:
            whole, self._part = self._part + whole, rest
            for line in whole.split(b"\n"):
                for start in range(0, len(line) or 1, LINE_MAX):
                    yield readable(line[start : start + LINE_MAX])
        else:
            self._part += rest
        while len(self._part) > LINE_MAX:
            line, self._part = self._part[:LINE_MAX], self._part[LINE_MAX:]
            yield readable(line)

    def skip(self, piece: bytes) -> None:
        """As `feed`, for when nobody reads: only the unfinished last line is kept."""
        part = piece[piece.rfind(b"\n") + 1 :] if b"\n" in piece else self._part + piece
        self._part = part[len(part) - 1 - (len(part) - 1) % LINE_MAX :] if len(part) > LINE_MAX else part

    def flush(self) -> str | None:
        """The run is over: its unfinished last line, None where there is none."""
        part, self._part = self._part, b""
        return readable(part) if part else None


def readable(line: bytes) -> str:
    """One line as a reader sees it: a CR at its end dropped, space + CR a line break inside it, no escape codes."""
    line = line[:-1] if line.endswith(b"\r") else line
    return strip_ansi(line.decode("utf-8", "replace")).replace(" \r", "\r\n")
