"""The other side of the SSH console in memory: a client on Conch's own transport that can also say what none would."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import ConsoleConfig, SshConfig, SshUserConfig
from stellarstack.console.consoles import Consoles
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize, ServerStatus
from stellarstack.ssh.keybook import ConfiguredKeys
from stellarstack.ssh.listener import SshListener
from stellarstack.ssh.session import Hall
from stellarstack.tasks import Tasks
from stellarstack.viewing import Seat, SeatedSession
from tests.console_rooms import Bus, Directory, Tokens, inline
from tests.fake_container import Program
from tests.fake_engine import FakeEngine
from tests.ws_client import MemoryEnd, settle

WALL = 1_700_000_000.0


def new_key() -> Key:
    return Key(ed25519.Ed25519PrivateKey.generate())


def key_line(key: Key) -> str:
    line: str = key.public().toString("openssh").decode()
    return line


HOST_KEY = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


class FakeSeats:
    """Meets viewing.Seats: one list, `most` at once."""

    def __init__(self) -> None:
        self.most = 100
        self.taken: dict[SeatedSession, Seat] = {}
        self.typing: list[SeatedSession] = []

    def take(self, session: SeatedSession, seat: Seat) -> bool:
        if len(self.taken) >= self.most:
            return False
        self.taken[session] = seat
        return True

    def typed(self, session: SeatedSession) -> None:
        self.typing.append(session)

    def leave(self, session: SeatedSession) -> None:
        self.taken.pop(session, None)

    def revoke(self, jti: str | None = None, user_id: str | None = None, server_id: str | None = None) -> int:
        found = [session for session, seat in self.taken.items() if seat.claims.user_id == user_id]
        for session in found:
            session.close(4403, "revoked")
        return len(found)

    def rows(self) -> Sequence[Mapping[str, Json]]:
        return []


class SshPeer(SSHClientTransport):
    """A viewer. `said`: the messages it got after the key exchange, in order, as (number, payload)."""

    _log = Logger()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.said: list[tuple[int, bytes]] = []
        self.secure = False
        self.over: str | None = None  # why the server disconnected
        self.gone = False
        self.end: MemoryEnd = None  # type: ignore[assignment]  # our half of the line, set by dial
        self.channels = 0
        self.deaf = False  # it does not even answer a key exchange

    # ------------------------------------------------------------------ Conch's

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[int]:
        return succeed(1)

    def connectionSecure(self) -> None:
        self.secure = True

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if self.deaf:
            return
        if messageNum == 1:
            self.over = getNS(payload[4:])[0].decode()
        elif messageNum < 50 and messageNum != 6:
            super().dispatchMessage(messageNum, payload)
        else:
            self.said.append((messageNum, payload))

    def connectionLost(self, reason: Any = None) -> None:
        self.gone = True

    # ------------------------------------------------------------------ ours

    def send(self, number: int, payload: bytes = b"", after: float = 0.0) -> None:
        self.sendPacket(number, payload)
        settle(self._clock)
        settle(self._clock, after)

    def numbers(self) -> list[int]:
        return [number for number, _ in self.said]

    def ask_login(self) -> None:
        self.send(5, NS(b"ssh-userauth"))

    def password(self, login: str, token: str | bytes, after: float = 1.0) -> int:
        """Tries a password; answers the last message's number: 52 is in, 51 is not."""
        secret = token if isinstance(token, bytes) else token.encode()
        self.send(50, NS(login.encode()) + NS(b"ssh-connection") + NS(b"password") + b"\0" + NS(secret), after)
        return self.said[-1][0]

    def offer(self, login: str, key: Key, *, algorithm: bytes = b"", sign: bool = True, **wrong: Any) -> int:
        """Tries a public key; answers as `password`."""
        algorithm = algorithm or key.sshType()
        body = NS(login.encode()) + NS(b"ssh-connection") + NS(b"publickey") + bytes([sign])
        body += NS(algorithm) + NS(key.public().blob())
        if sign:
            signed = NS(wrong.get("session", self.sessionID or b"")) + b"\x32" + body
            body += NS(key.sign(signed, signatureType=wrong.get("signature", algorithm)))
        self.send(50, body, 1.0)
        return self.said[-1][0]

    def open(self, kind: bytes = b"session", window: int = 1 << 21, packet: int = 32768, rest: bytes = b"") -> int:
        """Opens a channel; answers the server's number of it, or -1."""
        self.send(90, NS(kind) + struct.pack(">3L", self.channels, window, packet) + rest)
        self.channels += 1
        number, payload = self.said[-1]
        found: int = struct.unpack(">L", payload[4:8])[0]
        return found if number == 91 else -1

    def request(self, channel: int, kind: bytes, rest: bytes = b"") -> bool:
        """A channel request that wants an answer; whether it was granted."""
        before = len(self.said)
        self.send(98, struct.pack(">L", channel) + NS(kind) + b"\1" + rest)
        return next(number for number, _ in self.said[before:] if number in (99, 100)) == 99

    def shell(self, *, pty: tuple[int, int] | None = (80, 24), **more: Any) -> int:
        """A terminal at the console; answers its channel."""
        channel = self.open(**more)
        if pty is not None:
            assert self.request(channel, b"pty-req", NS(b"xterm") + struct.pack(">4L", *pty, 0, 0) + NS(b"\0"))
        assert self.request(channel, b"shell")
        return channel

    def type(self, text: bytes, channel: int = 0, after: float = 0.0) -> None:
        self.send(94, struct.pack(">L", channel) + NS(text), after)

    def window(self, more: int, channel: int = 0) -> None:
        self.send(93, struct.pack(">2L", channel, more))

    def screen(self, ours: int = 0) -> bytes:
        """All output of one of its channels."""
        mine = struct.pack(">L", ours)
        return b"".join(getNS(payload[4:])[0] for number, payload in self.said if number == 94 and payload[:4] == mine)

    def status(self) -> int | None:
        """The exit status it was told."""
        for number, payload in self.said:
            if number == 98 and getNS(payload[4:])[0] == b"exit-status":
                found: int = struct.unpack(">L", payload[-4:])[0]
                return found
        return None


