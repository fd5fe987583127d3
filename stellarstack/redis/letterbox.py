"""Hands what came in over Redis to the intake, whoever cancels what meanwhile, and counts what is not yet answered."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.messages import Origin
from stellarstack.errors import StoreFailed
from stellarstack.interfaces import Intake
from stellarstack.tasks import Tasks, sleep

QUARREL_EVERY = 1.0


class Letterbox:
    """In front of the intake. A message once begun is finished, also when its connection breaks under it."""

    _log = Logger()

    def __init__(self, *, clock: IReactorTime, intake: Intake) -> None:
        self._clock = clock
        self._intake = intake
        self._tasks = Tasks()
        self._lost = 0
        self._last_quarrel = -QUARREL_EVERY
        self.unanswered = 0

    def put(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> Deferred[bool]:
        """Begins at once, so order is kept. Fires with False where the store failed and it must come again.

        Anything else that the intake raises is a bug: it is logged, and repeating the message would only repeat it.
        """
        kept: Deferred[bool] = Deferred(lambda _: None)
        self.unanswered += 1
        self._tasks.spawn("a message from Redis", self._receive(raw, origin, entry_id, kept))
        return kept

    async def settle(self, seconds: float) -> None:
        """Waits until all is answered, `seconds` at most, then cancels what is left."""
        until = self._clock.seconds() + seconds
        while self.unanswered and self._clock.seconds() < until:
            await sleep(self._clock, 0.05)
        await self._tasks.cancel_all()

    async def _receive(self, raw: bytes, origin: Origin, entry_id: str | None, kept: Deferred[bool]) -> None:
        answer = True
        try:
            await self._intake.receive(raw, origin, entry_id)
        except StoreFailed as error:
            answer = False
            self._quarrel(error)
        finally:
            self.unanswered -= 1
            if not kept.called:
                kept.callback(answer)

    def _quarrel(self, error: StoreFailed) -> None:
        self._lost += 1
        if self._clock.seconds() - self._last_quarrel >= QUARREL_EVERY:
            self._log.warn("{count} messages from Redis were not kept: {reason}", count=self._lost, reason=str(error))
            self._lost, self._last_quarrel = 0, self._clock.seconds()
