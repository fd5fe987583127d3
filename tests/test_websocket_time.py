"""The console's door and its clocks: jumps (K22), the end of a token (K23), a revoke in the middle (K24, W11)."""

from __future__ import annotations

from typing import Any

from stellarstack.config import ConsoleConfig
from tests.test_websocket import RAW, WALL, DoorCase
from tests.ws_client import WsClient, settle


class JumpTests(DoorCase):
    """K22: the wall clock jumps by an hour or a day, either way; the reactor's clock goes on as ever."""

    jump = 0.0

    def wall(self) -> float:
        return WALL + self.clock.seconds() + self.jump

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            settle(self.clock, 1)

    def test_deadlines(self) -> None:
        """K22: who shows no token has 10 s, and pings come every 30 s, whatever the clock on the wall says."""
        for jump in (3600, -3600, 86400, -86400):
            self.jump = 0.0
            waiting, viewer = self.join(token=None), self.join(token=self.rooms.tokens.add("long", life=1e6))
            self.jump = jump
            self.pass_time(9)
            self.assertIsNone(waiting.close_code, jump)
            self.pass_time(2)
            self.assertEqual(waiting.close_code, 4401, jump)
            self.pass_time(120)
            self.assertIn(viewer.pings, range(2, 6), jump)
            viewer.drop()
            settle(self.clock)

    def test_ahead(self) -> None:
        """K22: tokens are judged by the wall clock: set ahead, they have ended, and that is seen within 15 s."""
        for jump in (3600, 86400):
            self.jump = 0.0
            viewer = self.join(token=self.rooms.tokens.add("good"))
            self.jump = jump
            self.pass_time(16)
            self.assertEqual(viewer.close_code, 4410)

    def test_back(self) -> None:
        """K22: set back, a token that was let in lives as long as it would have, and not an hour more."""
        for jump in (-3600, -86400):
            self.jump = 0.0
            viewer = self.join(token=self.rooms.tokens.add("good"))
            self.jump = jump
            self.pass_time(299)
            self.assertIsNone(viewer.close_code)
            self.pass_time(1)
            self.assertEqual(viewer.close_code, 4410)

    def test_input_goes_on(self) -> None:
        """K22: what may be typed in a second is measured by the reactor's clock."""
        for jump in (3600, -86400):
            self.jump = 0.0
            viewer = self.join(token=self.rooms.tokens.add("long", life=1e6))
            viewer.messages()
            self.jump = jump
            for _ in range(ConsoleConfig().input_messages_per_second + 1):
                viewer.send_json(type="ping")
            settle(self.clock)
            kinds = [message["type"] for message in viewer.messages()]
            self.assertEqual((kinds.count("pong"), kinds.count("error")), (100, 1))
            self.pass_time(1)
            viewer.send_json(type="ping")
            settle(self.clock)
            self.assertEqual([message["type"] for message in viewer.messages()], ["pong"])
            viewer.drop()


class EndTests(DoorCase):
    """The end of a token, and of a session that reads slowly."""

    config = ConsoleConfig(viewer_buffer=1 << 20)

    def flood(self, count: int = 30) -> None:
        for _ in range(count):
            self.engine.print("game_1", "x" * 10_000)
        settle(self.clock)

    def deaf(self, token: str) -> tuple[WsClient, Any]:
        """A viewer that has output waiting for it, which it does not read."""
        viewer, end = self.dial(token=token, subprotocols=[RAW])
        viewer.messages()
        end.taking = False
        self.flood()
        self.assertGreater(len(end.buffer), 65536)
        return viewer, end

    def test_what_waits_at_the_end(self) -> None:
        """K23: 1 s after `exp` nothing more is taken out of the buffers of one who reads late."""
        viewer, end = self.deaf(self.rooms.tokens.add("short", life=3))
        settle(self.clock, 3)
        settle(self.clock, 1)
        end.take()
        settle(self.clock)
        self.assertEqual((viewer.messages(), len(self.rooms.endpoint), len(self.rooms.seats)), ([], 0, 0))

    def test_revoked_while_much_waits(self) -> None:
        """K24, W11: at 50 % of what a viewer is to get, a revoke ends it within 2 s; the seat is free."""
        viewer, end = self.deaf("good")
        end.take(len(end.buffer) // 2)
        self.assertEqual(self.rooms.seats.revoke(jti="jti-good"), 1)
        viewer.messages()
        settle(self.clock, 1.1)
        end.take()
        settle(self.clock)
        self.assertEqual((viewer.messages(), len(self.rooms.endpoint), len(self.rooms.seats)), ([], 0, 0))

    def test_renewed_without_a_gap(self) -> None:
        """K23: a session that is renewed in time goes on over the old token's end, byte by byte."""
        viewer = self.join(token=self.rooms.tokens.add("short", life=3), subprotocols=[RAW])
        seen = [one for one in viewer.messages() if isinstance(one, bytes)]
        for second in range(6):
            if second == 2:
                viewer.send_json(type="auth", token=self.rooms.tokens.add("next", life=4))
            self.engine.print("game_1", f"second {second}\n")
            settle(self.clock, 1)
        found = viewer.messages()
        self.assertEqual([one["type"] for one in found if isinstance(one, dict) and one["type"] != "token.expiring"],
                         ["auth.ok"])  # fmt: skip
        seen += [one for one in found if isinstance(one, bytes)]
        wanted = "hello\n" + "".join(f"second {second}\n" for second in range(6))
        self.assertEqual(b"".join(seen), wanted.replace("\n", "\r\n").encode())
        self.assertEqual(viewer.close_code, 4410)
