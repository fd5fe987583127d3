"""`stellarctl logs`: a console as lines, its newest ones first fetched from the scrollback (PROTOCOL 8)."""

from __future__ import annotations

import base64
import binascii
import os
import re
import time
from collections.abc import Iterator
from typing import Any, TextIO

from stellarstack.core.ansi import plain_text
from stellarstack.ctl.screen import wait_for
from stellarstack.ctl.websocket import ConnectionLost, ConsoleSocket

PAGE = 262_144  # bytes of history at most, PROTOCOL 8
MOST = 64 * 2**20  # bytes that are held to find the beginning of the lines
LINE_LIMIT = 65536
PAGE_TIMEOUT = 10.0
_BUSY_WAIT = 0.05
_COLOUR = re.compile("(\x1b\\[[0-9;:]*m)")


def newest_lines(socket: ConsoleSocket, lines: int) -> tuple[bytes, int]:
    """The last `lines` lines of the scrollback as they came, and the offset where they end.

    Begins in the middle of a line where more than 64 MiB lie before its start. ConnectionLost, ConsoleRefused.
    """
    frames = _frames(socket)
    end = next(int(frame["from"]) for frame in frames if frame.get("type") == "ready")
    pages: list[bytes] = []
    before, breaks, held = end, 0, 0
    while breaks <= lines and held < MOST:
        start, page = _page(socket, frames, before)
        if not page or not lines:
            break
        pages.append(page)
        breaks, held = breaks + page.count(b"\n"), held + len(page)
        if start <= 0:
            break
        before = start
    whole = b"".join(reversed(pages))
    rows = whole.split(b"\n")
    wanted = lines + (rows[-1] == b"")  # what a newline ends is a line, what follows it is none yet
    return b"\n".join(rows[-wanted:]) if lines else b"", end


def _page(socket: ConsoleSocket, frames: Iterator[dict[str, Any]], before: int) -> tuple[int, bytes]:
    """One page that ends at `before`, and where it begins; nothing where nothing older is kept."""
    socket.send({"type": "history", "before": before, "limit": PAGE})
    for frame in frames:
        match frame:
            case {"type": "history", "from": int(start), "end": int(end), "data": str(text)}:
                try:
                    page = base64.b64decode(text, validate=True)
                except binascii.Error:
                    raise ConnectionLost("the daemon sent a page of history that cannot be read") from None
                return start, page if end == before else b""
            case {"type": "error", "code": "busy"}:
                time.sleep(_BUSY_WAIT)
                socket.send({"type": "history", "before": before, "limit": PAGE})
            case {"type": "error", "message": str(message)}:
                raise ConnectionLost(message)
    raise AssertionError("frames never end")


def _frames(socket: ConsoleSocket) -> Iterator[dict[str, Any]]:
    """The JSON frames as they come; output of the moment is left to the session that follows."""
    found = socket.waiting()
    deadline = time.monotonic() + PAGE_TIMEOUT
    while True:
        for frame in found:
            if isinstance(frame, dict):
                yield frame
                deadline = time.monotonic() + PAGE_TIMEOUT
        socket.raise_if_closed()
        if not wait_for([socket], deadline - time.monotonic(), -1):
            raise ConnectionLost("the daemon did not answer in time")
        found = socket.receive()


class LogLines:
    """Writes a terminal's bytes as lines: no escape code, or with `colours` those of colours and no other."""

    def __init__(self, out: TextIO, *, colours: bool) -> None:
        self._out = out
        self._colours = colours
        self._part = b""

    @property
    def number(self) -> int:
        """The file's number; -1 where it is no file of the system."""
        try:
            return self._out.fileno()
        except OSError:
            return -1

    def feed(self, piece: bytes) -> None:
        """The next bytes; an unfinished line waits, up to 64 KiB."""
        *lines, self._part = (self._part + piece).split(b"\n")
        while len(self._part) > LINE_LIMIT:
            lines.append(self._part[:LINE_LIMIT])
            self._part = self._part[LINE_LIMIT:]
        if lines:
            self._out.write("".join(f"{self._shown(line)}\n" for line in lines))
            self._out.flush()

    def end(self) -> None:
        """What is left without a newline is the last line."""
        part, self._part = self._part, b""
        if part:
            self._out.write(f"{self._shown(part)}\n")
        self._out.flush()

    def give_up(self) -> None:
        """The reader of our output has gone: what Python still holds for it goes nowhere."""
        number = self.number
        if number >= 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)

    def _shown(self, line: bytes) -> str:
        """A CR inside a line begins a new one: nothing is hidden by what overwrites it."""
        text = line.decode("utf-8", "replace").rstrip("\r")
        if not self._colours:
            return plain_text(text).replace("\r", "\n")
        pieces = _COLOUR.split(text)
        pieces[::2] = [plain_text(piece).replace("\r", "\n") for piece in pieces[::2]]
        return "".join(pieces) + ("\x1b[0m" if len(pieces) > 1 else "")


class LogScreen:
    """A Screen on which nobody types. Remarks go to standard error."""

    interactive = False
    keys_ended = False

    def __init__(self, lines: LogLines, err: TextIO) -> None:
        self._lines = lines
        self._err = err

    def size(self) -> tuple[int, int] | None:
        return None

    def wait(self, others: list[Any], seconds: float, *, keys: bool) -> tuple[list[Any], bytes, bool]:
        return wait_for(others, seconds, self._lines.number), b"", False

    def show(self, output: bytes) -> None:
        self._lines.feed(output)

    def say(self, text: str) -> None:
        self._err.write(f"[{text}]\n")
        self._err.flush()

    warn = say
