"""The SSH console in memory: who gets in, what a terminal sees and types, and how it ends."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import ConsoleConfig, SshUserConfig
from stellarstack.core.records import PtySize
from stellarstack.errors import ConfigError
from stellarstack.ssh.keybook import ConfiguredKeys
from stellarstack.ssh.turns import Turns
from tests.ssh_peer import SshCase, SshPeer, key_line, new_key
from tests.ws_client import settle

GREETING = b"[stellarstack: srv_1 is running; Ctrl-] leaves]\r\n"


class ViewTests(SshCase):
    """A terminal shows the console and types into it."""

    def test_watch_and_type(self) -> None:
        """The greeting, the scrollback, what is typed and its answer, byte for byte."""
        peer = self.watch()
        self.assertEqual(peer.screen(), GREETING + b"hello\r\n")
        peer.type(b"list\r")
        self.say("\x1b[1mé\x1b[0m")
        self.assertEqual(peer.screen(), GREETING + b"hello\r\nlist\r\nnobody\r\n\x1b[1m\xc3\xa9\x1b[0m")
        self.assertEqual(self.lines, [("srv_1", "list")])

    def test_without_a_pty(self) -> None:
        """A shell without a PTY is the same, and the end of its input does not end the watching."""
        peer = self.watch(pty=None)
        peer.send(96, struct.pack(">L", 0))
        self.say("more\n")
        self.assertTrue(peer.screen().endswith(b"hello\r\nmore\r\n"))

    def test_control_keys(self) -> None:
        """Ctrl-C and its like go to the game as they are."""
        peer = self.watch()
        peer.type(b"\x03\x04\x1a\x11")
        self.assertEqual(self.lines, [])
        self.assertIn(b"\x03\x04\x1a\x11", self.typed())

    def typed(self) -> bytes:
        return b"".join(self.keys)

    def setUp(self) -> None:
        super().setUp()
        self.keys: list[bytes] = []
        kept = self.console.type

        def type_and_keep(data: bytes) -> None:
            kept(data)
            self.keys.append(data)

        self.patch(self.console, "type", type_and_keep)

    def test_size(self) -> None:
        """The PTY's size is the game's from the start, and follows the window; impossible sizes are not heard."""
        peer = self.watch(pty=(132, 43))
        self.assertEqual(self.size(), PtySize(132, 43))
        for cols, rows in ((99, 29), (98, 28), (100, 30), (0, 0), (1001, 5), (2**32 - 1, 2)):
            peer.send(98, struct.pack(">L", 0) + NS(b"window-change") + b"\0" + struct.pack(">4L", cols, rows, 0, 0))
        settle(self.clock, 0.1)
        settle(self.clock, 0.1)
        self.assertEqual(self.size(), PtySize(100, 30))

    def test_several(self) -> None:
        """Several connections, and several terminals of one."""
        one, two = self.watch(), self.watch()
        two.shell()
        self.say("to all\n")
        for screen in (one.screen(), two.screen(0), two.screen(1)):
            self.assertTrue(screen.endswith(b"to all\r\n"))
        self.assertEqual(len(self.listener), 3)
        self.assertEqual([seat.via for seat in self.seats.taken.values()], ["ssh"] * 3)

    def test_leave(self) -> None:
        """Ctrl-] ends with status 0; what follows it is not typed, the game goes on."""
        peer = self.watch()
        peer.type(b"li\x1dst\r")
        settle(self.clock)
        self.assertEqual((peer.status(), peer.numbers()[-1], self.typed()), (0, 97, b"li"))
        self.assertEqual((len(self.seats.taken), len(self.listener)), (1, 0))
        peer.send(97, struct.pack(">L", 0))
        self.assertEqual(self.seats.taken, {})
        settle(self.clock, 6)
        self.assertTrue(peer.gone)

    def test_read_only(self) -> None:
        """Without console.write typing is told of once and does nothing; neither does the window's size."""
        self.tokens.add("reader", permissions=frozenset({"console.read"}))
        before = self.size()
        peer = self.watch(token="reader", pty=(7, 7))
        peer.type(b"list\r")
        peer.type(b"list\r")
        self.assertEqual(self.typed(), b"")
        self.assertIn(b"srv_1 is running; read-only; Ctrl-] leaves", peer.screen())
        self.assertEqual(peer.screen().count(b"may watch, not type"), 1)
        self.assertEqual(self.size(), before)
        peer.type(b"\x1d")
        self.assertEqual(peer.status(), 0)

    def test_a_paste(self) -> None:
        """A paste of more than may be typed in a second arrives whole, and its sender has to wait."""
        peer = self.watch()
        text = bytes(range(32, 127)) * 1000
        sent = 0
        for _ in range(40):
            while sent < len(text) and sent - self.granted(peer) < 32768:
                piece = text[sent : sent + 32768 - (sent - self.granted(peer))][:8192]
                peer.type(piece)
                sent += len(piece)
            settle(self.clock, 0.1)
        self.assertEqual(self.typed(), text)
        self.assertGreater(self.clock.seconds(), (len(text) - 65536) / 65536)

    def granted(self, peer: SshPeer) -> int:
        """Bytes of room that were given back."""
        return sum(struct.unpack(">L", payload[4:])[0] for number, payload in peer.said if number == 93)

    def test_more_than_the_window(self) -> None:
        """Who sends more than it may is closed."""
        peer = self.watch()
        for _ in range(12):
            peer.type(b"x" * 32768)
        self.assertIsNotNone(peer.over)

    def test_nobody_reads(self) -> None:
        """Typing at a server that does not run is told once; it is no command for the audit."""
        peer = self.watch()
        self.now(self.engine.kill(self.container, "SIGKILL"))
        settle(self.clock)
        before = len(self.audits())
        peer.type(b"list\r")
        peer.type(b"list\r")
        self.assertEqual(peer.screen().count(b"nobody reads what is typed"), 1)
        self.assertEqual(len(self.audits()), before)

    def test_audit(self) -> None:
        """P03: the start, each line and the end are told, with who, from where and by what program."""
        peer = self.watch()
        peer.type(b"list\r")
        settle(self.clock, 2)
        peer.type(b"\x1d")
        self.assertEqual(self.audits(), [
            ("session_start", {}), ("command_sent", {"command": "list"}), ("session_end", {"duration": 2.0}),
        ])  # fmt: skip
        for event in self.bus.named("console.audit"):
            self.assertEqual((event["userId"], event["serverId"], event["ip"]), ("usr_1", "srv_1", "203.0.113.5"))
            self.assertTrue(event["userAgent"].startswith("SSH-2.0-Twisted"))


