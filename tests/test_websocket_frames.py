"""Frames that are no messages: pings, fragments without an end, and what comes after the end (W13, A01)."""

from __future__ import annotations

from tests.test_websocket import DoorCase
from tests.ws_client import PING, TEXT, settle


class FrameTests(DoorCase):
    def test_a_message_without_an_end(self) -> None:
        """W13, A01: fragments are counted, empty ones too, known or not yet: 1008, and nothing more is looked at."""
        for token in ("good", None):
            viewer = self.join(token=token)
            viewer.send_frame(TEXT, b"", fin=False)
            for _ in range(3000):
                viewer.send_frame(0, b"", fin=False)
            viewer.send_json(type="ping")
            settle(self.clock)
            kinds = [message["type"] for message in viewer.messages()]
            self.assertEqual((kinds.count("pong"), viewer.close_code), (0, 1008))
            settle(self.clock, 10)
        self.assertEqual(len(self.rooms.endpoint), 0)

    def test_pings(self) -> None:
        """W13: as many as anybody sends are answered, second after second; a flood of them is 1008."""
        viewer = self.join()
        for _ in range(5):
            for _ in range(1000):
                viewer.send_frame(PING, b"")
            settle(self.clock, 1)
        self.assertIsNone(viewer.close_code)
        for _ in range(5000):
            viewer.send_frame(PING, b"")
        settle(self.clock)
        self.assertEqual(viewer.close_code, 1008)

    def test_the_smallest_sensible_fragments(self) -> None:
        """A message of 64 KiB may come in fragments of 64 bytes."""
        viewer = self.join()
        message = b'{"type":"ping"' + b" " * (65536 - 15) + b"}"
        for at in range(0, 65536, 64):
            viewer.send_frame(0 if at else TEXT, message[at : at + 64], fin=at + 64 == 65536)
        settle(self.clock)
        self.assertIn("pong", [found["type"] for found in viewer.messages()])

    def test_pongs_do_not_pile_up(self) -> None:
        """K18, W13: one who pings and does not read costs no more for it; the newest ping is answered when it reads."""
        viewer, end = self.dial()
        viewer.messages()
        end.taking = False
        for _ in range(10):
            self.engine.print("game_1", "x" * 10_000)
        settle(self.clock)
        full = len(end.buffer)
        for number in range(1500):
            viewer.send_frame(PING, b"%0125d" % number)
        settle(self.clock)
        self.assertLess(len(end.buffer), full + 1000)
        seen = bytearray()
        receive, viewer.dataReceived = viewer.dataReceived, seen.extend  # type: ignore[method-assign,assignment]
        end.take()
        settle(self.clock)
        self.assertIn(b"\x8a\x7d%0125d" % 1499, bytes(seen))
        self.assertEqual(seen.count(b"\x8a\x7d" + b"0" * 100), 1)
        receive(bytes(seen))
        self.assertIsNone(viewer.close_code)
        self.assertGreater(len(viewer.messages()), 1)

    def test_after_the_end(self) -> None:
        """A01: what comes behind a frame that failed the connection is not kept, however slowly the close leaves."""
        viewer, end = self.dial()
        end.taking = False
        for _ in range(10):
            self.engine.print("game_1", "x" * 10_000)
        for _ in range(3):
            viewer.send_frame(TEXT, b"x", rsv=4)
            settle(self.clock)
        for _ in range(30):
            viewer.send_frame(TEXT, b"x" * 60_000)
            settle(self.clock)
        (session,) = self.rooms.endpoint._sessions
        assert session._wire is not None
        self.assertLess(len(session._wire.data), 1000)
