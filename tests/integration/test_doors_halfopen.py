"""Connections that come and then say nothing more, or hardly anything: each has its deadline, and all are cheap."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import Counter

from tests.integration.door_case import MB, DoorCase
from tests.integration.hand_socket import BINARY, TEXT, HandSocket, frame

LATEST = 40.0  # seconds; the longest deadline is the 15 s of a silent connection
BEGUN = frame(BINARY, b"x" * 60_000)[:-1]  # all but the last byte of a frame


class HalfOpenTests(DoorCase):
    config = "[console]\nauth_deadline = 2\nviewers_per_server = 300\nviewers_per_user = 300\n"

    def come(self) -> dict[HandSocket, str]:
        """Three hundred of six kinds."""
        found = {}
        for _ in range(50):
            found[self.dial()] = "silent"
            session = self.dial()
            session.send(session.request(self.node.token("srv_1"))[0][:-3])
            found[session] = "half a handshake"
            found[self.dial()] = "slow handshake"
            session = self.dial().hello()
            session.send(frame(TEXT, b" " * 60_000)[:-1])
            found[session] = "half a frame of a stranger"
            session = self.enter(token=self.node.token("srv_1", lifetime=5), path="/console?scrollback=0")
            session.send(BEGUN)
            found[session] = "half a frame of a viewer"
            session = self.enter(token=self.node.token("srv_1", lifetime=5), path="/console?scrollback=0")
            session.send(frame(TEXT, b'{"type":"input","data":"', fin=False))
            found[session] = "half a message of a viewer"
        return found

    def test_half_open(self) -> None:
        """W13, A03, H04: whatever is left half done is closed in time, costs under 64 MB and leaves nothing behind."""
        other = self.enter()
        self.answers(other)
        descriptors = self.node.holds()[0]
        self.node.forget_peak()
        before, heard = self.node.rss(), Counter[str]()
        open_ones = self.come()
        slow = {
            one: one.request(self.node.token("srv_1"))[0] for one, kind in open_ones.items() if kind.startswith("slow")
        }
        end, at = time.monotonic() + LATEST, 0
        while open_ones and time.monotonic() < end:
            for one, head in slow.items():
                with contextlib.suppress(OSError):
                    one.socket.send(head[at : at + 1])
            at += 1
            self.answers(other)
            turn = time.monotonic() + 1
            while open_ones and (left := turn - time.monotonic()) > 0:
                self.look(open_ones, heard, left)
        self.assertEqual(Counter(open_ones.values()), {})
        self.assert_grew_less(64 * MB, before)
        self.assertEqual(heard, {"408": 100, "4401": 50, "4410": 100})  # the silent ones are told nothing
        self.node.until(lambda: self.node.holds()[0] <= descriptors, 15, "their descriptors to be closed")
        self.answers(other, self.enter())

    def look(self, open_ones: dict[HandSocket, str], heard: Counter[str], left: float) -> None:
        """Reads from all that have something to say, for `left` seconds at most; who is closed is out."""
        by_socket: dict[socket.socket, HandSocket] = {one.socket: one for one in open_ones}
        for ready in select.select(list(by_socket), [], [], left)[0]:
            try:
                data = ready.recv(65536)
            except OSError:
                data = b""
            if data.startswith(b"HTTP/1.1 "):
                heard[data.split()[1].decode()] += 1
            for code in (4401, 4410):
                heard[str(code)] += data.count(code.to_bytes(2, "big"))
            if not data:
                del open_ones[by_socket[ready]]
                ready.close()