class EndTests(SshCase):
    """How sessions end."""

    console_config = ConsoleConfig(stall_deadline=20.0)

    def test_expiry(self) -> None:
        """K23: told once, 60 s before, and the session ends with its token; nothing is shown after that."""
        self.tokens.add("short", life=90)
        peer = self.watch(token="short")
        settle(self.clock, 29)
        self.assertNotIn(b"ends in", peer.screen())
        settle(self.clock, 2)
        self.assertIn(b"this login ends in 59 s", peer.screen())
        settle(self.clock, 60)
        self.say("secret\n")
        self.assertEqual((peer.status(), peer.screen().count(b"ends in")), (1, 1))
        self.assertIn(b"the login has expired", peer.screen())
        self.assertNotIn(b"secret", peer.screen())

    def test_revoked(self) -> None:
        """W11, W12: a revoke ends it at once, whether or not its viewer goes."""
        peer = self.watch()
        self.assertEqual(self.seats.revoke(user_id="usr_1"), 1)
        self.say("secret\n")
        peer.type(b"list\r")
        self.assertEqual((peer.status(), self.lines), (1, []))
        self.assertIn(b"[stellarstack: revoked]", peer.screen())
        self.assertNotIn(b"secret", peer.screen())
        settle(self.clock, 6)
        self.assertTrue(peer.gone)

    def test_deleted(self) -> None:
        """The server goes, and its consoles with it."""
        peer = self.watch()
        self.now(self.consoles.discard("srv_1"))
        settle(self.clock)
        self.assertEqual(peer.status(), 1)
        self.assertIn(b"the server was deleted", peer.screen())

    def test_the_daemon_stops(self) -> None:
        """Sessions are told, connections end, new ones are not let in."""
        peer, waiting = self.watch(), self.dial()
        stopping = self.start(self.listener.stop())
        self.assertIn(b"the daemon stops", peer.screen())
        self.assertEqual(waiting.over, "the daemon stops")
        self.assertIsNone(self.line())
        for _ in range(12):
            settle(self.clock, 0.1)
        self.assertTrue(peer.gone)
        self.successResultOf(stopping)

    def test_no_seat(self) -> None:
        """P03: no place: one line, and the end."""
        self.seats.most = 1
        self.watch()
        peer = self.watch()
        self.assertEqual(peer.status(), 1)
        self.assertIn(b"too many connections", peer.screen())

    def test_no_such_server(self) -> None:
        """The token is good, the server is gone: one line, and the end."""
        self.tokens.add("gone", server="srv_gone")
        peer = self.watch("usr_1.srv_gone", "gone")
        self.assertEqual(peer.status(), 1)
        self.assertIn(b"no such server on this node", peer.screen())

    def test_closed_by_its_viewer(self) -> None:
        """A terminal that is closed, and a line that breaks, give back what they held."""
        one, two = self.watch(), self.watch()
        one.send(97, struct.pack(">L", 0))
        self.assertEqual((one.numbers()[-1], len(self.listener)), (97, 1))
        two.end.abortConnection()
        settle(self.clock)
        self.assertEqual((len(self.listener), self.seats.taken), (0, {}))
        self.assertEqual([action for action, _ in self.audits()], ["session_start"] * 2 + ["session_end"] * 2)

    def test_a_shut_window(self) -> None:
        """A04: who reads nothing costs no more than its cap, and gets one gap line when it reads on; others get all."""
        slow, fast = self.watch(window=100), self.watch(window=1 << 28)
        for _ in range(100):
            self.say(b"x" * 65535 + b"\n")
        [wire] = [wire for wire in self.listener._wires if wire.transport.other is slow.end]
        inside = self.listener._wires[wire]
        assert inside is not None
        [terminal] = inside.terminals()
        self.assertLessEqual(terminal.waiting, 2 * 65536)
        self.assertGreater(len(fast.screen()), 100 * 65536)
        slow.window(1 << 25)
        self.assertEqual(slow.screen().count(b"bytes are missing here]"), 1)
        self.assertTrue(slow.screen().endswith(b"x\r\n"))

    def test_a_flood(self) -> None:
        """It is told as a dim line, and so is its end."""
        peer = self.watch(window=1 << 28)
        for _ in range(16):
            self.say(b"x" * 2**19 + b"\n")
            self.clock.advance(0.25)
        self.assertIn(b"\x1b[2m[stellarstack: the server floods its console with 2.0 MiB a second", peer.screen())
        for _ in range(8):
            self.clock.advance(1)
        settle(self.clock)
        self.assertIn(b"[stellarstack: the flood is over: ", peer.screen())

    def test_any_window(self) -> None:
        """However small the pieces in which it takes them, a viewer gets every byte, in order."""
        rooms = [1, 7, 30_000, 100, 65_536, 16_384, 3, 16_385, 200_000]
        peer = self.watch(window=len(GREETING) + 7)
        said = b"hello\r\n"
        for number, room in enumerate(rooms):
            line = b"%d" % number * (room % 40_000) + b"\n"
            said += line.replace(b"\n", b"\r\n")
            self.say(line)
            peer.window(room)
        peer.window(1 << 24)
        settle(self.clock)
        self.assertEqual(peer.screen(), GREETING + said)

    def test_never_reads(self) -> None:
        """K24: whose window stays shut while there is output is closed after the stall deadline; a quiet one is not."""
        slow, quiet = self.watch(window=100), self.watch(window=100 + len(b"hello"))
        self.assertEqual(len(self.listener), 2)
        self.say(b"x" * 200)
        settle(self.clock, 15)
        for _ in range(8):
            slow.window(1)  # it takes something
            settle(self.clock, 5)
        self.assertIsNone(slow.status())
        self.assertEqual(quiet.status(), 1)
        for _ in range(6):
            settle(self.clock, 5)
        self.assertEqual(slow.status(), 1)

    def test_a_key_exchange_that_does_not_end(self) -> None:
        """A viewer that begins a key exchange and stops there gets nothing, holds nothing, and is closed."""
        peer = self.watch(window=1 << 28)
        settle(self.clock, 11)
        peer.deaf = True
        peer.sendKexInit()
        settle(self.clock)
        for _ in range(100):
            self.say(b"x" * 65536)
        [wire] = self.listener._wires
        self.assertLessEqual(sum(len(payload) for _, payload in wire._blockedByKeyExchange), 1 << 17)
        for _ in range(9):
            settle(self.clock, 4)
        self.assertTrue(peer.gone)

    def test_a_new_key_exchange(self) -> None:
        """A viewer may exchange keys anew, and loses nothing by it."""
        peer = self.watch()
        settle(self.clock, 11)
        peer.sendKexInit()
        self.engine.print("game_1", "meanwhile\n")
        settle(self.clock)
        peer.type(b"list\r")
        self.assertTrue(peer.screen().endswith(b"hello\r\nmeanwhile\r\nlist\r\nnobody\r\n"))