class SshCase(SynchronousTestCase):
    """A node with one running server, srv_1, that has printed `hello`, and its SSH console."""

    config = SshConfig(
        enabled=True, connections_per_second=1000.0, unauthenticated=1000, unauthenticated_per_address=100
    )
    console_config = ConsoleConfig()
    users: Mapping[str, SshUserConfig] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = FakeEngine(
            clock=self.clock, images={"game": Program(output="hello\n", replies={"list": "nobody\n"})}
        )
        self.bus, self.directory, self.tasks = Bus(), Directory(), Tasks()
        self.tokens = Tokens(self.wall)
        self.seats = FakeSeats()
        self.lines: list[tuple[str, str]] = []
        self.consoles = Consoles(
            engine=self.engine, directory=Path(self.mktemp()), config=self.console_config, bus=self.bus,
            node_id="node_t", reactor=self.clock, tasks=self.tasks, now=self.wall, in_thread=inline,
        )  # fmt: skip
        self.listener = SshListener(
            config=self.config, hall=self.hall(), tokens=self.tokens, host_key=HOST_KEY, reactor=self.clock,
            keys=ConfiguredKeys(self.users, self.config.key_session, self.wall),
        )  # fmt: skip
        self.listener.look_after()
        self.tokens.add("good")
        self.directory.servers["srv_1"] = ServerStatus.RUNNING
        self.console = self.now(self.consoles.open("srv_1", ServerStatus.RUNNING))
        body: dict[str, Json] = {"Image": "game", "Tty": True, "OpenStdin": True}
        self.container = self.now(self.engine.create_container("game_1", body))
        self.now(self.console.attach(self.container))
        self.now(self.engine.start(self.container))
        self.addCleanup(self.shut)

    def hall(self) -> Hall:
        return Hall(
            feeds=self.consoles, directory=self.directory, seats=self.seats,
            lines=lambda server, line: self.lines.append((server, line)), config=self.console_config,
            node_id="node_t", bus=self.bus, clock=self.clock, now=self.wall, tasks=self.tasks,
        )  # fmt: skip

    def shut(self) -> None:
        for work in (self.listener.stop(), self.consoles.stop(), self.tasks.cancel_all()):
            closing = self.start(work)
            for _ in range(15):
                settle(self.clock, 1)
            self.successResultOf(closing)
        self.assertEqual(self.seats.taken, {})
        self.assertEqual(len(self.listener), 0)

    def wall(self) -> float:
        return WALL + self.clock.seconds()

    def start(self, coroutine: Any) -> Any:
        found = ensureDeferred(coroutine)
        settle(self.clock)
        return found

    def now(self, coroutine: Any) -> Any:
        return self.successResultOf(self.start(coroutine))

    def line(self, host: str = "203.0.113.5") -> tuple[MemoryEnd, MemoryEnd] | None:
        """A TCP connection, both halves: ours and the daemon's. None: it was not let in."""
        address = IPv4Address("TCP", host, 40000)
        wire = self.listener.buildProtocol(address)
        if wire is None:
            return None
        mine, theirs = MemoryEnd(self.clock, address), MemoryEnd(self.clock, address)
        mine.other, theirs.other = theirs, mine
        theirs.protocol = wire
        return mine, theirs

    def dial(self, host: str = "203.0.113.5") -> SshPeer:
        """A viewer whose key exchange is done."""
        found = self.line(host)
        assert found is not None
        mine, theirs = found
        peer = SshPeer(self.clock)
        peer.end, mine.protocol = mine, peer
        theirs.protocol.makeConnection(theirs)
        peer.makeConnection(mine)
        settle(self.clock)
        assert peer.secure
        return peer

    def enter(self, login: str = "usr_1.srv_1", token: str = "good") -> SshPeer:
        """A viewer that has logged in."""
        peer = self.dial()
        peer.ask_login()
        self.assertEqual(peer.password(login, token, 0), 52)
        return peer

    def watch(self, login: str = "usr_1.srv_1", token: str = "good", **more: Any) -> SshPeer:
        """A viewer at the console."""
        peer = self.enter(login, token)
        peer.shell(**more)
        settle(self.clock)
        return peer

    def say(self, text: str | bytes) -> None:
        self.engine.print("game_1", text)
        settle(self.clock)

    def size(self) -> PtySize:
        """Of the game's terminal."""
        process = self.engine.get(self.container).process
        assert process is not None
        return process.size

    def audits(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event["action"], event["data"]) for event in self.bus.named("console.audit")]
