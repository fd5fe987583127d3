"""A result that may be awaited or left alone: unlike a Deferred's, a failure that nobody awaits is no bug. No I/O."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Answer:
    """How many received a transient event, once Redis has said so. May be awaited by several, also cancelled."""

    __slots__ = ("_result", "_waiting")

    def __init__(self) -> None:
        self._result: int | Failure | None = None
        self._waiting: list[Deferred[int]] = []

    def __await__(self) -> Generator[Deferred[int], Any, int]:
        waiting: Deferred[int] = Deferred(self._waiting_ends)
        if self._result is None:
            self._waiting.append(waiting)
        else:
            waiting.callback(self._result)
        return waiting.__await__()

    def _waiting_ends(self, waiting: Deferred[int]) -> None:
        self._waiting.remove(waiting)

    def settle(self, result: int | Failure) -> None:
        """Redis has said so, or never will. Once."""
        self._result = result
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(result)