class KeyTests(SshCase):
    """Logins by public key, from daemon.toml."""

    alice, bob = new_key(), new_key()
    users = {
        "alice": SshUserConfig(keys=(key_line(alice) + " alice@home",), servers=("*",)),
        "bob.smith": SshUserConfig(keys=(key_line(bob),), servers=("srv_1",), permissions=("console.read",)),
        "bob": SshUserConfig(keys=(key_line(bob),), servers=("smith.srv_1", "srv_2")),
    }

    def offered(self, login: str, key: Key, **more: Any) -> int:
        self.asked += 1
        peer = self.dial(f"198.51.100.{self.asked}")  # an address each: wrong logins make an address wait
        peer.ask_login()
        return peer.offer(login, key, **more)

    asked = 0

    def test_in(self) -> None:
        """Who has the key is in, with what the config allows; the question for it is answered first."""
        peer = self.dial()
        peer.ask_login()
        self.assertEqual(peer.offer("alice.srv_1", self.alice, sign=False), 60)
        self.assertEqual(peer.offer("alice.srv_1", self.alice), 52)
        peer.shell()
        peer.type(b"list\r")
        self.assertTrue(peer.screen().endswith(b"nobody\r\n"))
        [seat] = self.seats.taken.values()
        self.assertEqual((seat.claims.user_id, seat.claims.server_id), ("alice", "srv_1"))

    def test_not_in(self) -> None:
        """Another's key, another server, no such user, a name with two meanings, a bad signature: refused."""
        self.assertEqual(self.offered("alice.srv_1", self.bob), 51)
        self.assertEqual(self.offered("alice.srv_1", new_key()), 51)
        self.assertEqual(self.offered("bob.srv_1", self.bob), 51)
        self.assertEqual(self.offered("carol.srv_1", self.alice), 51)
        self.assertEqual(self.offered("alice.", self.alice), 51)
        self.assertEqual(self.offered("alice", self.alice), 51)
        self.assertEqual(self.offered("bob.smith.srv_1", self.bob), 51)
        self.assertEqual(self.offered("alice.srv_1", self.alice, session=b"another's"), 51)
        self.assertEqual(
            self.offered("alice.srv_1", self.alice, algorithm=b"rsa-sha2-256", signature=b"ssh-ed25519"), 51
        )
        self.assertEqual(self.offered("bob.srv_2", self.bob), 52)

    def test_it_ends(self) -> None:
        """A login by key ends too, later."""
        peer = self.dial()
        peer.ask_login()
        peer.offer("alice.srv_1", self.alice)
        peer.shell()
        settle(self.clock, self.config.key_session - 10)
        self.assertIsNone(peer.status())
        settle(self.clock, 10)
        self.assertEqual(peer.status(), 1)

    def test_the_config(self) -> None:
        """A line that is no key, or a weak one, is a ConfigError that names the user and not the key."""
        rsa_1024 = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC3"
        for line in ("", "ssh-dss AAAA", "ssh-ed25519 AAAA", "ssh-ed25519", rsa_1024, 'from="*" ' + key_line(self.bob)):
            users = {"x": SshUserConfig(keys=(line,), servers=("*",))}
            error = self.assertRaises(ConfigError, ConfiguredKeys, users, 60.0, self.wall)
            self.assertIn("[ssh.users.x] keys", str(error))


