"""The node's telephone: three connections to Redis kept up, one that listens, one that reads the queue, one that sends.

Blocking reads and pub/sub each take a connection for themselves; what is sent shares the third (PROTOCOL 3).
"""

from __future__ import annotations

from collections.abc import Callable
from random import random

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.errors import RedisRefused, StellarError
from stellarstack.interfaces import Intake
from stellarstack.redis.command_queue import CommandQueue
from stellarstack.redis.connection import Connection, Line
from stellarstack.redis.dial import Dialer
from stellarstack.redis.letterbox import Letterbox
from stellarstack.redis.publisher import OutboxPublisher
from stellarstack.redis.subscriber import Subscriber
from stellarstack.tasks import Tasks

SETTLE_TIMEOUT = 2.0

# Called with whether all connections are up, and with why not.
OnChange = Callable[[bool, StellarError | None], None]


class RedisLink:
    """Commands in, events out. `on_change` is called at each change of `connected` or of the error's text.

    An error of class RedisRefused needs a person (node state ERROR); it is tried again every 30 s all the same.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        dialer: Dialer,
        node_id: str,
        publisher: OutboxPublisher,
        intake: Intake,
        on_change: OnChange,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._on_change = on_change
        self._letterbox = Letterbox(clock=clock, intake=intake)
        self._listening, self._sending = Tasks(), Tasks()
        self._told: tuple[bool, str | None] = (False, None)

        def connection(line: Line) -> Connection:
            return Connection(clock=clock, dialer=dialer, line=line, jitter=jitter, on_change=self._changed)

        self._ears = (
            connection(Subscriber(node_id=node_id, letterbox=self._letterbox)),
            connection(CommandQueue(node_id=node_id, clock=clock, letterbox=self._letterbox, jitter=jitter)),
        )
        self._mouth = connection(publisher)
        self._connections = (*self._ears, self._mouth)

    @property
    def connected(self) -> bool:
        """Whether all three are up: subscribed, at the queue, and the log compared with the outbox."""
        return all(connection.up for connection in self._connections)

    @property
    def error(self) -> StellarError | None:
        """Why it is not connected; refused credentials before anything else."""
        errors = [connection.error for connection in self._connections if connection.error is not None]
        refused = [error for error in errors if isinstance(error, RedisRefused)]
        return next(iter(refused + errors), None)

    def start(self) -> None:
        """Begins to connect; never waits."""
        for ear in self._ears:
            self._listening.spawn("listening to Redis", ear.run())
        self._sending.spawn("sending to Redis", self._mouth.run())

    def retry(self) -> None:
        """Begins new attempts at once where connections are missing; never waits."""
        for connection in self._connections:
            connection.retry()

    async def stop_listening(self) -> None:
        """Takes nothing more in and lets what was begun end (2 s at most). What is sent still goes out."""
        for ear in self._ears:
            ear.stop()
        await self._listening.cancel_all()
        await self._letterbox.settle(SETTLE_TIMEOUT)

    async def stop(self) -> None:
        """Hangs up. Before it: `stop_listening`, then the publisher's `drained`."""
        await self.stop_listening()
        self._mouth.stop()
        await self._sending.cancel_all()

    def _changed(self, connection: Connection) -> None:
        if connection.up:
            for other in self._connections:
                other.hurry()
        connected, error = self.connected, self.error
        now = (connected, None if error is None else f"{type(error).__name__}: {error}")
        if now != self._told:
            self._told = now
            self._on_change(connected, error)
