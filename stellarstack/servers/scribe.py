"""Keeps one server's newest record in the store and tells its states in order, also over a database that stumbles."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.bus import Bus
from stellarstack.core.messages import Event
from stellarstack.core.records import ServerRecord
from stellarstack.errors import StoreFailed
from stellarstack.interfaces import Store
from stellarstack.tasks import Tasks, sleep

RETRY_DELAYS = (0.2, 1.0, 5.0)  # seconds between attempts while the store cannot commit


class Scribe:
    """`again` is called when an older state was committed after a newer one, so that the newest is told once more."""

    _log = Logger()

    def __init__(
        self, *, server_id: str, store: Store, bus: Bus, clock: IReactorTime, tasks: Tasks, again: Callable[[], None]
    ) -> None:
        self._server_id = server_id
        self._store = store
        self._bus = bus
        self._clock = clock
        self._tasks = tasks
        self._again = again
        self._newest: ServerRecord | None = None
        self._written: ServerRecord | None = None
        self._writing = False
        self._retired = False
        self._number = 0
        self._told = 0

    @property
    def retired(self) -> bool:
        """Whether the server was deleted."""
        return self._retired

    def keep(self, record: ServerRecord) -> None:
        """Writes `record` down; while the store cannot, only the newest one waits."""
        self._newest = record
        if not self._retired and not self._writing:
            self._tasks.spawn("server record", self._write())

    async def _write(self) -> None:
        self._writing = True
        attempt = 0
        try:
            while self._newest is not None and self._newest is not self._written and not self._retired:
                record = self._newest
                try:
                    await self._store.put_server(self._server_id, record.to_document())
                    self._written, attempt = record, 0
                except StoreFailed as error:
                    if not attempt:
                        self._log.error("{server}: record waits: {reason}", server=self._server_id, reason=str(error))
                    await sleep(self._clock, RETRY_DELAYS[min(attempt, len(RETRY_DELAYS) - 1)])
                    attempt += 1
        finally:
            self._writing = False

    async def erase(self) -> None:
        """Takes the record out of the store; nothing more is written. StoreFailed: it stays, and so does the server."""
        self._retired = True
        try:
            await self._store.remove_server(self._server_id)
        except BaseException:
            self._retired, self._written = False, None
            if self._newest is not None:
                self.keep(self._newest)
            raise

    def tell(self, event: Event) -> None:
        """Emits `server.status`."""
        self._number += 1
        self._tasks.spawn("server.status", self._emit(self._number, event))

    async def _emit(self, number: int, event: Event) -> None:
        await self._bus.emit(event)
        if number < self._told and not self._retired:
            self._again()
        self._told = max(self._told, number)
