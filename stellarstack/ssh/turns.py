"""Work that would keep the reactor too long is done in turns: a piece of each, then everybody else, then on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

_BUDGET = 0.01  # seconds at a time


class Turns:
    """One for all terminals: a hundred that are to be shown a frame of 256 KiB are 25 MiB to encrypt."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], bool]] = deque()
        self._scheduled = False

    def add(self, piece: Callable[[], bool]) -> None:
        """Calls `piece` soon, and again as long as it answers that there is more to do."""
        self._waiting.append(piece)
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._go)

    def _go(self) -> None:
        until = self._clock.seconds() + _BUDGET
        try:
            for _ in range(len(self._waiting)):
                piece = self._waiting.popleft()
                if piece():
                    self._waiting.append(piece)
                if self._clock.seconds() >= until:
                    break
        finally:
            self._scheduled = bool(self._waiting)
            if self._scheduled:
                self._clock.callLater(0, self._go)
