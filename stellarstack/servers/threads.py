"""How the household gets blocking work off the reactor."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from stellarstack.errors import InvalidState

P = ParamSpec("P")
T = TypeVar("T")
QUEUE_MOST = 1000  # works that wait for a thread


class Threads(Protocol):
    """Runs `work` in a thread of a pool; the Deferred fires with what it answers or raises."""

    def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]: ...


class ReactorThreads:
    """Meets Threads with the reactor's own pool: for work of milliseconds, since everybody waits for these threads."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *args, **kwargs)


class _Daemon(Thread):
    """A thread that the process does not wait for at its end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "daemon": True})


class FewThreads:
    """Meets Threads with `most` threads of its own, for work that may take minutes: nobody else waits for it.

    InvalidState: too much waits already, or `stop` was called.
    """

    def __init__(self, reactor: Any, most: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)
        self._pool.threadFactory = _Daemon
        self._waiting = 0
        self._name = name

    def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if self._pool.joined or self._waiting >= QUEUE_MOST:
            return fail(InvalidState(f"{self._name}: {self._waiting} works wait already; try again later"))
        if not self._pool.started:
            self._pool.start()
        self._waiting += 1

        def counted() -> T:
            self._reactor.callFromThread(self._begun)
            return work(*args, **kwargs)

        return deferToThreadPool(self._reactor, self._pool, counted)

    def _begun(self) -> None:
        self._waiting -= 1

    def stop(self) -> None:
        """What waits is left out. What runs is not waited for: whoever gave the work ends it."""
        if self._pool.started and not self._pool.joined:
            self._pool.threads.clear()
            self._pool.stop()
