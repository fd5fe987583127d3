"""The newest bytes of a console, in memory. Large pieces are kept as they came, small ones put together. No I/O."""

from __future__ import annotations

from collections import deque

_SMALL = 4096  # bytes up to which a piece is put to others
_TOGETHER = 16384  # and how large these become


class Recent:
    """Bytes [start, end)."""

    __slots__ = ("_open", "_pieces", "end", "start")

    def __init__(self, start: int, data: bytes = b"") -> None:
        self.start = start
        self.end = start + len(data)
        self._pieces: deque[bytes] = deque([data] if data else [])
        self._open = bytearray()  # small pieces behind the others

    def append(self, data: bytes) -> None:
        self.end += len(data)
        if len(data) <= _SMALL:
            self._open += data
            if len(self._open) >= _TOGETHER:
                self._seal()
        else:
            self._seal()
            self._pieces.append(data)

    def _seal(self) -> None:
        if not self._open:
            return
        sealed = bytes(self._open)
        self._open.clear()
        if self._pieces and len(self._pieces[-1]) + len(sealed) <= _TOGETHER:
            self._pieces[-1] += sealed
        else:
            self._pieces.append(sealed)

    def pieces(self, start: int, end: int) -> list[bytes]:
        """The bytes [start, end) of those that are here, in pieces."""
        self._seal()
        found: list[bytes] = []
        at = self.start
        for piece in self._pieces:
            if at >= end or start >= end:
                break
            after = at + len(piece)
            if after > start:
                whole = at >= start and after <= end
                found.append(piece if whole else piece[max(0, start - at) : end - at])
            at = after
        return found

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end) of those that are here."""
        return b"".join(self.pieces(start, end))

    def trim(self, before: int) -> None:
        """Forgets pieces that lie before this offset as a whole."""
        while self._pieces and self.start + len(self._pieces[0]) <= before:
            self.start += len(self._pieces.popleft())

    def cut(self, before: int) -> None:
        """Forgets every byte before this offset."""
        self._seal()
        self.trim(before)
        if self._pieces and self.start < before:
            self._pieces[0] = self._pieces[0][before - self.start :]
            self.start = before
