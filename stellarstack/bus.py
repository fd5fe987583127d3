"""Where every event goes out: durable ones through the outbox, transient ones straight, all to local listeners."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.messages import Command, Event, OutboxRow, channels_of
from stellarstack.errors import StoreFailed
from stellarstack.interfaces import Accepted, Publisher, Store
from stellarstack.tasks import sleep

Commit: TypeAlias = Callable[[], Awaitable[Sequence[OutboxRow]]]
RETRY_DELAYS = (0.1, 0.3, 1.0, 3.0, 5.0)  # seconds between attempts while the store cannot commit


class Bus:
    """Meets interfaces.EventBus. The publisher is given later: it needs what the bus feeds."""

    _log = Logger()

    def __init__(self, *, node_id: str, store: Store, clock: IReactorTime) -> None:
        self._node_id = node_id
        self._store = store
        self._clock = clock
        self._publisher: Publisher | None = None
        self._listeners: list[Callable[[str, bytes], None]] = []
        self._mending = DeferredLock()
        self._behind = 0  # commits that wait for the store to work again

    def connect(self, publisher: Publisher) -> None:
        """Hands over the way out over Redis."""
        self._publisher = publisher
        publisher.wake()

    async def emit(self, *events: Event) -> None:
        """Commits the durable ones, in order; tries again for as long as the store cannot."""
        for event in events:
            if not event.durable:
                self.publish(event)
        durable = [event for event in events if event.durable]
        if durable:
            self._committed(await self._insist(lambda: self._store.append(durable)))

    async def accept(self, command: Command, ack: Event) -> Accepted:
        """Journals a command with its ack. StoreFailed: nothing was kept, the sender's copy is the only one."""
        accepted = await self._store.accept(command, ack)
        self._committed(accepted.rows)
        return accepted

    async def finish(self, command_id: str, result: Event) -> None:
        """Keeps and sends a command's result; tries again for as long as the store cannot."""
        self._committed(await self._insist(lambda: self._store.finish(command_id, result)))

    def publish(self, event: Event) -> None:
        """Sends a transient event to whoever can be reached now."""
        body = event.encode()
        self._tell(event.type, body)
        if self._publisher is not None:
            for channel in channels_of(self._node_id, event):
                self._publisher.publish(channel, body)

    def listen(self, listener: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Calls `listener(type, body)` with every event from now on; answers how to stop."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def _committed(self, rows: Sequence[OutboxRow]) -> None:
        if not rows:
            return
        if self._publisher is not None:
            self._publisher.wake()
        for row in rows:
            self._tell(row.type, row.body)

    def _tell(self, kind: str, body: bytes) -> None:
        for listener in list(self._listeners):
            try:
                listener(kind, body)
            except Exception:
                self._log.failure("a listener for events failed on {kind}", kind=kind)

    async def _insist(self, commit: Commit) -> Sequence[OutboxRow]:
        """Commits. When the store fails, later commits queue behind this one, so that their order holds."""
        if not self._behind:
            try:
                return await commit()
            except StoreFailed as error:
                self._log.error("events wait, the database cannot commit: {reason}", reason=str(error))
        self._behind += 1
        try:
            return await self._mending.run(self._until_kept, commit)
        finally:
            self._behind -= 1

    async def _retry(self, commit: Commit) -> Sequence[OutboxRow]:
        attempt = 0
        while True:
            try:
                return await commit()
            except StoreFailed:
                await sleep(self._clock, RETRY_DELAYS[min(attempt, len(RETRY_DELAYS) - 1)])
                attempt += 1

    def _until_kept(self, commit: Commit) -> Deferred[Sequence[OutboxRow]]:
        return Deferred.fromCoroutine(self._retry(commit))
