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


class _Memory:
    """A memfd; `number` is -1 once it is closed."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = os.memfd_create("frames", os.MFD_CLOEXEC)

    def close(self) -> None:
        number, self.number = self.number, -1
        os.close(number)


class FramePages:
    """The newest frames' memory, 4 MiB and a frame at most. Where the system has none to give, nothing is placed."""

    def __init__(self) -> None:
        self._memory: _Memory | None = None
        self._end = 0

    def place(self, head: bytes, body: bytes) -> tuple[_Memory, int] | None:
        """Where the frame was put. None: nowhere."""
        if self._end > _KEPT:
            self.close()
        start, size = self._end, len(head) + len(body)
        try:
            memory = self._memory = self._memory or _Memory()
            whole = os.pwritev(memory.number, (head, body), start) == size
        except OSError:
            whole = False
        if not whole:
            self.close()
            return None
        self._end = -(-(start + size) // _PAGE) * _PAGE
        return memory, start

    def close(self) -> None:
        """Gives the memory back, and with it every place in it; what is on its way still arrives."""
        memory, self._memory, self._end = self._memory, None, 0
        if memory is not None:
            memory.close()


class LargeFrame:
    """See OutputFrame in viewing.py. With `pages` it is one that many viewers get."""

    __slots__ = ("_body", "_head", "_place", "_size", "_whole")

    def __init__(self, head: bytes, body: bytes, pages: FramePages | None) -> None:
        self._head = head
        self._body = body
        self._size = len(head) + len(body)
        self._whole: bytes | None = None
        self._place = None if pages is None else pages.place(head, body)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        if self._whole is None:
            self._whole = self._head + self._body
        return self._whole

    def send(self, to: socket.socket) -> int:
        """See OutputFrame.send."""
        memory, start = self._place or (None, 0)
        if memory is not None and memory.number >= 0:
            try:
                sent = os.sendfile(to.fileno(), memory.number, start, self._size)
            except OSError:  # full, or broken; the other way finds that out
                sent = 0
            if sent:
                return self._size - sent
        return self._size - to.sendmsg((self._head, self._body))
