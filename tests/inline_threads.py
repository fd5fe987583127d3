"""A reactor whose threads are the test's own: work handed to a pool is done at once, or when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure


class InlinePool:
    """A thread pool without threads. While `held`, work waits for `work`."""

    def __init__(self) -> None:
        self.held = False
        self.started = False
        self.jobs: list[Callable[[], None]] = []
        self.calls: list[str] = []

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.started = False

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], None], func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        def job() -> None:
            self.calls.append(getattr(func, "__name__", "?"))
            try:
                result = func(*args, **kwargs)
            except Exception:
                onResult(False, Failure())
            else:
                onResult(True, result)

        self.jobs.append(job)
        if not self.held:
            self.work()

    def work(self) -> None:
        """Does what waits."""
        while self.jobs:
            self.jobs.pop(0)()


class InlineReactor:
    """What deferToThreadPool and descriptors need of a reactor."""

    def __init__(self) -> None:
        self.pool = InlinePool()
        self.readers: list[Any] = []

    def getThreadPool(self) -> InlinePool:
        return self.pool

    def callFromThread(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        func(*args, **kwargs)

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)
