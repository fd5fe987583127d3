"""The end of an SSH login: a revoke and a token's end hold for the whole connection, whatever clock is set."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from stellarstack.config import ConsoleConfig
from stellarstack.core.frames import terminal_line
from stellarstack.ssh.terminal import Terminal
from stellarstack.ssh.wire import SshWire
from stellarstack.viewing import Viewer
from tests.ssh_peer import WALL, SshCase, SshPeer
from tests.test_ssh import GREETING
from tests.ws_client import settle


class LoginEndCase(SshCase):
    jump = 0.0

    def wall(self) -> float:
        return WALL + self.clock.seconds() + self.jump

    def revoke(self, *meant: str | None) -> int:
        """As Doors.revoke does it: the seats, then the connections."""
        closed = self.seats.revoke(*meant)
        self.listener.revoke(*meant)
        return closed

    def refused_shell(self, peer: SshPeer) -> None:
        """No terminal is to be had any more."""
        self.assertEqual(peer.open(), -1)


class RevokeTests(LoginEndCase):
    """W11: after a revoke nobody comes back in on a connection that was let in before."""

    def test_a_new_shell(self) -> None:
        """W11: a revoke ends the connection with its terminals: no new one, and the end within a second."""
        peer = self.watch()
        waiting = peer.open()  # a channel without a shell yet
        self.assertEqual(self.revoke(None, "usr_1", None), 1)
        self.refused_shell(peer)
        self.assertFalse(peer.request(waiting, b"shell"))
        self.say("secret\n")
        settle(self.clock, 0.8)
        settle(self.clock, 0.2)
        self.assertTrue(peer.gone)
        self.assertEqual((self.seats.taken, b"secret" in peer.screen()), ({}, False))
        self.assertEqual((peer.over, peer.status()), ("revoked", 1))

    def test_before_the_first_shell(self) -> None:
        """W11: who has logged in and sits nowhere yet is meant, too; others are not."""
        peer = self.enter()
        early = peer.open()
        self.tokens.add("other", user_id="usr_2")
        other = self.enter("usr_2.srv_1", "other")
        self.assertEqual(self.revoke(None, "usr_1", None), 0)
        self.assertFalse(peer.request(early, b"shell"))
        self.refused_shell(peer)
        settle(self.clock, 0.8)
        settle(self.clock, 0.2)
        self.assertEqual((peer.gone, other.gone, peer.screen()), (True, False, b""))
        other.shell()
        self.assertEqual(other.screen(), GREETING + b"hello\r\n")

    def test_who_is_meant(self) -> None:
        """W11: all that is given must match; nothing given: nobody."""
        peer = self.watch()
        for meant in ((None, None, None), ("jti-other", None, None), (None, "usr_1", "srv_2"), (None, "usr_2", None)):
            self.listener.revoke(*meant)
        settle(self.clock, 2)
        self.assertEqual((peer.gone, peer.status()), (False, None))
        self.listener.revoke("jti-good", None, None)
        settle(self.clock, 2)
        self.assertTrue(peer.gone)

    def test_several_terminals(self) -> None:
        """W11: where the seats are told first, one terminal's end is its connection's."""
        peer = self.watch()
        peer.shell()
        session = next(iter(self.seats.taken))
        session.close(4403, "revoked")
        self.refused_shell(peer)
        self.assertEqual(len(self.listener), 0)
        settle(self.clock, 0.8)
        settle(self.clock, 0.2)
        self.assertTrue(peer.gone)

    def test_another_end(self) -> None:
        """Who leaves a terminal may open another on its connection."""
        peer = self.watch()
        peer.type(b"\x1d")
        channel = peer.shell()
        settle(self.clock, 10)
        peer.type(b"list\r", channel)
        self.assertTrue(peer.screen(1).endswith(b"nobody\r\n"))


class ExpiryTests(LoginEndCase):
    """K22, K23: a login ends with its token."""

    console_config = ConsoleConfig(ping_interval=1e6)

    def test_a_new_shell(self) -> None:
        """K23: after `exp` a new shell on an old connection shows nothing, sizes nothing, and ends."""
        self.tokens.add("short", life=10)
        peer = self.enter(token="short")
        early = peer.open()
        self.assertTrue(peer.request(early, b"pty-req", b"\0\0\0\0" + b"\0\0\0\x07" * 4 + b"\0\0\0\0"))
        before = self.size()
        settle(self.clock, 11)
        peer.request(early, b"shell")
        self.assertEqual(peer.screen(), terminal_line("the login has expired"))
        self.assertEqual((peer.status(), self.size(), self.seats.taken), (1, before, {}))
        self.refused_shell(peer)
        settle(self.clock, 0.8)
        settle(self.clock, 0.2)
        self.assertTrue(peer.gone)

    def test_beside_an_open_one(self) -> None:
        """K23: the terminal's end at `exp` is the connection's."""
        self.tokens.add("short", life=10)
        peer = self.watch(token="short")
        settle(self.clock, 10)
        self.assertEqual(peer.status(), 1)
        self.refused_shell(peer)
        settle(self.clock, 0.8)
        settle(self.clock, 0.2)
        self.assertTrue(peer.gone)

    def test_a_clock_that_is_set_back(self) -> None:
        """K22: a login lives no longer for it, nor does a terminal that is opened after it."""
        for back in (-3600.0, -86400.0):
            self.jump = 0.0
            peer = self.watch(token=self.tokens.add("good"))
            self.jump = back
            settle(self.clock, 200)
            second = peer.shell()
            settle(self.clock, 45)
            self.assertIn(b"this login ends in 55 s", peer.screen(second))
            settle(self.clock, 54)
            self.assertIsNone(peer.status())
            settle(self.clock, 1)
            self.assertEqual((peer.status(), len(self.listener)), (1, 0))
            settle(self.clock, 1)
            self.assertTrue(peer.gone)

    def test_a_clock_that_is_set_ahead(self) -> None:
        """K22: the end is seen within 15 s."""
        peer = self.watch()
        self.jump = 3600.0
        settle(self.clock, 15)
        self.assertEqual(peer.status(), 1)


class SlowReaderTests(LoginEndCase):
    """K23, K24, W11: what a slow reader has not read when its login ends, it does not get."""

    def wire_of(self, peer: SshPeer) -> SshWire:
        return next(wire for wire in self.listener._wires if wire.transport.other is peer.end)

    def terminal_of(self, peer: SshPeer) -> Terminal:
        inside = self.listener._wires[self.wire_of(peer)]
        assert inside is not None
        return inside.terminals()[0]

    def test_behind_a_shut_window(self) -> None:
        """W11: what waits for the viewer's window gives way to the last line."""
        peer = self.watch(window=100)
        shown = peer.screen()
        for _ in range(20):
            self.say(b"x" * 10_000)
        self.assertGreater(self.terminal_of(peer).waiting, 9000)
        self.revoke(None, "usr_1", None)
        peer.window(1 << 25)
        self.assertEqual(peer.screen().replace(b"x", b""), shown + terminal_line("revoked"))
        self.assertEqual((len(peer.screen()) - len(terminal_line("revoked")), peer.status()), (100, 1))

    def test_at_the_end_of_its_token(self) -> None:
        """K23: the same at `exp`."""
        self.tokens.add("short", life=10)
        peer = self.watch(token="short", window=100)
        for _ in range(20):
            self.say(b"x" * 10_000)
        settle(self.clock, 10)
        peer.window(1 << 25)
        self.assertTrue(peer.screen().endswith(terminal_line("the login has expired")))
        self.assertLess(len(peer.screen()), 200 + len(terminal_line("the login has expired")))

    def test_in_the_middle_of_a_turn(self) -> None:
        """W11: nor does what waits for its turn, or for this terminal in the console, come in the last line's place."""
        peer = self.watch(window=1 << 28)
        shown, terminal = peer.screen(), self.terminal_of(peer)
        turns: list[Callable[[], bool]] = []
        self.patch(self.listener._turns, "add", turns.append)
        for _ in range(20):
            self.say(b"x" * 20_000)
        self.assertEqual((terminal.blocked, len(turns)), (True, 1))
        self.revoke(None, "usr_1", None)
        for piece in turns:
            piece()
        settle(self.clock)
        self.assertEqual(peer.screen(), shown + terminal_line("revoked"))

    def test_another_end(self) -> None:
        """Where the server goes, what was said before is still shown."""
        peer = self.watch(window=100)
        self.say(b"x" * 200)
        self.now(self.consoles.discard("srv_1"))
        peer.window(1 << 25)
        self.assertIn(b"x" * 200 + terminal_line("the server was deleted"), peer.screen())

    def test_a_line_that_takes_nothing(self) -> None:
        """W11: after a second it is cut, whatever is in its buffers; a seat is free then."""
        peer = self.watch(window=1 << 28)
        end = self.wire_of(peer).transport
        end.taking = False
        for _ in range(20):
            self.say(b"x" * 65_536)
        self.revoke(None, "usr_1", None)
        settle(self.clock, 0.8)
        self.assertFalse(peer.gone)
        settle(self.clock, 0.2)
        end.take()
        settle(self.clock)
        self.assertEqual((peer.gone, b"x" in peer.screen(), self.seats.taken), (True, False, {}))

    def test_after_our_disconnect(self) -> None:
        """K24: who is disconnected for breaking the protocol, and reads nothing, is held no output for."""
        peer = self.watch(window=1 << 28)
        end, terminal = self.wire_of(peer).transport, self.terminal_of(peer)
        end.taking = False
        peer.send(95, b"\0\0\0\0\0\0\0\1\0\0\0\1x")
        held = len(end.buffer)
        for _ in range(100):
            self.say(b"x" * 65_536)
        self.assertFalse(peer.gone)
        self.assertEqual(len(end.buffer), held)
        self.assertLessEqual(terminal.waiting, 2 * 65_536)


