"""How calls to the FakeEngine travel: at once or with a delay, failing, hanging, or cut off when dockerd goes down."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from stellarstack.errors import DockerUnavailable, TimedOut

T = TypeVar("T")


@dataclass
class Fault:
    """What goes wrong with a call. Without an `error` it is never answered. `effect`: it was done all the same."""

    error: Exception | None
    effect: bool


class FakeCalls:
    """The way to the engine and back.

    `latency`, where set, tells from a call's name how many seconds its answer takes: half of it on the way there, half
    on the way back; who stops waiting meanwhile does not undo the call. Where it is not set, calls answer at once.
    `made` keeps the name and first argument of each call.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.down = False
        self.request_timeout = 30.0
        self.latency: Callable[[str], float] | None = None
        self.made: deque[tuple[str, str]] = deque(maxlen=100_000)
        self._clock = clock
        self._faults: dict[str, deque[Fault]] = {}
        self._waiting: list[tuple[str, str, list[Fault]]] = []
        self._pending: list[Deferred[Any]] = []
        self._lives = 0

    def fail(self, name: str, error: Exception, *, times: int = 1, effect: bool = False, after: str = "") -> None:
        """The next `times` calls of `name` (`*`: of any) raise `error`; with `effect` after having been done.

        `after`: those that come once a call of that name was made.
        """
        faults = [Fault(error, effect)] * times
        if after:
            self._waiting.append((after, name, faults))
        else:
            self._faults.setdefault(name, deque()).extend(faults)

    def hang(self, calls: int = 1, *, name: str = "*", effect: bool = False) -> None:
        """The next calls are never answered: TimedOut after `request_timeout` on the clock."""
        self._faults.setdefault(name, deque()).extend([Fault(None, effect)] * calls)

    def mend(self) -> None:
        """Takes back what `fail` and `hang` had still in store."""
        self._faults.clear()
        self._waiting.clear()

    def break_all(self, error: Exception) -> None:
        """Every connection breaks: calls under way end with `error`, and those that had not arrived are lost."""
        self._lives += 1
        pending, self._pending = self._pending, []
        for answer in pending:
            answer.errback(error)

    async def call(self, name: str, argument: str, effect: Callable[[], T]) -> T:
        self.made.append((name, argument))
        if self.down:
            raise DockerUnavailable("Docker does not answer: 2: No such file or directory.")
        fault = self._fault(name)
        for after, other, faults in [one for one in self._waiting if one[0] == name]:
            self._waiting.remove((after, other, faults))
            self._faults.setdefault(other, deque()).extend(faults)
        if fault is None and self.latency is None:
            return effect()
        half = self.latency(name) / 2 if self.latency is not None else 0.0
        answer: Deferred[T] = Deferred()
        self._pending.append(answer)
        life = self._lives
        self._later(half, lambda: self._arrive(answer, fault, effect, half) if life == self._lives else None)
        timed_out = TimedOut(f"Docker {name} did not end within {self.request_timeout:g} s")
        timer = self._clock.callLater(self.request_timeout, self._answer, answer, timed_out)
        try:
            return await answer
        finally:
            self._forget(answer)
            if timer.active():
                timer.cancel()

    def _arrive(self, answer: Deferred[T], fault: Fault | None, effect: Callable[[], T], back: float) -> None:
        if self.down:
            return
        outcome: T | Exception
        try:
            outcome = effect() if fault is None or fault.effect else TimedOut("")
        except Exception as error:
            outcome = error
        if fault is not None and fault.error is None:
            return
        told = outcome if fault is None or fault.error is None else fault.error
        self._later(back, lambda: self._answer(answer, told))

    def _answer(self, answer: Deferred[T], outcome: T | Exception) -> None:
        if answer not in self._pending:
            return
        self._forget(answer)
        if isinstance(outcome, Exception):
            answer.errback(outcome)
        else:
            answer.callback(outcome)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if seconds > 0:
            self._clock.callLater(seconds, call)
        else:
            call()

    def _fault(self, name: str) -> Fault | None:
        for key in (name, "*"):
            if self._faults.get(key):
                return self._faults[key].popleft()
        return None

    def _forget(self, answer: Deferred[Any]) -> None:
        if answer in self._pending:
            self._pending.remove(answer)
