"""One daemon's hold on the world outside it, which a kill -9 cuts: nothing it does afterwards has any effect."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock


class Lifeline:
    """Passes calls on to `outside`, each answered in the order of the calls and, where `delay` is set, later.

    `delay(name)` tells how many seconds a call waits before it is done. Once cut, calls under way and all later ones
    raise CancelledError at once, so that whatever still awaits them falls apart without a word.
    """

    def __init__(self, outside: Any, clock: Clock, delay: Callable[[str], float] | None = None) -> None:
        self._outside = outside
        self._clock = clock
        self._delay = delay
        self._queue: deque[tuple[Deferred[None], float]] = deque()
        self._pending: list[Deferred[Any]] = []
        self._cut = False

    def cut(self) -> None:
        self._cut = True
        pending, self._pending = self._pending, []
        for answer in pending:
            answer.cancel()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._outside, name)
        return found if not callable(found) else lambda *args, **kwargs: self._call(name, found, args, kwargs)

    async def _call(self, name: str, call: Any, args: Any, kwargs: Any) -> Any:
        if self._cut:
            raise CancelledError
        seconds = self._delay(name) if self._delay is not None else 0.0
        if seconds or self._queue:
            await self._held(self._turn(seconds))
        return await self._held(Deferred.fromCoroutine(call(*args, **kwargs)))

    async def _held(self, answer: Deferred[Any]) -> Any:
        self._pending.append(answer)
        try:
            return await answer
        finally:
            if answer in self._pending:
                self._pending.remove(answer)

    def _turn(self, seconds: float) -> Deferred[None]:
        """Fires after `seconds`, and never before an earlier call's turn."""
        turn: Deferred[None] = Deferred()
        due = self._clock.seconds() + seconds
        if self._queue:
            due = max(due, self._queue[-1][1])
        self._queue.append((turn, due))
        self._clock.callLater(max(0.0, due - self._clock.seconds()), self._next)
        return turn

    def _next(self) -> None:
        turn, _ = self._queue.popleft()
        if not turn.called:
            turn.callback(None)
