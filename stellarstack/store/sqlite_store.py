"""The store as the other rooms see it: each method is one call into the database's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger

from stellarstack.config import LimitsConfig
from stellarstack.core.messages import Command, Event, Json, OutboxRow
from stellarstack.errors import StoreFailed, TimedOut
from stellarstack.interfaces import Accepted, JournalEntry, OutboxState
from stellarstack.store.database import Database
from stellarstack.store.opening import BUSY_SECONDS, StoreIssue, open_connection
from stellarstack.store.writer import QUEUE_MOST, Writer
from stellarstack.tasks import within

# `healthy` writes to the disk at most this often, and takes no answer within as long for a no.
PROBE_SECONDS = 5.0


class SqliteStore:
    """Meets `interfaces.Store`. `path` is the database file; its folder is made where it is missing.

    `reactor` also tells the time (IReactorTime). `now` tells Unix seconds and is called in the thread. `issue` gets
    what is found after `open` has answered, in the reactor's thread.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        path: Path,
        node_id: str,
        reactor: IReactorFromThreads,
        now: Callable[[], float] = time.time,
        limits: LimitsConfig | None = None,
        issue: Callable[[StoreIssue], None] | None = None,
        busy_seconds: float = BUSY_SECONDS,
        queue_most: int = QUEUE_MOST,
    ) -> None:
        self._path = path
        self._node_id = node_id
        self._now = now
        self._limits = limits or LimitsConfig()
        self._busy_seconds = busy_seconds
        self._clock = cast(IReactorTime, reactor)
        self._later = issue
        self._found: list[StoreIssue] | None = []
        self._probed: tuple[float, bool] | None = None
        self._writer = Writer(
            reactor=reactor, open_database=self._open_database, issue=self._issue, queue_most=queue_most
        )

    async def open(self) -> list[StoreIssue]:
        """Starts the thread and opens the file. Never fails: what is wrong is in the answer, and where the file cannot
        be opened now, calls raise StoreFailed until it can.
        """
        self._writer.start()
        try:
            await self._writer.call(lambda database: None)
        except StoreFailed as error:
            self._log.error("the database is not usable yet: {reason}", reason=str(error))
        found, self._found = self._found or [], None
        return found

    async def close(self) -> None:
        """Finishes what was called and closes the file; calls from now on raise StoreFailed. Safe to repeat."""
        await self._writer.stop()

    # ------------------------------------------------------------- journal

    async def accept(self, command: Command, ack: Event) -> Accepted:
        accepted: Accepted = await self._writer.call(lambda database: database.journal.accept(command, ack))
        return accepted

    async def begin(self, command_id: str) -> None:
        await self._writer.call(lambda database: database.journal.begin(command_id))

    async def finish(self, command_id: str, result: Event) -> Sequence[OutboxRow]:
        rows: list[OutboxRow] = await self._writer.call(lambda database: database.journal.finish(command_id, result))
        return rows

    async def unfinished(self) -> Sequence[JournalEntry]:
        entries: list[JournalEntry] = await self._writer.call(lambda database: database.journal.unfinished())
        return entries

    # ------------------------------------------------------------- outbox

    async def append(self, events: Sequence[Event]) -> Sequence[OutboxRow]:
        rows: list[OutboxRow] = await self._writer.call(lambda database: database.outbox.append(events))
        return rows

    async def outbox_after(self, seq: int, limit: int) -> Sequence[OutboxRow]:
        rows: list[OutboxRow] = await self._writer.call(lambda database: database.outbox.after(seq, limit))
        return rows

    async def delivered(self, up_to: int) -> None:
        await self._writer.call(lambda database: database.outbox.delivered(up_to))

    async def outbox_state(self) -> OutboxState:
        state: OutboxState = await self._writer.call(lambda database: database.outbox.state())
        return state

    async def raise_sequence(self, seq: int) -> None:
        await self._writer.call(lambda database: database.outbox.raise_sequence(seq))

    async def rewind(self, seq: int) -> int:
        count: int = await self._writer.call(lambda database: database.outbox.rewind(seq))
        return count

    # ------------------------------------------------------------- servers, values, denylist

    async def put_server(self, server_id: str, document: Mapping[str, Json]) -> None:
        await self._writer.call(lambda database: database.shelf.put_server(server_id, document))

    async def remove_server(self, server_id: str) -> None:
        await self._writer.call(lambda database: database.shelf.remove_server(server_id))

    async def servers(self) -> Mapping[str, Mapping[str, Json]]:
        found: Mapping[str, Mapping[str, Json]] = await self._writer.call(lambda database: database.shelf.servers())
        return found

    async def get_value(self, key: str) -> Json:
        value: Json = await self._writer.call(lambda database: database.shelf.get_value(key))
        return value

    async def put_value(self, key: str, value: Json) -> None:
        await self._writer.call(lambda database: database.shelf.put_value(key, value))

    async def deny(self, jti: str, expires_at: float) -> None:
        await self._writer.call(lambda database: database.shelf.deny(jti, expires_at))

    async def denied(self) -> Mapping[str, float]:
        found: Mapping[str, float] = await self._writer.call(lambda database: database.shelf.denied())
        return found

    async def healthy(self) -> bool:
        """Whether a commit works: one is tried, at most every 5 seconds."""
        now = self._clock.seconds()
        if self._probed is not None and 0 <= now - self._probed[0] < PROBE_SECONDS:
            return self._probed[1]
        try:
            await within(self._clock, PROBE_SECONDS, "a commit", self.put_value("store.probe", self._now()))
        except (StoreFailed, TimedOut):
            works = False
        else:
            works = True
        self._probed = (now, works)
        return works

    # ------------------------------------------------------------- the writer's side

    def _open_database(self, suspect: bool) -> tuple[Database, list[StoreIssue]]:
        connection, issues = open_connection(
            self._path, node_id=self._node_id, now=self._now, busy_seconds=self._busy_seconds, suspect=suspect
        )
        try:
            return Database(connection, node_id=self._node_id, now=self._now, limits=self._limits), issues
        except Exception:
            connection.close()
            raise

    def _issue(self, issue: StoreIssue) -> None:
        self._log.critical("{code}: {reason}", code=issue.code, reason=issue.message)
        if self._found is not None:
            self._found.append(issue)
        elif self._later is not None:
            self._later(issue)
