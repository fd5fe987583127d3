"""The end of an SSH login: a revoke and a token's end hold for the whole connection, whatever clock is set."""

from __future__ import annotations

from stellarstack.config import ConsoleConfig
from stellarstack.core.frames import terminal_line
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
