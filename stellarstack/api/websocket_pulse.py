"""Whether a viewer's connection lives: pings where it is quiet, and how long its TCP has taken nothing (PROTOCOL 8)."""

from __future__ import annotations

from typing import Protocol

from stellarstack.config import ConsoleConfig


class Pulsing(Protocol):
    """A connection as this looks at it."""

    def ping(self) -> None: ...

    def progress(self) -> tuple[bool, int]:
        """Whether bytes wait for the other side, and a number that changes when it takes some."""


class Pulse:
    """One connection's. Times are seconds that only go forward."""

    def __init__(self, config: ConsoleConfig, now: float) -> None:
        self._config = config
        self._heard_at = self._pinged_at = now
        self._moved_at: float | None = None
        self._moved = 0

    def heard(self, now: float) -> None:
        """Anything at all came in."""
        self._heard_at = now

    def opened(self, now: float) -> None:
        """It begins."""
        self._heard_at = self._pinged_at = now

    def stalled(self, wire: Pulsing, now: float) -> bool:
        """Pings where it is time to; answers whether the other side has taken nothing for too long."""
        if now - max(self._heard_at, self._pinged_at) >= self._config.ping_interval:
            self._pinged_at = now
            wire.ping()
        waiting, moved = wire.progress()
        if not waiting or moved != self._moved or self._moved_at is None:
            self._moved_at, self._moved = (now if waiting else None), moved
            return False
        return now - self._moved_at >= self._config.stall_deadline
