"""Viewers that never read beside one that does, tokens that end, doors that open and shut often (K18, K23, K29)."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from tests.integration.door_case import BINARY, JSON, MB, RAW, DoorCase
from tests.integration.hand_socket import CLOSE, TEXT, HandSocket, Refused, frame

DEAF, FLOOD = 50, 16 * MB  # a flood is more than a cap and the kernel hold
CYCLES = 200
FEW = 5  # descriptors and threads that may differ


class DeafTests(DoorCase):
    def test_deaf_viewers(self) -> None:
        """K18: 50 that never read harm nobody: one gets all or explicit gaps, the daemon stays small, the game runs."""
        deaf = [
            self.enter(path="/console?scrollback=0", buffer=4096, subprotocol=RAW if number % 2 else JSON)
            for number in range(DEAF)
        ]
        self.reader = self.enter(path="/console?scrollback=0", subprotocol=JSON)
        self.at = int(self.ready["from"])
        self.type_and_see("hello", "you said hello")
        self.node.forget_peak()
        before = self.node.rss()
        for _ in range(2):
            start = self.at
            self.type_and_see(f"flood {FLOOD}", "flood is over")
            self.assertGreater(self.at, start + FLOOD)
            self.type_and_see("and on", "you said and on")
        self.assert_grew_less(40 * MB, before)  # not 50 times the cap of 4 MB
        self.assertLess(self.node.peak(), 128 * MB)
        self.assertEqual(len(self.sessions()), DEAF + 1)
        for late in (deaf[0], deaf[1]):
            self.read_on(late)

    def type_and_see(self, line: str, wanted: str) -> None:
        """Reads on to these words: each frame goes on where the last ended, or a gap tells from where to where."""
        self.reader.say(type="input", data=line + "\r")
        tail = ""
        while wanted not in tail:
            found = self.reader.receive()
            assert found is not None and found.opcode == TEXT, found
            message = found.json()
            if message["type"] == "gap":
                self.assertEqual(message["from"], self.at)
                self.at = message["to"]
            elif message["type"] == "output":
                self.assertEqual(message["offset"], self.at)
                self.at, tail = message["end"], (tail + message["data"])[-100:]

    def sessions(self) -> list[Any]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.node.folder / "daemon.sock"))
        connection.request("GET", "/v1/sessions")
        found: Any = json.loads(connection.getresponse().read())
        connection.close()
        rows: list[Any] = found["sessions"]
        return rows

    def read_on(self, late: HandSocket) -> None:
        """One that was deaf begins to read: gaps tell what it missed, and then comes the newest."""
        gaps, tail = 0, b""
        while gaps < 2 and b"you said and on" not in tail:
            found = late.receive()
            assert found is not None and found.opcode != CLOSE, found
            if found.opcode == TEXT and found.json()["type"] == "gap":
                gaps += 1
            elif gaps:
                tail = (tail + found.payload)[-400:]
        self.assertEqual(gaps, 1)


class EndTests(DoorCase):
    def test_the_end_of_a_token(self) -> None:
        """K23: told before, nothing a second after `exp`, the connection ends; renewed, it goes on without a gap."""
        self.answers(starter := self.enter())
        starter.send(frame(BINARY, b"ticks\r"))
        starter.output(b"tick\r\n")
        ends = self.enter(token=self.node.token("srv_1", lifetime=3), subprotocol=JSON)
        expires = self.ready["expiresAt"]
        renewed = self.enter(token=self.node.token("srv_1", lifetime=3), subprotocol=JSON)
        old = self.ready["expiresAt"]
        for session in (ends, renewed):
            self.assertLessEqual(session.until("token.expiring")["expiresIn"], 3)
        renewed.say(type="auth", token=self.node.token("srv_1", lifetime=100))
        shown = []
        while (found := ends.receive()) is not None and found.opcode != CLOSE:
            if found.json()["type"] == "output":
                shown.append(found.json()["timestamp"])
        assert found is not None
        self.assertEqual(int.from_bytes(found.payload[:2], "big"), 4410)
        self.assertIsNone(ends.receive())  # no byte after the close frame, which is not even answered
        self.assertGreater(len(shown), 5)
        self.assertLessEqual(max(shown), expires + 1)
        self.goes_on(renewed, old + 1)

    def goes_on(self, session: HandSocket, until: float) -> None:
        """Byte by byte over the end of the old token."""
        at, stamp = None, 0.0
        kinds = set()
        while stamp < until:
            found = session.receive()
            assert found is not None and found.opcode == TEXT, found
            message = found.json()
            kinds.add(message["type"])
            if message["type"] == "output":
                self.assertIn(at, (None, message["offset"]))
                at, stamp = message["end"], message["timestamp"]
        self.assertIn("auth.ok", kinds)
        self.assertNotIn("gap", kinds)


class CycleTests(DoorCase):
    def test_come_and_go(self) -> None:
        """K29: 200 connections come and go in every way, and the process has what it had: descriptors and threads."""
        ways = [getattr(self, name) for name in dir(self) if name.startswith("way_")]
        stays = self.enter()
        stays.send(frame(BINARY, b"flood 300000\r"))
        stays.output(b"flood is over\r\n")
        self.cycle(ways, 5 * len(ways))  # whatever is made once is made now
        before = self.settled()
        self.cycle(ways, CYCLES)
        self.node.until(lambda: self.fits(before), 30, f"what there was, {before}; there is {self.node.holds()}")
        self.assertEqual(self.refusals, 0)
        self.answers(stays, self.enter())

    def cycle(self, ways: list[Callable[[], None]], count: int) -> None:
        self.refusals = 0
        for number in range(count):
            try:
                ways[number % len(ways)]()
            except Refused:
                self.refusals += 1

    def settled(self) -> tuple[int, int]:
        """What it holds when the cycles before have been forgotten."""
        last = self.node.holds()
        for _ in range(20):
            time.sleep(0.5)
            found = self.node.holds()
            if found == last:
                return found
            last = found
        return last

    def fits(self, before: tuple[int, int]) -> bool:
        return all(now <= then + FEW for now, then in zip(self.node.holds(), before, strict=True))

    @staticmethod
    def reset(session: HandSocket) -> None:
        """Goes with RST."""
        session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        session.close()

    def way_close_frame(self) -> None:
        session = self.enter()
        session.send(frame(CLOSE, b"\x03\xe8"))
        assert session.close_code() == 1000

    def way_without_a_word(self) -> None:
        self.enter().close()

    def way_reset(self) -> None:
        self.reset(self.enter(first_frame=True))

    def way_amid_the_scrollback(self) -> None:
        session = self.dial(buffer=4096).hello(self.node.token("srv_1"), path="/console?since=0")
        session.until("ready")
        self.reset(session)

    def way_amid_the_judgement(self) -> None:
        session = self.dial()
        session.send(session.request(self.node.token("srv_1"))[0])
        self.reset(session)

    def way_amid_the_handshake(self) -> None:
        session = self.dial()
        session.send(session.request(self.node.token("srv_1"))[0][:100])
        session.close()

    def way_before_the_token(self) -> None:
        self.dial().hello().close()

    def way_amid_a_frame(self) -> None:
        session = self.enter()
        session.send(frame(BINARY, b"x" * 50_000)[:30_000])
        self.reset(session)

    def way_history(self) -> None:
        session = self.enter()
        session.say(type="history", limit=262_144)
        self.reset(session)

    def way_http(self) -> None:
        assert self.node.health()["state"] == "ONLINE"

    def way_http_kept_alive(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=20)
        for _ in range(3):
            connection.request("GET", "/health")
            connection.getresponse().read()
        connection.close()

    def way_search(self) -> None:
        session = self.dial()
        session.send(self.asking("search?q=quick"))
        session.close()

    def way_amid_a_download(self) -> None:
        session = self.dial(buffer=4096)
        session.send(self.asking("download"))
        session.socket.recv(1)
        self.reset(session)

    def asking(self, what: str) -> bytes:
        head = f"GET /api/v1/servers/srv_1/console/{what} HTTP/1.1\r\nHost: n\r\n"
        return f"{head}Authorization: Bearer {self.node.token('srv_1')}\r\n\r\n".encode()
