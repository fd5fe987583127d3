"""Large frames on their way to many viewers: built once, copied once, sent to each out of the same memory.

`send` copies a frame into the kernel for each viewer, which for a hundred of them is most of a flood's work. So a frame
that many get is written once into pages of memory that have a descriptor (memfd), and `sendfile` gives each connection
those same pages. What may still be on its way is never overwritten: the pages are cut off whole and others taken, and
the kernel frees them when the last connection is done with them.
"""

from __future__ import annotations

import os
import socket

LARGE = 16384  # bytes from which a frame is worth it
AMONG = 4  # viewers from which pages are
_KEPT = 4 << 20  # bytes of frames after which other pages are taken
_PAGE = 4096


class FramePages:
    """The newest frames' memory, 4 MiB and a frame at most. Where the system has none to give, nothing is placed."""

    def __init__(self) -> None:
        self._file = -1
        self._end = 0
        self._generation = 0

    def place(self, head: bytes, body: bytes) -> tuple[int, int] | None:
        """Where the frame was put: a place for `send`. None: nowhere."""
        if self._end > _KEPT:
            self.close()
        start = self._end
        try:
            if self._file < 0:
                self._file = os.memfd_create("frames", os.MFD_CLOEXEC)
            whole = os.pwritev(self._file, (head, body), start) == len(head) + len(body)
        except OSError:
            whole = False
        if not whole:
            self.close()
            return None
        self._end = -(-(start + len(head) + len(body)) // _PAGE) * _PAGE
        return self._generation, start

    def close(self) -> None:
        """Gives the memory back, and with it every place in it; what is on its way still arrives."""
        self._generation += 1
        self._end = 0
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def send(self, to: socket.socket, place: tuple[int, int], size: int) -> int:
        """As much of the frame at `place` as the kernel takes now. 0: nothing, or its pages are gone."""
        generation, start = place
        if generation != self._generation:
            return 0
        try:
            return os.sendfile(to.fileno(), self._file, start, size)
        except OSError:  # full, or broken; whoever sends it another way finds that out
            return 0


class LargeFrame:
    """See OutputFrame in viewing.py. With `pages` it is one that many viewers get."""

    __slots__ = ("_body", "_head", "_pages", "_place", "_size", "_whole")

    def __init__(self, head: bytes, body: bytes, pages: FramePages | None) -> None:
        self._head = head
        self._body = body
        self._size = len(head) + len(body)
        self._whole: bytes | None = None
        self._pages = pages
        self._place = None if pages is None else pages.place(head, body)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        if self._whole is None:
            self._whole = self._head + self._body
        return self._whole

    def send(self, to: socket.socket) -> int:
        """See OutputFrame.send."""
        if self._pages is not None and self._place is not None:
            sent = self._pages.send(to, self._place, self._size)
            if sent:
                return sent
        return to.sendmsg((self._head, self._body))
