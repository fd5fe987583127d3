"""When a token that was let in ends, by two clocks (K22). Performs no I/O, reads no clock.

`now` only goes forward, `wall` is Unix seconds. Set ahead, the wall clock ends a token early, as it would for a new
login; set back, it prolongs none: what was left when the token came in is counted on `now`.
"""

from __future__ import annotations

from stellarstack.core.claims import Claims

WARN_BEFORE = 60.0  # seconds before the end that the viewer is told of it
_LOOK_AGAIN = 15.0  # the wall clock may be set: no timer that means it runs longer


class TokenEnd:
    """The end of one token that came in at `now`, `wall`."""

    __slots__ = ("_until", "claims")

    def __init__(self, claims: Claims, now: float, wall: float) -> None:
        self.claims = claims
        self._until = now + claims.expires_at - wall

    def left(self, now: float, wall: float) -> float:
        """Seconds that it still holds, by whichever clock says less."""
        return min(self._until - now, self.claims.expires_at - wall)

    def to_warn(self, now: float, wall: float) -> bool:
        """Whether it is time to tell that it ends."""
        return self.left(now, wall) <= WARN_BEFORE

    def next_look(self, now: float, wall: float, *, warned: bool) -> float:
        """Seconds until there is something to tell, or to look again: never below 0."""
        left = self.left(now, wall)
        return max(0.0, min(_LOOK_AGAIN, left if warned else left - WARN_BEFORE))
