"""No orphan coroutine: whatever is let go is named, logged when it fails, and cancelled at the stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from stellarstack.errors import StellarError, TimedOut

T = TypeVar("T")


class Tasks:
    """The coroutines that run beside everything else. One per owner; `cancel_all` at its stop."""

    _log = Logger()

    def __init__(self) -> None:
        self._running: dict[Deferred[Any], str] = {}

    def spawn(self, name: str, coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T | None]:
        """Lets `coroutine` run. The Deferred answered fires with its result, or with None when it failed (logged)."""
        running: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        self._running[running] = name

        def ended(result: Any) -> Any:
            self._running.pop(running, None)
            if not isinstance(result, Failure):
                return result
            if isinstance(result.value, CancelledError):
                return None
            if isinstance(result.value, StellarError):
                self._log.warn("{task} failed: {reason}", task=name, reason=str(result.value))
            else:
                self._log.failure("{task} failed", failure=result, task=name)
            return None

        running.addBoth(ended)
        return running

    async def cancel_all(self) -> None:
        """Cancels whatever still runs and waits until each has ended."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await DeferredList(running)

    def names(self) -> list[str]:
        """What runs now, for `doctor` and for tests that look for leaks."""
        return sorted(self._running.values())


async def within(clock: IReactorTime, seconds: float, what: str, work: Awaitable[T]) -> T:
    """Awaits `work` for at most `seconds`, then cancels it and raises TimedOut naming `what`."""
    deferred = _deferred(work)
    deferred.addTimeout(seconds, clock, onTimeoutCancel=_timed_out(what, seconds))
    return await deferred


def sleep(clock: IReactorTime, seconds: float) -> Deferred[None]:
    """Fires after `seconds` on the injected clock; cancelling it, or firing it early, takes the timer away."""
    deferred: Deferred[None] = Deferred()
    call = clock.callLater(seconds, deferred.callback, None)

    def over(result: T) -> T:
        if call.active():
            call.cancel()
        return result

    return deferred.addBoth(over)


def _timed_out(what: str, seconds: float) -> Callable[[object, float], object]:
    def translate(result: object, _timeout: float) -> object:
        if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
            return result
        raise TimedOut(f"{what} did not end within {seconds:g} s")

    return translate


def _deferred(work: Awaitable[T]) -> Deferred[T]:
    if isinstance(work, Deferred):
        return work
    if isinstance(work, Coroutine):
        return Deferred.fromCoroutine(work)

    def drive() -> Generator[Any, Any, T]:
        return (yield from work.__await__())

    return Deferred.fromCoroutine(drive())
