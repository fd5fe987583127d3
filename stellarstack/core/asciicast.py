"""A recording of a terminal in the format asciicast v2, which `asciinema play` shows. Performs no I/O.

One JSON document a line: a header, then `[seconds, code, text]`; code `o` is output, `r` a resize, `m` a mark.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence

from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize

CONTENT_TYPE = "application/x-asciicast"
_EVENT_MOST = 65536  # bytes of output in one event


class CastWriter:
    """Writes one recording, whose time 0 is `began` (Unix seconds). Its times never go back, whatever a clock does."""

    def __init__(self, began: float) -> None:
        self._began = self._at = began
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def header(self, size: PtySize, title: str) -> bytes:
        """The first line."""
        return _line(
            {"version": 2, "width": size.cols, "height": size.rows, "timestamp": int(self._began), "title": title}
        )

    def output(self, start: int, data: bytes, times: Sequence[tuple[int, float]]) -> bytes:
        """The bytes from offset `start` on. `times` tell when the bytes at some offsets came, in order."""
        lines: list[bytes] = []
        at = 0
        for offset, moment in times:
            if offset > start + at:
                until = min(len(data), offset - start)
                lines += self._pieces(data, at, until)
                at = until
            if at < len(data):
                self._at = max(self._at, moment)
        lines += self._pieces(data, at, len(data))
        return b"".join(lines)

    def _pieces(self, data: bytes, start: int, end: int) -> list[bytes]:
        lines = []
        for at in range(start, end, _EVENT_MOST):
            text = self._decoder.decode(data[at : min(end, at + _EVENT_MOST)])
            if text:
                lines.append(self._event("o", text))
        return lines

    def resize(self, size: PtySize) -> bytes:
        """The terminal has another size from here on."""
        return self._event("r", f"{size.cols}x{size.rows}")

    def mark(self, label: str, at: float | None = None) -> bytes:
        """Something a person may want to jump to; `at` Unix seconds, None: with the output before it."""
        if at is not None:
            self._at = max(self._at, at)
        return self._event("m", label)

    def finish(self) -> bytes:
        """An unfinished character at the end."""
        text = self._decoder.decode(b"", True)
        return self._event("o", text) if text else b""

    def _event(self, code: str, text: str) -> bytes:
        return _line([round(self._at - self._began, 6), code, text])


def _line(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
