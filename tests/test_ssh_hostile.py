"""The SSH console under attack: who breaks the protocol loses that connection, and nobody else (SECURITY S, W18)."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.conch.ssh.common import MP, NS

from stellarstack.config import SshConfig, SshUserConfig
from stellarstack.ssh.order import CONNECTION
from stellarstack.ssh.wire import PACKET_MAX, SshWire
from tests.ssh_peer import SshCase, SshPeer, key_line, new_key
from tests.ws_client import MemoryEnd, settle

FUZZ = settings(max_examples=25, deadline=None, database=None)


class HostileCase(SshCase):
    """Beside each attack a quiet viewer watches on, and nothing is logged as a fault of ours."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.watch()

    def unharmed(self) -> None:
        """The other viewer types and sees its answer."""
        self.other.type(b"list\r")
        settle(self.clock, 1)
        self.assertTrue(self.other.screen().endswith(b"nobody\r\n"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def bare(self) -> tuple[MemoryEnd, Said]:
        """A TCP connection that speaks no SSH yet."""
        found = self.line()
        assert found is not None
        mine, theirs = found
        said = Said()
        mine.protocol = said
        theirs.protocol.makeConnection(theirs)
        settle(self.clock)
        return mine, said

    def ends(self, peer: SshPeer) -> None:
        """The connection is closed within the time that it has for its last words."""
        settle(self.clock, 6)
        self.assertTrue(peer.gone)

    def plain(self, number: int, payload: bytes = b"") -> bytes:
        """A packet as it is before any keys."""
        size = 5 + 1 + len(payload)
        padding = 8 - size % 8 + (8 if 8 - size % 8 < 4 else 0)
        return struct.pack(">LBB", size + padding - 4, padding, number) + payload + b"\0" * padding


class Said:
    """A peer that only listens."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any) -> None:
        self.gone = True


class BeforeTheKeysTests(HostileCase):
    def test_an_endless_banner(self) -> None:
        """S01: a first line without an end is closed at 255 bytes and held nowhere."""
        mine, said = self.bare()
        tracemalloc.start()
        for _ in range(100):
            mine.write(b"S" * (1 << 20))
            settle(self.clock)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(peak, 8 << 20)
        settle(self.clock, 6)
        self.assertTrue(said.gone)
        self.unharmed()

    def test_no_banner(self) -> None:
        """S01: HTTP, SSH 1, an empty line, bytes: closed."""
        for line in (
            b"GET / HTTP/1.1\r\n",
            b"SSH-1.5-old\r\n",
            b"\r\n",
            b"\x16\x03\x01\n",
            b"SSH-2.0-\xff\r\n",
            b"SSH-2.0-\n",
        ):
            mine, said = self.bare()
            mine.write(line + b"\r\n")
            settle(self.clock)
            settle(self.clock, 6)
            self.assertTrue(said.gone, line)
        self.unharmed()

    def test_silence(self) -> None:
        """F5: who says nothing, and who never logs in, is closed after the grace."""
        _, said = self.bare()
        peer = self.dial()
        settle(self.clock, self.config.login_grace)
        settle(self.clock, 6)
        self.assertTrue(said.gone and peer.gone)

    def test_lengths(self) -> None:
        """S02: a packet's length and padding are bounded before anything is waited for."""
        for length, padding in (
            (PACKET_MAX + 1, 4),
            (2**32 - 1, 4),
            (0, 0),
            (4, 1),
            (12, 0),
            (12, 3),
            (12, 12),
            (13, 4),
            (12, 255),
        ):
            mine, said = self.bare()
            mine.write(b"SSH-2.0-x\r\n" + struct.pack(">LB", length, padding) + b"\0" * 11)
            settle(self.clock)
            settle(self.clock, 6)
            self.assertTrue(said.gone, (length, padding))
        self.unharmed()

    def test_out_of_turn(self) -> None:
        """S05, S06: before the keys nothing but the key exchange is taken, and that once and in order."""
        rows = [
            [(21, b"")], [(30, NS(b"x" * 32))], [(5, NS(b"ssh-userauth"))], [(50, NS(b"a"))], [(90, NS(b"session"))],
            [(94, b"")], [(6, NS(b"ssh-userauth"))], [(52, b"")], [(7, b"\0\0\0\0")] * 101, [(2, NS(b""))] * 101,
            [(20, KEXINIT), (21, b"")], [(20, KEXINIT), (20, KEXINIT)], [(20, KEXINIT), (5, NS(b"ssh-userauth"))],
            [(20, KEXINIT), (7, b"\0\0\0\0")], [(20, KEXINIT), (30, NS(b"\0" * 32))], [(20, KEXINIT), (30, NS(b"x"))],
            [(20, KEXINIT), (30, NS(b"x" * 32)), (30, NS(b"x" * 32))], [(20, KEXINIT), (30, b"")],
            [(0, b"")], [(255, b"")],
        ]  # fmt: skip
        for row in rows:
            mine, said = self.bare()
            mine.write(b"SSH-2.0-x\r\n" + b"".join(self.plain(*packet) for packet in row))
            settle(self.clock)
            settle(self.clock, 6)
            self.assertTrue(said.gone, row)
        self.unharmed()

    def test_weak_algorithms(self) -> None:
        """F4, W21: CBC, 3DES, MD5, SHA-1, NIST's and finite-field groups, compression: no match, closed."""
        rows = {
            0: b"diffie-hellman-group14-sha1,ecdh-sha2-nistp256,diffie-hellman-group-exchange-sha256",
            1: b"ssh-rsa,ssh-dss",
            2: b"aes128-cbc,3des-cbc,3des-ctr,none,chacha20-poly1305@openssh.com", 4: b"hmac-sha1,hmac-md5,none",
            6: b"zlib,zlib@openssh.com", 7: b"zlib",
        }  # fmt: skip
        for at, offered in rows.items():
            mine, said = self.bare()
            mine.write(b"SSH-2.0-x\r\n" + self.plain(20, kexinit({at: offered})))
            settle(self.clock)
            settle(self.clock, 6)
            self.assertTrue(said.gone, offered)

    def test_what_is_offered(self) -> None:
        """F4, S06: the live values, and no cipher or MAC that Terrapin needs."""
        self.assertEqual(SshWire.supportedCompressions, [b"none"])
        names = b",".join(SshWire.supportedCiphers + SshWire.supportedMACs + SshWire.supportedKeyExchanges)
        for weak in (b"cbc", b"chacha20", b"etm", b"sha1", b"md5", b"nistp", b"diffie"):
            self.assertNotIn(weak, names)

    @FUZZ
    @given(st.binary(max_size=600), st.sampled_from([b"", b"SSH-2.0-x\r\n"]))
    def test_any_bytes(self, text: bytes, before: bytes) -> None:
        """W18: any bytes, before and after the first line."""
        mine, said = self.bare()
        mine.write(before + text)
        settle(self.clock, 30)
        settle(self.clock, 6)
        self.assertTrue(said.gone)
        self.assertEqual(self.flushLoggedErrors(), [])

    @FUZZ
    @given(st.sampled_from([2, 3, 4, 7, 20, 30]), st.binary(max_size=200), st.integers(0, 400))
    def test_any_packet(self, number: int, payload: bytes, cut: int) -> None:
        """W18: any packet of a key exchange, a whole one cut anywhere among them."""
        mine, said = self.bare()
        first = KEXINIT[:cut] if number == 20 else payload
        mine.write(b"SSH-2.0-x\r\n" + self.plain(number, first) + self.plain(20, KEXINIT) + self.plain(30, payload))
        settle(self.clock, 30)
        settle(self.clock, 6)
        self.assertTrue(said.gone)
        self.assertEqual(self.flushLoggedErrors(), [])


def kexinit(changes: dict[int, bytes]) -> bytes:
    lists = [
        b"curve25519-sha256", b"ssh-ed25519", b"aes128-ctr", b"aes128-ctr", b"hmac-sha2-256", b"hmac-sha2-256", b"none",
        b"none", b"", b"",
    ]  # fmt: skip
    return b"\1" * 16 + b"".join(NS(changes.get(at, name)) for at, name in enumerate(lists)) + b"\0" * 5


KEXINIT = kexinit({})


class LoginTests(HostileCase):
    """Between the keys and the login."""

    alice = new_key()
    users = {"alice": SshUserConfig(keys=(key_line(alice),), servers=("*",))}

    asked = 0

    def asking(self, host: str = "203.0.113.9") -> SshPeer:
        peer = self.dial(host)
        peer.ask_login()
        return peer

    def test_wrong_passwords(self) -> None:
        """S04: empty, NUL, another's, expired, none, unknown: all alike, after a second; the third ends it."""
        self.tokens.add("other", server="srv_2")
        self.tokens.add("files", permissions=frozenset({"files.read"}))
        rows: list[tuple[str, str | bytes]] = [
            ("usr_1.srv_1", ""), ("usr_1.srv_1", "good\0"), ("usr_1.srv_1", "bad"), ("usr_1.srv_2", "good"),
            ("usr_2.srv_1", "good"), ("usr_1.srv_1", "other"), ("", "good"), ("usr_1srv_1", "good"), ("root", "toor"),
            ("usr_1.srv_1", "files"), ("usr_1.srv_1", b"\xff"), ("usr_1.srv_1", "x" * 9000), ("x" * 600, "good"),
            ("usr_1.srv_1", "revoked"),
        ]  # fmt: skip
        for at, (login, password) in enumerate(rows):
            peer = self.asking(f"198.51.100.{at}")
            self.assertEqual(peer.password(login, password, 0.9), 6, login)
            settle(self.clock, 0.2)
            self.assertEqual(peer.said[-1], (51, NS(b"publickey,password") + b"\0"), login)
            for _ in range(2):
                peer.password(login, password, 1.1)
            self.assertEqual(peer.over, "too many wrong logins")
        self.unharmed()

    def test_ten_megabytes(self) -> None:
        """S04: a password of 10 MB does not fit into a packet."""
        peer = self.asking()
        peer.password("usr_1.srv_1", b"x" * (10 << 20))
        self.ends(peer)

    def test_expired(self) -> None:
        """An expired token is told as such: the one thing that a person can mend."""
        peer = self.asking()
        peer.password("usr_1.srv_1", "expired", 1.1)
        self.assertEqual(peer.numbers(), [6, 53, 51])

    def test_none(self) -> None:
        """S04: no method but the two; asking costs no try, and asking for ever is closed."""
        peer = self.asking()
        for method in (b"none", b"keyboard-interactive", b"hostbased", b"gssapi-with-mic", b""):
            peer.send(50, NS(b"usr_1.srv_1") + NS(b"ssh-connection") + NS(method))
            self.assertEqual(peer.said[-1][0], 51)
        for _ in range(20):
            peer.send(50, NS(b"usr_1.srv_1") + NS(b"ssh-connection") + NS(b"none"))
        self.ends(peer)

    def test_ids_with_dots(self) -> None:
        """C03: the token says where the user ends and the server begins."""
        self.tokens.add("dots", server="b.c", user_id="a")
        self.assertEqual(self.asking().password("a.b.c", "dots", 0), 52)
        self.tokens.add("more", server="c", user_id="a.b")
        self.assertEqual(self.asking().password("a.b.c", "more", 0), 52)

    def test_success_of_its_own(self) -> None:
        """S05: a viewer that tells us it is in, or goes on as if it were, is closed."""
        rows = [
            (52, b""),
            (60, b""),
            (51, NS(b"") + b"\0"),
            (80, NS(b"x") + b"\1"),
            (90, NS(b"session") + b"\0" * 12),
            (94, b""),
        ]
        for number, payload in rows:
            peer = self.asking()
            peer.send(number, payload)
            self.ends(peer)
            peer = self.dial()
            peer.send(number, payload)
            self.ends(peer)
        peer = self.dial()
        peer.send(5, NS(b"ssh-connection"))
        self.ends(peer)
        self.unharmed()

    def test_a_giant_key(self) -> None:
        """S03: an RSA key of 64 kbit is refused without being looked at; one of 16 kbit by its mere size too."""
        for bits in (16384, 65536):
            blob = NS(b"ssh-rsa") + MP(65537) + MP((1 << bits) - 1)
            peer = self.asking()
            body = (
                NS(b"alice.srv_1") + NS(b"ssh-connection") + NS(b"publickey") + b"\0" + NS(b"rsa-sha2-256") + NS(blob)
            )
            begun = time.process_time()
            peer.send(50, body)
            self.assertLess(time.process_time() - begun, 0.05)
            self.assertEqual(peer.said[-1][0], 51)

    def test_two_at_once(self) -> None:
        """A second login while one is judged is closed, whatever the first comes to."""
        peer = self.asking()
        peer.password("usr_1.srv_1", "bad", 0)
        peer.password("usr_1.srv_1", "good", 0)
        self.ends(peer)
        self.unharmed()

    def test_gone_meanwhile(self) -> None:
        """A line that breaks while a login is judged leaves nothing behind."""
        peer = self.asking()
        peer.password("usr_1.srv_1", "bad", 0)
        peer.end.abortConnection()
        settle(self.clock, 2)
        self.assertEqual(len(self.listener._wires), 1)
        self.assertEqual(self.listener._throttle.waiting, 0)
        self.unharmed()

    @FUZZ
    @given(st.integers(0, 120), st.binary(max_size=40), st.booleans())
    def test_any_request(self, cut: int, tail: bytes, key: bool) -> None:
        """W18: every beginning of a request, with anything behind it."""
        whole = NS(b"alice.srv_1") + NS(b"ssh-connection")
        whole += (
            NS(b"publickey")
            + b"\1"
            + NS(b"ssh-ed25519")
            + NS(self.alice.public().blob())
            + NS(NS(b"ssh-ed25519") + NS(b"x"))
        )
        password = NS(b"usr_1.srv_1") + NS(b"ssh-connection") + NS(b"password") + b"\0" + NS(b"token")
        self.asked += 1
        peer = self.asking(f"10.0.{self.asked}.1")
        peer.send(50, (whole if key else password)[:cut] + tail, 1.1)
        self.assertNotIn(52, peer.numbers())
        self.assertEqual(self.flushLoggedErrors(), [])
        peer.end.abortConnection()
        settle(self.clock, 1)


class InsideTests(HostileCase):
    """Once logged in."""

    def test_the_console_is_all(self) -> None:
        """S07: exec, environment, agent, X11, subsystems and signals are refused; so is every forwarding."""
        peer = self.enter()
        channel = peer.open()
        for kind, rest in (
            (b"exec", NS(b"id")), (b"env", NS(b"LD_PRELOAD") + NS(b"x")), (b"subsystem", NS(b"sftp")),
            (b"signal", NS(b"KILL")),
            (b"auth-agent-req@openssh.com", b""), (b"x11-req", b"\0" + NS(b"a") + NS(b"b") + b"\0" * 4), (b"\xff", b""),
            (b"shell__class__", b""), (b"window-change", b""),
        ):  # fmt: skip
            self.assertFalse(peer.request(channel, kind, rest), kind)
        for kind in (
            b"direct-tcpip",
            b"forwarded-tcpip",
            b"x11",
            b"direct-streamlocal@openssh.com",
            b"tun@openssh.com",
            b"",
        ):
            self.assertEqual(
                peer.open(kind, rest=NS(b"127.0.0.1") + struct.pack(">L", 22) + NS(b"h") + struct.pack(">L", 1)), -1
            )
        for kind in (b"tcpip-forward", b"streamlocal-forward@openssh.com", b"no-more-sessions@openssh.com"):
            peer.send(80, NS(kind) + b"\1" + NS(b"") + struct.pack(">L", 0))
            self.assertEqual(peer.said[-1][0], 82)
        self.assertTrue(peer.request(channel, b"shell"))
        self.assertFalse(peer.request(channel, b"shell"))
        self.assertFalse(peer.request(channel, b"pty-req", NS(b"") + b"\0" * 20))
        self.unharmed()

    def test_extended_data(self) -> None:
        """S02: a viewer has no second stream: it is closed at the first byte of it."""
        peer = self.watch()
        peer.send(95, struct.pack(">2L", 0, 1) + NS(b"x"))
        self.ends(peer)
        self.unharmed()

    def test_floods(self) -> None:
        """S02: messages that mean nothing, and key exchanges, have a rate."""
        for number, payload in ((2, NS(b"")), (4, b"\0" + NS(b"") + NS(b"")), (3, b"\0" * 4)):
            peer = self.watch()
            for _ in range(101):
                peer.sendPacket(number, payload)
            settle(self.clock)
            self.ends(peer)
        peer = self.watch()
        peer.sendKexInit()
        settle(self.clock)
        self.ends(peer)
        self.unharmed()

    def test_many_channels(self) -> None:
        """Eight terminals, no more, and no more than eight anew in a second; tiny packets are refused."""
        peer = self.enter()
        self.assertEqual([peer.open() >= 0 for _ in range(10)], [True] * 8 + [False] * 2)
        for channel in range(8):
            peer.send(97, struct.pack(">L", channel))
        self.assertEqual(peer.open(), -1)
        peer.send(2, NS(b""), 1)
        peer.send(2, NS(b""))
        self.assertGreaterEqual(peer.open(), 0)
        self.assertEqual(self.enter().open(packet=100), -1)

    def test_no_shell(self) -> None:
        """Who logs in and asks for nothing is closed after the grace."""
        idle, silent = self.enter(), self.enter()
        idle.open()
        settle(self.clock, self.config.login_grace)
        self.ends(idle)
        self.ends(silent)
        self.unharmed()

    def test_a_close_that_is_not_answered(self) -> None:
        """A viewer whose session has ended cannot stay by not closing its side."""
        peer = self.watch()
        self.seats.revoke(user_id="usr_1")
        for _ in range(4):
            peer.type(b"x")
            settle(self.clock, 2)
        self.assertTrue(peer.gone)

    def test_many_packets_at_once(self) -> None:
        """A pile of small packets is taken in turns, whole and in order."""
        peer = self.watch()
        for _ in range(500):
            peer.sendPacket(94, struct.pack(">L", 0) + NS(b"\b"))
        peer.type(b"list\r")
        settle(self.clock, 6)
        settle(self.clock, 1)
        self.assertTrue(peer.screen().endswith(b"nobody\r\n"))

    @FUZZ
    @given(st.sampled_from(sorted(CONNECTION | {20, 30, 95, 200})), st.binary(max_size=60))
    def test_any_message(self, number: int, payload: bytes) -> None:
        """W18: any message with any payload: that connection lives or ends, the other lives."""
        peer = self.watch()
        peer.send(number, payload)
        peer.send(number, struct.pack(">L", 0) + payload)
        self.assertEqual(self.flushLoggedErrors(), [])
        peer.end.abortConnection()
        settle(self.clock, 11)

    def test_every_beginning(self) -> None:
        """W18: every beginning of a pty-req, a subsystem request, a window-change and an open."""
        zero = struct.pack(">L", 0)
        rows = [
            (98, zero + NS(b"pty-req") + b"\1" + NS(b"xterm") + b"\0" * 16 + NS(b"")),
            (98, zero + NS(b"subsystem") + b"\1" + NS(b"sftp")), (90, NS(b"session") + b"\0" * 12),
            (93, zero + zero), (80, NS(b"tcpip-forward") + b"\1"), (94, zero + NS(b"x")),
        ]  # fmt: skip
        for number, whole in rows:
            for cut in range(len(whole)):
                peer = self.enter()
                peer.open()
                peer.send(number, whole[:cut])
                peer.end.abortConnection()
                settle(self.clock)
        self.unharmed()


class ThrottleTests(SshCase):
    """F5, S04: what one address may do before anybody knows who it is."""

    config = SshConfig(enabled=True, connections_per_second=2.0, unauthenticated=8, unauthenticated_per_address=3)

    def test_rate_and_number(self) -> None:
        """Of one address a few at once; of all no more than their number, the oldest that says nothing gives way."""
        kept = [self.connect() for _ in range(20)]
        self.assertEqual(sum(kept), 3)
        late = self.dial("203.0.113.77")
        late.ask_login()
        for at in range(100, 150):
            self.assertTrue(self.connect(f"203.0.113.{at}"))
            settle(self.clock)
            self.assertLessEqual(len(self.listener._wires), 8)
        self.assertEqual(late.password("usr_1.srv_1", "good", 0), 52)
        self.drop_all()
        settle(self.clock, 1)
        self.assertTrue(self.connect())

    def connect(self, host: str = "203.0.113.5") -> bool:
        """Whether a connection from there is let in, where it says nothing."""
        found = self.line(host)
        if found is not None:
            mine, theirs = found
            mine.protocol = Said()
            theirs.protocol.makeConnection(theirs)
        return found is not None

    def drop_all(self) -> None:
        for wire, inside in list(self.listener._wires.items()):
            if inside is None:
                wire.drop()
        settle(self.clock)

    def test_backoff(self) -> None:
        """Wrong logins make the address wait, longer each time; a viewer that is in stays in."""
        viewer = self.watch()
        tried = 0
        for _ in range(4):
            if not self.connect("203.0.113.66"):
                break
            self.drop_all()
            settle(self.clock, 1)
            peer = self.dial("203.0.113.66")
            peer.ask_login()
            for _ in range(3):
                peer.password("usr_1.srv_1", "bad", 1.1)
                tried += 1
            settle(self.clock, 6)
        self.assertEqual(tried, 9)
        self.assertFalse(self.connect("203.0.113.66"))
        self.assertTrue(self.connect("203.0.113.65"))
        settle(self.clock, 61)
        self.assertTrue(self.connect("203.0.113.66"))
        viewer.type(b"list\r")
        self.assertTrue(viewer.screen().endswith(b"nobody\r\n"))


class ChurnTests(SshCase):
    """K29: connections that come and go leave nothing."""

    def test_leaves_nothing(self) -> None:
        settle(self.clock)
        before = len(self.clock.getDelayedCalls())
        for _ in range(5):
            for peer in (self.watch(), self.enter(), self.dial()):
                peer.end.abortConnection()
            settle(self.clock, 1)
        self.assertEqual((len(self.listener._wires), self.listener._throttle.waiting), (0, 0))
        self.assertLessEqual(len(self.clock.getDelayedCalls()), before)
        self.assertEqual(self.tasks.names(), [])
