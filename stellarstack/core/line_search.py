"""Looks for lines in a terminal's bytes, escape codes aside, in time linear in their length. Performs no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from stellarstack.core.patterns import BadPattern, compile_re2

QUERY_MOST = 256  # characters
LINE_MOST = 4096  # bytes of a line that are shown
_MEMORY = 8 << 20  # bytes: in a thread, over much text, a larger one is worth it
_BEFORE_MATCH = 1024  # bytes of a long line that are shown before what was found in it

# As in core/ansi.py, on bytes, and never over the end of a line.
_ESCAPES = re.compile(
    rb"\x1b[\]PX^_](?:[^\x07\x1b\n\xc2]|\xc2(?!\x9c))*(?:\x07|\x1b\\|\xc2\x9c)?"
    rb"|(?:\x1b\[|\xc2\x9b)[0-?]*[ -/]*[@-~]?"
    rb"|\x1b[ -/]+[0-~]?"
    rb"|\x1b[0-~]?"
)
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_RETURNS = re.compile(rb"\r+(?=\n|\Z)")
_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code not in b"\t\r\n")
_INNER_RETURN = bytes.maketrans(b"\r", b" ")


@dataclass(frozen=True, slots=True)
class FoundLine:
    """`at`: where the line begins in the bytes that were searched; `text`: at most 4 KiB of it."""

    at: int
    text: str


class LineMatcher:
    """`query` as it stands, or as an RE2 expression. BadPattern: it cannot be one."""

    def __init__(self, query: str, *, regex: bool = False, case: bool = False) -> None:
        if not 0 < len(query) <= QUERY_MOST:
            raise BadPattern(f"must be 1 to {QUERY_MOST} characters")
        self._by_line = regex and ("\\A" in query or "\\z" in query)  # which mean a text's ends, not a line's
        self._pattern: Any = compile_re2(
            _bytes_of(f"(?m){query}" if regex else query), memory=_MEMORY, literal=not regex, case_sensitive=case,
            never_nl=True, never_capture=True,
        )  # fmt: skip

    def search(self, piece: bytes, most: int) -> list[FoundLine]:
        """The last `most` of the lines in `piece` that match, newest first."""
        plain = _plain(piece)
        found = self._each_line(plain) if self._by_line else self._at_once(plain)
        if not found:
            return []
        starts = [0, *accumulate(len(line) + 1 for line in piece.split(b"\n"))]
        return [FoundLine(starts[number], _shown(plain, at)) for number, at in reversed(found[-most:])]

    def _at_once(self, plain: bytes) -> list[tuple[int, int]]:
        """(line's number, place of the match) of each line that matches."""
        found: list[tuple[int, int]] = []
        number = counted = at = 0
        while at < len(plain) and (match := self._pattern.search(plain, at)) is not None:
            place = match.start()
            if place == len(plain) and plain.endswith(b"\n"):
                break
            number += plain.count(b"\n", counted, place)
            counted = place
            found.append((number, place))
            newline = plain.find(b"\n", match.start())
            if newline < 0:
                break
            at = newline + 1
        return found

    def _each_line(self, plain: bytes) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        at = 0
        for number, line in enumerate(plain.split(b"\n")):
            if at < len(plain) and (match := self._pattern.search(line)) is not None:
                found.append((number, at + match.start()))
            at += len(line) + 1
        return found


def _plain(piece: bytes) -> bytes:
    """Without escape codes and control characters; as many lines as before."""
    if b"\x1b" in piece or b"\xc2\x9b" in piece:
        piece = _ESCAPES.sub(b"", piece)
    if b"\xc2" in piece:
        piece = _C1.sub(b"", piece)
    piece = piece.translate(None, _CONTROLS)
    return _RETURNS.sub(b"", piece).translate(_INNER_RETURN) if b"\r" in piece else piece


def _shown(plain: bytes, at: int) -> str:
    """The line around `at`, at most LINE_MOST bytes of it."""
    start = plain.rfind(b"\n", 0, at) + 1
    end = plain.find(b"\n", at)
    end = len(plain) if end < 0 else end
    if end - start > LINE_MOST:
        start = min(max(start, at - _BEFORE_MATCH), end - LINE_MOST)
        while plain[start] & 0xC0 == 0x80:  # not within a character
            start += 1
        end = min(end, start + LINE_MOST)
        return plain[start:end].decode("utf-8", "ignore")
    return plain[start:end].decode("utf-8", "replace")


def _bytes_of(query: str) -> bytes:
    try:
        return query.encode()
    except UnicodeEncodeError:
        raise BadPattern("has half a surrogate pair") from None
