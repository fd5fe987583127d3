"""The terminal's size as its viewers ask for it: one at a time and not too fast; of many the last counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.records import PtySize
from stellarstack.errors import StellarError
from stellarstack.tasks import Tasks, sleep

_PAUSE = 0.1  # seconds: each size is kept on disk, and told to the engine


class Sizes:
    """Over all viewers of one console. `take` does what a new size asks for."""

    _log = Logger()

    def __init__(
        self, *, server_id: str, take: Callable[[PtySize], Awaitable[None]], clock: IReactorTime, tasks: Tasks
    ) -> None:
        self._server_id = server_id
        self._take = take
        self._clock = clock
        self._tasks = tasks
        self._wanted: PtySize | None = None
        self._busy = False

    def want(self, size: PtySize) -> None:
        """Takes it now, or as soon as those before it are through and nobody has asked for another since."""
        self._wanted = size
        if not self._busy:
            self._busy = True
            self._tasks.spawn("resizing a terminal", self._take_all())

    async def _take_all(self) -> None:
        try:
            while self._wanted is not None:
                size, self._wanted = self._wanted, None
                await self._take_one(size)
                await sleep(self._clock, _PAUSE)
        finally:
            self._busy = False

    async def _take_one(self, size: PtySize) -> None:
        try:
            await self._take(size)
        except CancelledError:  # the daemon stops
            raise
        except StellarError as error:
            self._log.warn(
                "a terminal of {server} has no new size: {reason}", server=self._server_id, reason=str(error)
            )
        except Exception:
            self._log.failure("a terminal of {server} has no new size", server=self._server_id)
