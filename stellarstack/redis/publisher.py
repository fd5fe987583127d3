"""Sends events: the durable ones out of the outbox, in order and each once in the log; the transient ones straight.

A batch goes as one transaction, so that Redis takes all of its XADDs or none: a hole in the log could never be filled
again, since an id below the newest is refused (PROTOCOL 3). Where an ACL forbids MULTI, rows go one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from stellarstack.core.messages import OutboxRow
from stellarstack.errors import RedisRefused, RedisUnavailable, StoreFailed
from stellarstack.interfaces import OutboxState
from stellarstack.redis.answer import Answer
from stellarstack.redis.connection import delay_before
from stellarstack.redis.dial import OnMessage
from stellarstack.redis.event_log import EventLog
from stellarstack.redis.wire import Argument, Reply, ReplyError, Wire, checked
from stellarstack.tasks import sleep

BATCH_ROWS = 500
BATCH_BYTES = 2**20
# Of the rows read ahead from the outbox.
READ_BYTES = 4 * 2**20
MOST_IN_FLIGHT = 1000
MOST_BYTES_IN_FLIGHT = 8 * 2**20
WAIT_MS = 1000
DRAIN_POLL = 0.02
HIGHEST = 2**62  # what the database can count to, with room for renumbering
# Redis is up but takes no events now (out of memory, disk full, or no longer the primary).
_WRONG_SERVER = ("READONLY", "MASTERDOWN")


class Outbox(Protocol):
    """What the publisher needs of interfaces.Store."""

    async def outbox_after(self, seq: int, limit: int) -> Sequence[OutboxRow]: ...

    async def delivered(self, up_to: int) -> None: ...

    async def outbox_state(self) -> OutboxState: ...

    async def raise_sequence(self, seq: int) -> None: ...

    async def rewind(self, seq: int) -> int: ...


class OutboxPublisher:
    """The line that sends; the bus knows it as `Publisher`.

    `on_sequence_reset(seq)`: the log holds what is not ours up to `seq` (a lost database, another writer), and
    numbering goes on above it.
    """

    _log = Logger()
    name = "publisher"
    on_message: OnMessage | None = None

    def __init__(
        self,
        *,
        node_id: str,
        clock: IReactorTime,
        store: Outbox,
        log_length: int,
        on_sequence_reset: Callable[[int], None],
        wait_for_replica: bool = False,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._event_log = EventLog(node_id, log_length)
        self._clock = clock
        self._store = store
        self._on_sequence_reset = on_sequence_reset
        self._wait_for_replica = wait_for_replica
        self._jitter = jitter
        self._wire: Wire | None = None
        self._bell: Deferred[None] | None = None
        self._rung = False
        self._sent = self._marked = 0
        self._tried = 0  # the highest number that went out to any Redis, answered or not
        self._limit = BATCH_ROWS
        self._transactions = True
        self._in_flight = self._bytes_in_flight = 0
        self._gathered: list[tuple[str, bytes, Answer]] = []

    # -------------------------------------------------------------- as the bus sees it

    def wake(self) -> None:
        """New durable rows are in the outbox."""
        self._rung = True
        if self._bell is not None:
            bell, self._bell = self._bell, None
            bell.callback(None)

    def publish(self, channel: str, body: bytes) -> Answer | None:
        """A transient event. None: dropped, since Redis is away or too many wait. Else fires with who received it.

        RedisUnavailable where the connection broke before Redis answered.
        """
        wire = self._wire
        if wire is None or not wire.open:
            return None
        if self._in_flight >= MOST_IN_FLIGHT or self._bytes_in_flight + len(body) > MOST_BYTES_IN_FLIGHT:
            return None
        self._in_flight += 1
        self._bytes_in_flight += len(body)
        if not self._gathered:
            self._clock.callLater(0, self._send_gathered, wire)
        answer = Answer()
        self._gathered.append((channel, body, answer))
        return answer

    def _send_gathered(self, wire: Wire) -> None:
        """All transient events of one turn of the reactor in one write: a flooded console tells many lines at once."""
        gathered, self._gathered = self._gathered, []
        answered = wire.batch([("PUBLISH", channel, body) for channel, body, _ in gathered])
        answered.addBoth(self._landed, gathered)

    def _landed(self, replies: list[Reply] | Failure, gathered: Sequence[tuple[str, bytes, Answer]]) -> None:
        for number, (_, body, answer) in enumerate(gathered):
            self._in_flight -= 1
            self._bytes_in_flight -= len(body)
            reply = replies if isinstance(replies, Failure) else replies[number]
            answer.settle(Failure(reply) if isinstance(reply, RedisUnavailable) else reply)

    async def drained(self, deadline: float) -> bool:
        """Waits until the outbox is empty, `deadline` seconds at most, not at all while Redis is away.

        Answers whether it is empty. For the stop: what is left goes out after the next start.
        """
        until = self._clock.seconds() + deadline
        try:
            while (await self._store.outbox_state()).pending_rows:
                if self._wire is None or self._clock.seconds() >= until:
                    return False
                self.wake()
                await sleep(self._clock, DRAIN_POLL)
        except StoreFailed:
            return False
        return True

    # -------------------------------------------------------------- as the connection sees it

    async def prepare(self, wire: Wire) -> None:
        """Compares the log's newest entry with our own counter, both ways."""
        await self._event_log.may_add(wire)
        newest, event_id = await self._event_log.newest(wire)
        state = await self._store.outbox_state()
        self._tried = max(self._tried, state.delivered_seq)
        if newest > state.last_seq or await self._is_strange(newest, event_id):
            await self._go_above(newest)
        elif newest < state.delivered_seq:
            count = await self._store.rewind(newest)
            self._log.warn(
                "the event log lost its tail above {newest}: sending {count} again", newest=newest, count=count
            )
        self._sent = self._marked = 0
        self._transactions = await _may_transact(wire)
        self._wire = wire

    async def serve(self, wire: Wire) -> None:
        failures = 0
        try:
            while True:
                try:
                    await self._drain(wire)
                    failures = 0
                    await self._rest()
                except (ReplyError, StoreFailed) as error:
                    if isinstance(error, ReplyError) and error.word in _WRONG_SERVER:
                        raise
                    failures += 1
                    delay = delay_before(failures, self._jitter())
                    self._log.warn("events wait {delay:.1f} s: {reason}", delay=delay, reason=str(error))
                    await sleep(self._clock, delay)
        finally:
            self._wire = None

    # -------------------------------------------------------------- inside

    async def _is_strange(self, newest: int, event_id: str | None) -> bool:
        """Whether the log's newest entry is not the event that waits here under its number: our database was lost.

        Redis would refuse the rows up to it as repeats, and they would count as delivered.
        """
        if event_id is None or not newest:
            return False
        rows = await self._store.outbox_after(newest - 1, 1)
        return bool(rows) and rows[0].seq == newest and rows[0].event_id != event_id

    async def _drain(self, wire: Wire) -> None:
        """Sends until the outbox is empty. What was sent but could not be marked so is not sent again."""
        while True:
            if self._sent > self._marked:
                await self._store.delivered(self._sent)
                self._marked = self._sent
            self._rung = False
            rows = await self._store.outbox_after(self._sent, self._limit)
            if not rows:
                return
            for batch in batches(rows):
                if not await self._send(wire, batch):
                    break
            self._limit = max(1, min(BATCH_ROWS, READ_BYTES * len(rows) // sum(len(row.body) for row in rows)))

    async def _send(self, wire: Wire, rows: Sequence[OutboxRow]) -> bool:
        """False: what is left in the outbox has other numbers now, and is to be read again."""
        for part in [rows] if self._transactions else [[row] for row in rows]:
            before, self._tried = self._tried, max(self._tried, part[-1].seq)
            refused = await self._add(wire, part)
            if refused and not await self._had_gone_out(wire, refused, before):
                return False
            self._sent = part[-1].seq
        if self._wait_for_replica and not await wire.call("WAIT", 1, WAIT_MS):
            self._log.warn("no replica confirmed events up to {seq} within {wait} ms", seq=rows[-1].seq, wait=WAIT_MS)
        return True

    async def _add(self, wire: Wire, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Adds and publishes; answers the rows whose number the log refuses as not above its top."""
        commands = [command for row in rows for command in self._commands(row)]
        if len(rows) == 1:
            replies = await wire.batch(commands)
        else:
            answered = await wire.batch([("MULTI",), *commands, ("EXEC",)])
            if not isinstance(answered[-1], list):
                _checked_all(answered)
                raise ReplyError("EXEC gave no answers")
            replies = answered[-1]
        refused = []
        rest = iter(replies)
        for row in rows:
            added = next(rest)
            if isinstance(added, ReplyError) and "equal or smaller" in added.text:
                refused.append(row)
            else:
                checked(added)
            _checked_all([next(rest) for _ in row.channels])
        return refused

    async def _had_gone_out(self, wire: Wire, refused: Sequence[OutboxRow], tried: int) -> bool:
        """Whether what the log refuses is a repeat. If not, other entries stand there, and we go on above them.

        A row up to `tried` that the log, cut by somebody, holds no more is a repeat as well.
        """
        lacking = await self._event_log.lacks(wire, refused)
        if not lacking:
            return True
        newest, _ = await self._event_log.newest(wire)
        if newest < lacking[0].seq:
            lacking = [row for row in lacking if row.seq > tried]
            if not lacking:
                return True
            newest = 2 * lacking[-1].seq  # the top was cut off, and its number is not to be had: feel the way upwards
        await self._store.delivered(lacking[0].seq - 1)
        await self._go_above(newest)
        return False

    async def _go_above(self, newest: int) -> None:
        """Numbers up to `newest` are not ours: what waits moves above them, and the node is told (PROTOCOL 3)."""
        if newest >= HIGHEST:
            raise RedisRefused(f"the event log ends at {newest}: no room is left above; delete the stream")
        await self._store.raise_sequence(newest)
        self._log.warn("the event log holds entries that are not ours up to {newest}: going on above", newest=newest)
        self._sent = self._marked = self._tried = 0
        self._on_sequence_reset(newest)

    def _commands(self, row: OutboxRow) -> list[Sequence[Argument]]:
        published = [("PUBLISH", channel, row.body) for channel in row.channels]
        return [self._event_log.adding(row), *published]

    async def _rest(self) -> None:
        if self._rung:
            return
        self._bell = Deferred()
        try:
            await self._bell
        finally:
            self._bell = None


async def _may_transact(wire: Wire) -> bool:
    """Tried on an empty transaction: where MULTI is refused, what follows it in a batch would run all the same."""
    begun, ended = await wire.batch([("MULTI",), ("EXEC",)])
    if isinstance(begun, RedisRefused):
        return False
    checked(begun)
    checked(ended)
    return True


def batches(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    """Cuts rows into runs of at most BATCH_ROWS rows and, where a row alone is not bigger, BATCH_BYTES bytes."""
    cut: list[list[OutboxRow]] = []
    size = 0
    for row in rows:
        cost = len(row.body) * (1 + len(row.channels))
        if not cut or size + cost > BATCH_BYTES or len(cut[-1]) == BATCH_ROWS:
            cut.append([])
            size = 0
        cut[-1].append(row)
        size += cost
    return cut


def _checked_all(replies: Sequence[Reply]) -> Sequence[Reply]:
    """The replies, where none is an error; raises the first one."""
    for reply in replies:
        checked(reply)
    return replies
