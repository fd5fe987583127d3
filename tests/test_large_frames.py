"""Large frames for many viewers: each gets every byte, and what is on its way is never another frame's."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.console.large_frames import FramePages, LargeFrame
from stellarstack.viewing import OutputFrame
from tests.examples import examples

KEPT = 4 << 20


def frame_files() -> list[str]:
    """What this process has open of such pages."""
    paths = [entry.path for entry in os.scandir("/proc/self/fd")]
    return [path for path in paths if "memfd:frames" in _target(path)]


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # the scan's own
        return ""


class LargeFrameTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pages = FramePages()
        self.addCleanup(self.pages.close)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        near, far = socket.socketpair()
        for one in (near, far):
            one.setblocking(False)
            self.addCleanup(one.close)
        return near, far

    def drain(self, far: socket.socket) -> bytes:
        taken = b""
        try:
            while piece := far.recv(1 << 20):
                taken += piece
        except BlockingIOError:
            pass
        return taken

    def send_all(self, frame: OutputFrame, near: socket.socket, far: socket.socket) -> bytes:
        """Its beginning by `send`, the rest as an outlet does; what the other end got of it."""
        left = frame.send(near)
        taken = self.drain(far)
        rest = memoryview(bytes(frame))[len(frame) - left :]
        while rest:
            rest = rest[near.send(rest[:65536]) :]
            taken += self.drain(far)
        return taken

    @examples(30)
    @given(st.lists(st.tuples(st.integers(0, 12), st.integers(16384, 400_000), st.booleans()), min_size=1, max_size=6))
    def test_each_gets_all(self, frames: list[tuple[int, int, bool]]) -> None:
        """Frames of any size, in pages or not, to two viewers: the bytes that they are made of."""
        pairs = [self.pair(), self.pair()]
        for number, (head, size, shared) in enumerate(frames):
            body = bytes([number]) * size
            frame = LargeFrame(b"H" * head, body, self.pages if shared else None)
            self.assertEqual(len(frame), head + size)
            for near, far in pairs:
                self.assertEqual(self.send_all(frame, near, far), b"H" * head + body)
        for near, far in pairs:
            near.close()
            far.close()

    def test_on_its_way(self) -> None:
        """What a viewer has not read yet stays what it was, however many frames come after it."""
        near, far = self.pair()
        first = LargeFrame(b"", b"1" * 100_000, self.pages)
        sent = len(first) - first.send(near)
        self.assertGreater(sent, 0)
        for _ in range(4 * KEPT // 100_000):
            LargeFrame(b"", b"2" * 100_000, self.pages)
        self.assertEqual(self.drain(far), b"1" * sent)

    def test_pages_that_are_gone(self) -> None:
        """A viewer that was behind is shown an old frame, whose pages were given back: from its own memory."""
        near, far = self.pair()
        others = set(frame_files())
        first = LargeFrame(b"h", b"1" * 50_000, self.pages)
        (mine,) = set(frame_files()) - others
        memory = os.stat(mine).st_ino
        while memory in [os.stat(one).st_ino for one in frame_files()]:
            LargeFrame(b"", b"2" * 500_000, self.pages)
        self.assertEqual(self.send_all(first, near, far), b"h" + b"1" * 50_000)

    def test_bounded(self) -> None:
        """However many frames come, the pages are few."""
        others = set(frame_files())
        for _ in range(100):
            LargeFrame(b"", b"x" * 200_000, self.pages)
        (mine,) = set(frame_files()) - others
        self.assertLessEqual(os.stat(mine).st_size, KEPT + 200_000 + 4096)

    def test_full(self) -> None:
        """A connection that takes nothing is told apart from one that took some, as a socket's own `send` tells it."""
        near, _ = self.pair()
        frame = LargeFrame(b"", b"x" * 500_000, self.pages)
        while True:
            try:
                self.assertLess(frame.send(near), len(frame))
            except BlockingIOError:
                break

    def test_broken(self) -> None:
        """One whose other end is gone is an OSError, as elsewhere."""
        near, far = self.pair()
        far.close()
        self.assertRaises(OSError, LargeFrame(b"", b"x" * 20_000, self.pages).send, near)

    def test_no_memory(self) -> None:
        """K14: where the system has no pages to give, a frame is sent as ever."""

        def none(*_: object) -> int:
            raise OSError(errno.ENOMEM, "no memory")

        others = frame_files()
        for name, instead in (("pwritev", none), ("pwritev", lambda *_: 5), ("memfd_create", none)):
            self.patch(os, name, instead)
            near, far = self.pair()
            frame = LargeFrame(b"h", b"x" * 20_000, self.pages)
            self.assertEqual(frame_files(), others)
            self.assertEqual(self.send_all(frame, near, far), b"h" + b"x" * 20_000)

    def test_one_copy(self) -> None:
        """Those who need a frame's bytes, under TLS, get one object."""
        frame: Any = LargeFrame(b"h", b"x" * 20_000, None)
        self.assertIs(bytes(frame), bytes(frame))