class FaultTests(SshCase):
    """A bug of ours, or a thread that fails, leaves nobody behind with a seat and nothing to see."""

    def test_what_nobody_expected(self) -> None:
        """It is logged, the terminal ends, its seat is free; the connection may try again."""

        async def view(*_: object) -> Viewer:
            raise RuntimeError("a bug")

        kept = self.console.view
        self.patch(self.console, "view", view)
        peer = self.watch()
        self.assertEqual((peer.status(), len(self.flushLoggedErrors(RuntimeError))), (1, 1))
        self.assertTrue(peer.screen().endswith(terminal_line("the console could not be opened")))
        peer.send(97, b"\0\0\0\0")
        self.assertEqual((self.seats.taken, self.audits()), ({}, []))
        self.patch(self.console, "view", kept)
        peer.shell()
        self.assertIn(b"hello", peer.screen(1))

    def test_a_view_that_takes_for_ever(self) -> None:
        """K23: its login's end is its end all the same, and the room for keys is bounded meanwhile."""
        viewed: Deferred[Viewer] = Deferred()

        async def view(*_: object) -> Viewer:
            return await viewed

        self.patch(self.console, "view", view)
        self.tokens.add("short", life=40)
        peer = self.watch(token="short")
        peer.type(b"x" * 32_768)
        for _ in range(4):
            settle(self.clock, 10)
        self.assertNotIn(93, peer.numbers())
        self.assertEqual(peer.status(), 1)
        settle(self.clock, 1)
        self.assertEqual((peer.gone, self.seats.taken), (True, {}))

    def test_a_close_that_is_not_answered(self) -> None:
        """W13: a terminal that has ended counts as gone after its last words, though another lives beside it."""
        peer = self.watch(window=100)
        other = peer.shell(window=1 << 20)
        for _ in range(20):
            self.say(b"x" * 10_000)
        first = next(iter(self.seats.taken))
        first.close(1008, "the terminal takes nothing")
        settle(self.clock, 4)
        self.assertEqual((len(self.seats.taken), peer.status()), (2, 1))
        peer.type(b"list\r", other)
        settle(self.clock, 1)
        self.assertEqual((len(self.seats.taken), first in self.seats.taken), (1, False))
        peer.window(1 << 25)
        self.assertLess(len(peer.screen()), 200)
        peer.type(b"list\r", other)
        self.assertTrue(peer.screen(other).endswith(b"nobody\r\n"))
        peer.send(97, b"\0\0\0\0")
        self.assertEqual((len(self.seats.taken), peer.gone), (1, False))
