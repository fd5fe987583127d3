"""When a game's output is a flood, and how much of it is let through. Performs no I/O, reads no clock.

All times are seconds of one clock that only goes forward. Nothing here slows a game down: it is told what it does.
"""

from __future__ import annotations

from dataclasses import dataclass

_BEGINS_AFTER = 3.0  # seconds over the rate: a start's burst of output is no flood
_OVER_AFTER = 5.0  # seconds below it: a flood with pauses is one flood
_ALERT_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class FloodBegan:
    """`rate`: bytes a second so far. `alert`: the panel was not told of one in the last minute."""

    rate: float
    alert: bool


@dataclass(frozen=True, slots=True)
class FloodEnded:
    """It took `seconds` and printed `size` bytes; the quiet time in which its end was made sure of is left out."""

    seconds: float
    size: int


class FloodGuard:
    """Judges one console, stretch of time by stretch of time. `rate`: bytes a second that are too many."""

    __slots__ = ("_alerted", "_below", "_from", "_quiet_size", "_rate", "_size", "flooding")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._from: float | None = None  # when it came over the rate
        self._below: float | None = None  # when a flood came below it
        self._size = 0
        self._quiet_size = 0
        self._alerted = float("-inf")
        self.flooding = False

    def judge(self, size: int, since: float, now: float) -> FloodBegan | FloodEnded | None:
        """`size` bytes came between `since` and `now`, which follows the last stretch or a time of silence."""
        if size > self._rate * (now - since):
            return self._over(size, since, now)
        return self._under(size, since, now)

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way: silence may go unjudged."""
        return self._from is None

    def _over(self, size: int, since: float, now: float) -> FloodBegan | None:
        if self._from is None:
            self._from, self._size = since, 0
        self._size += self._quiet_size + size
        self._quiet_size, self._below = 0, None
        if self.flooding or now - self._from < _BEGINS_AFTER:
            return None
        self.flooding = True
        alert = now - self._alerted >= _ALERT_EVERY
        if alert:
            self._alerted = now
        return FloodBegan(self._size / (now - self._from), alert)

    def _under(self, size: int, since: float, now: float) -> FloodEnded | None:
        if not self.flooding or self._from is None:
            self._from = None
            return None
        if self._below is None:
            self._below = since
        self._quiet_size += size
        if now - self._below < _OVER_AFTER:
            return None
        ended = FloodEnded(self._below - self._from, self._size)
        self._from = self._below = None
        self._size = self._quiet_size = 0
        self.flooding = False
        return ended


class Ration:
    """So many bytes a second: granted from a second's beginning until they are used up, then none until `until`.

    What the last grant of a second took too much is owed by the next ones.
    """

    __slots__ = ("_rate", "_used", "until")

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._used = 0.0
        self.until = now + 1.0  # when this second ends

    def take(self, size: int, now: float) -> bool:
        """Whether `size` bytes that come now are let through."""
        if now >= self.until:
            seconds = int(now - self.until) + 1
            self._used = max(0.0, self._used - self._rate * seconds)
            self.until = now + 1.0
        if self._used >= self._rate:
            return False
        self._used += size
        return True
