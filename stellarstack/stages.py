"""Ordered start and stop: MultiService neither awaits its children's start nor orders their end, so this does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.errors import StellarError
from stellarstack.tasks import within

LEAST = 0.3  # seconds that the end of a stage gets, however long the ones before it took


class Stage(Service):
    """One step of the daemon's life. `begin` is awaited before the next stage begins, `end` before the one below ends.

    `patience`: seconds that its end may take at most; a stage that needs longer is left behind.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[], Awaitable[object]],
        end: Callable[[], Awaitable[object]],
        patience: float = 2.0,
    ) -> None:
        self.name = name
        self.begin = begin
        self.end = end
        self.patience = patience


class StagedService(MultiService):
    """Begins its stages in order and ends them in reverse, each awaited. A stage that cannot begin calls `failed`.

    The whole stop takes `deadline` seconds at most: a stage gets what is left but LEAST for each one after it.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        begun: Callable[[], None],
        failed: Callable[[StellarError], None],
        deadline: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self._clock = clock
        self._begun = begun
        self._failed = failed
        self._deadline = deadline
        self._reached: list[Stage] = []
        self._starting: Deferred[Any] | None = None

    def startService(self) -> None:
        Service.startService(self)
        self._starting = Deferred.fromCoroutine(self._begin_all())
        self._starting.addErrback(self._broke)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._end_all())

    async def _begin_all(self) -> None:
        for stage in self.services:
            self._reached.append(stage)
            stage.startService()
            await stage.begin()
            self._log.debug("{stage} has begun", stage=stage.name)
        self._begun()

    async def _end_all(self) -> None:
        until = self._clock.seconds() + self._deadline
        while self._reached:
            stage = self._reached.pop()
            spare = until - self._clock.seconds() - LEAST * len(self._reached)
            patience = max(min(stage.patience, spare), min(stage.patience, LEAST))
            try:
                await within(self._clock, patience, f"the end of {stage.name}", stage.end())
            except StellarError as error:
                self._log.warn("{stage} did not end well: {reason}", stage=stage.name, reason=str(error))
            except Exception:
                self._log.failure("{stage} did not end well", stage=stage.name)
            Service.stopService(stage)

    def _broke(self, failure: Any) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(StellarError):
            self._failed(failure.value)
            return
        self._log.failure("the daemon could not start", failure=failure)
        self._failed(StellarError("a fault of the daemon's own kept it from starting; its log tells more"))