class TurnsTests(SynchronousTestCase):
    """Long work is done in turns."""

    def test_fair_and_bounded(self) -> None:
        """A piece of each in turn, 10 ms of them at a time, all to their end."""
        done: list[str] = []
        begun: list[int] = []  # how much was done when each turn was asked for

        class Noting(Clock):
            def callLater(self, *call: Any, **more: Any) -> Any:
                begun.append(len(done))
                return super().callLater(*call, **more)

        clock = Noting()
        turns = Turns(clock)

        def work(name: str, pieces: int) -> Callable[[], bool]:
            left = iter(range(pieces, 0, -1))

            def piece() -> bool:
                done.append(name)
                clock.rightNow += 0.004  # what it took
                return next(left) > 1

            return piece

        turns.add(work("a", 4))
        turns.add(work("b", 2))
        self.assertEqual(done, [])
        clock.advance(0)
        self.assertEqual("".join(done), "ababaa")
        self.assertEqual(begun, [0, 2, 4, 5])

    def test_a_long_queue(self) -> None:
        """No turn takes longer than 10 ms and one piece, however many wait."""
        clock = Clock()
        turns = Turns(clock)
        done: list[float] = []

        def piece() -> bool:
            clock.rightNow += 0.004
            done.append(clock.seconds())
            return False

        for _ in range(10):
            turns.add(piece)
        asked: list[float] = []
        self.patch(clock, "callLater", lambda *_: asked.append(clock.seconds()))
        turns._go()
        self.assertEqual((len(done), len(asked)), (3, 1))


class NoKeysTests(SynchronousTestCase):
    """Where daemon.toml names nobody."""

    def test_nobody_is_asked(self) -> None:
        self.assertEqual(len(ConfiguredKeys({}, 60.0, lambda: 0.0)), 0)
