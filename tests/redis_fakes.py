"""An outbox in memory, an intake that writes down, and a scripted Redis in memory: for the tests of the Redis room."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from stellarstack.core.messages import Origin, OutboxRow
from stellarstack.errors import StoreFailed
from stellarstack.interfaces import OutboxState
from stellarstack.redis.dial import OnMessage
from stellarstack.redis.wire import Wire

NODE = "node_test1"


def row(seq: int, *channels: str, body: bytes | None = None) -> OutboxRow:
    return OutboxRow(
        seq, f"evt_{seq}", "server.status", body or b'{"seq":%d}' % seq, channels or (f"stellar:nodes:{NODE}:events",)
    )


class MemoryOutbox:
    """The outbox part of Store, as its docstrings say. `failing`: so many next calls raise StoreFailed."""

    def __init__(self, rows: Sequence[OutboxRow] = ()) -> None:
        self.rows = list(rows)
        self.delivered_seq = 0
        self.failing: set[str] = set()
        self.most_asked = 0
        self.rewound: list[int] = []

    def add(self, count: int, *channels: str) -> None:
        start = self.rows[-1].seq if self.rows else self.delivered_seq
        self.rows += [row(start + number, *channels) for number in range(1, count + 1)]

    def _check(self, name: str) -> None:
        if name in self.failing:
            raise StoreFailed("the disk is full")

    async def outbox_after(self, seq: int, limit: int) -> Sequence[OutboxRow]:
        self._check("outbox_after")
        self.most_asked = max(self.most_asked, limit)
        above = max(seq, self.delivered_seq)
        first = self.rows[0].seq if self.rows else 0
        begin = max(0, above + 1 - first)
        return self.rows[begin : begin + limit]

    async def delivered(self, up_to: int) -> None:
        self._check("delivered")
        self.delivered_seq = max(self.delivered_seq, up_to)

    async def outbox_state(self) -> OutboxState:
        self._check("outbox_state")
        pending = [row for row in self.rows if row.seq > self.delivered_seq]
        last = self.rows[-1].seq if self.rows else self.delivered_seq
        return OutboxState(last, self.delivered_seq, len(pending), sum(len(row.body) for row in pending))

    async def raise_sequence(self, seq: int) -> None:
        pending = [row for row in self.rows if row.seq > self.delivered_seq]
        self.delivered_seq = seq
        self.rows = [row(seq + number, *old.channels) for number, old in enumerate(pending, 1)]

    async def rewind(self, seq: int) -> int:
        self.rewound.append(seq)
        before, self.delivered_seq = self.delivered_seq, seq
        return sum(seq < row.seq <= before for row in self.rows)


class RecordingIntake:
    """Writes down what it receives. `hold`, where set, is awaited first; `failures`: so many StoreFailed come first."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Origin, str | None]] = []
        self.failures = 0
        self.hold: Callable[[], Awaitable[Any]] | None = None

    @property
    def bodies(self) -> list[bytes]:
        return [raw for raw, _, _ in self.received]

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreFailed("the disk is full")
        self.received.append((raw, origin, entry_id))
        if self.hold is not None:
            await self.hold()


def resp(reply: Any) -> bytes:
    """A reply as it stands on the wire; an Exception is an error, a str a status."""
    match reply:
        case None:
            return b"$-1\r\n"
        case Exception():
            return b"-%b\r\n" % str(reply).encode()
        case str():
            return b"+%b\r\n" % reply.encode()
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
    return b"*%d\r\n" % len(reply) + b"".join(map(resp, reply))


class _Transport(StringTransport):
    def __init__(self, peer: ScriptedRedis) -> None:
        super().__init__()
        self._peer = peer
        self.gone = False

    def write(self, data: bytes) -> None:
        self._peer.hear(data)

    def abortConnection(self) -> None:
        self._peer.clock.callLater(0, self._peer.hang_up, ConnectionAborted())

    loseConnection = abortConnection


SILENT = object()
Answering = Callable[[list[bytes]], Any]


class ScriptedRedis:
    """The other end of one wire, in memory. `replies`: command name to reply, to a list of replies in turn, or to a
    function of the arguments; SILENT gives none. What has no entry is answered with OK. `asked` holds every command,
    `writes` counts how they came.
    """

    def __init__(self, clock: Clock, on_message: OnMessage | None = None, **replies: Any) -> None:
        self.clock = clock
        self.asked: list[list[bytes]] = []
        self.writes = 0
        self.replies: dict[str, Any] = replies
        self._gone = False
        self._transaction: list[Any] | None = None
        self.wire = Wire(clock, on_message=on_message)
        self.transport = _Transport(self)
        self.wire.makeConnection(self.transport)

    @property
    def names(self) -> list[str]:
        return [command[0].decode() for command in self.asked]

    def hear(self, heard: bytes) -> None:
        """What the wire writes is always whole commands."""
        position = 0
        self.writes += 1
        while position < len(heard) and not self._gone:
            command, position = _command(heard, position)
            self.asked.append(command)
            reply = self._reply(command)
            if reply is not SILENT:
                # as over a socket: never before the asker's write has returned
                self.clock.callLater(0, self.say, reply)

    def say(self, reply: Any) -> None:
        if not self._gone:
            self.wire.dataReceived(resp(reply))

    def hang_up(self, why: Exception | None = None) -> None:
        if not self._gone:
            self._gone = True
            self.wire.connectionLost(Failure(why or ConnectionDone()))

    def _reply(self, command: list[bytes]) -> Any:
        name = command[0].decode()
        reply = self._scripted(name, command)
        if name == "MULTI" and reply == "OK":
            self._transaction = []
        elif name == "EXEC" and self._transaction is not None:
            done, self._transaction = self._transaction, None
            return done if reply == "OK" else reply
        elif self._transaction is not None:
            self._transaction.append(reply)
            return "QUEUED"
        return reply

    def _scripted(self, name: str, command: list[bytes]) -> Any:
        reply = self.replies.get(name, "OK")
        if callable(reply):
            return reply(command)
        if isinstance(reply, deque):
            return reply.popleft() if reply else SILENT
        return reply


def _command(heard: bytes, position: int) -> tuple[list[bytes], int]:
    """The command that begins at `position`, and where the next one does."""

    def number() -> int:
        nonlocal position
        end = heard.index(b"\r\n", position)
        found = int(heard[position + 1 : end])
        position = end + 2
        return found

    parts = []
    for _ in range(number()):
        size = number()
        parts.append(heard[position : position + size])
        position += size + 2
    return parts, position


class ScriptedDialer:
    """Answers each dial with a new ScriptedRedis, or with the next error of `errors`."""

    def __init__(self, clock: Clock, **replies: Any) -> None:
        self.clock = clock
        self.replies = replies
        self.errors: list[Exception] = []
        self.dialled: list[float] = []
        self.peers: list[ScriptedRedis] = []

    async def dial(self, on_message: OnMessage | None = None) -> Wire:
        self.dialled.append(self.clock.seconds())
        if self.errors:
            raise self.errors.pop(0)
        peer = ScriptedRedis(self.clock, on_message, **self.replies)
        self.peers.append(peer)
        return peer.wire


def settle(clock: Clock, rounds: int = 20) -> None:
    """Lets what is due now happen, and what that makes due."""
    for _ in range(rounds):
        clock.advance(0)
