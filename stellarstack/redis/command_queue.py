"""Reads the durable queue of commands: a stream whose entries leave it once they are journaled (PROTOCOL 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.messages import Origin, commands_queue
from stellarstack.redis.connection import delay_before
from stellarstack.redis.dial import OnMessage
from stellarstack.redis.letterbox import Letterbox
from stellarstack.redis.wire import Argument, ReplyError, Wire, checked
from stellarstack.tasks import sleep

GROUP = "daemon"
# With entries of 1 MiB each a batch stays under the wire's REPLY_LIMIT.
BATCH = 16
# Answers at least this often: that is this connection's pulse, since a PING would wait behind the read.
BLOCK_MS = 4000
PENDING, NEW = b"0", b">"
# Pending entries above the highest id there can be: none.
BEYOND = b"18446744073709551615-18446744073709551615"
_GROUP_GONE = ("NOGROUP", "UNBLOCKED")


class Entry(NamedTuple):
    """`command` is empty where the entry has no such field; `deleted`: it was taken away while it was pending."""

    id: bytes
    command: bytes
    deleted: bool = False


class CommandQueue:
    """The line that reads the queue: first what an earlier connection left pending, then what is new, in order."""

    _log = Logger()
    name = "command queue"
    on_message: OnMessage | None = None

    def __init__(self, *, node_id: str, clock: IReactorTime, letterbox: Letterbox, jitter: Callable[[], float]) -> None:
        self._key = commands_queue(node_id)
        self._consumer = node_id
        self._clock = clock
        self._letterbox = letterbox
        self._jitter = jitter
        self._failures = 0
        self._careful = False
        self._suspect: bytes | None = None

    async def prepare(self, wire: Wire) -> None:
        try:
            await wire.call("XGROUP", "CREATE", self._key, GROUP, "0", "MKSTREAM")
        except ReplyError as error:
            if error.word != "BUSYGROUP":
                raise
        # takes nothing; shows before we count as connected whether we may read at all
        await self._read(wire, BEYOND)

    async def serve(self, wire: Wire) -> None:
        try:
            while True:
                try:
                    await self._work(wire)
                except ReplyError as error:
                    if error.word not in _GROUP_GONE:
                        raise
                    self._log.warn("the command queue was deleted behind us and is made anew")
                    await self.prepare(wire)
        finally:
            self._careful = self._careful or wire.overfull
            if not wire.overfull:
                self._suspect = None

    async def _work(self, wire: Wire) -> None:
        if self._careful:
            await self._step_by_step(wire)
        position = PENDING
        while True:
            entries = await self._read(wire, position)
            if not await self._settle(wire, entries):
                position = PENDING
                await self._rest()
            elif not entries and position == PENDING:
                position = NEW

    async def _step_by_step(self, wire: Wire) -> None:
        """Pending entries were too big for one reply: reads them one at a time, each known by its id before.

        One that is too big all by itself broke the connection before, and is told to the intake as empty.
        """
        while True:
            claimed = await wire.call("XAUTOCLAIM", self._key, GROUP, self._consumer, 0, "0", "COUNT", 1, "JUSTID")
            if not claimed[1]:
                self._careful = False
                return
            entry_id: bytes = claimed[1][0]
            if entry_id == self._suspect:
                entries: Sequence[Entry] = [Entry(entry_id, b"")]
            else:
                self._suspect = entry_id
                entries = await self._read(wire, PENDING, 1)
                self._suspect = None
            if not await self._settle(wire, entries):
                await self._rest()

    async def _read(self, wire: Wire, position: bytes, count: int = BATCH) -> Sequence[Entry]:
        block = ("BLOCK", BLOCK_MS) if position == NEW else ()
        found = await wire.call(
            "XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, *block, "STREAMS", self._key, position
        )
        return [_entry(raw) for raw in found[0][1]] if found else []

    async def _settle(self, wire: Wire, entries: Sequence[Entry]) -> bool:
        """One after the other, so that none overtakes one that could not be kept. Answers whether all were."""
        settled: list[bytes] = []
        for entry in entries:
            if not entry.deleted and not await self._letterbox.put(entry.command, Origin.QUEUE, entry.id.decode()):
                break
            settled.append(entry.id)
        if settled:
            self._failures = 0
            removal: list[tuple[Argument, ...]] = [
                ("XACK", self._key, GROUP, *settled),
                ("XDEL", self._key, *settled),
            ]
            for reply in await wire.batch(removal):
                checked(reply)
        return len(settled) == len(entries)

    async def _rest(self) -> None:
        self._failures += 1
        await sleep(self._clock, delay_before(self._failures, self._jitter()))


def _entry(raw: Any) -> Entry:
    entry_id, fields = raw
    if fields is None:
        return Entry(entry_id, b"", deleted=True)
    for name, value in zip(fields[::2], fields[1::2], strict=False):
        if name == b"command":
            return Entry(entry_id, value)
    return Entry(entry_id, b"")
