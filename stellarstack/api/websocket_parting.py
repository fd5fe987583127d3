"""The end of a viewer's connection: how long the other side has to answer our close frame (K23, W11)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from stellarstack.core.console_effects import Close, CloseCode

_CLOSE_TIMEOUT = 10.0  # seconds for the viewer's answer to a close frame
_END_TIMEOUT = 1.0  # the same where nothing more may be shown, not even what waits in its buffers
_LET_GO = 0.2  # seconds in which a close frame has left for the wire


class Parting:
    """One connection's. `drop` ends it, whatever the other side says."""

    def __init__(self, clock: IReactorTime, drop: Callable[[], None]) -> None:
        self._clock = clock
        self._drop = drop
        self._timer: IDelayedCall | None = None

    def begin(self, close: Close | None) -> None:
        """The close frame goes out. Told again: no news."""
        if self._timer is None:
            at_once = close is not None and close.code in (CloseCode.EXPIRED, CloseCode.FORBIDDEN)
            self._timer = self._clock.callLater(_END_TIMEOUT if at_once else _CLOSE_TIMEOUT, self._drop)

    def hurry(self) -> None:
        """Its place is wanted: no longer than the close frame takes."""
        if self._timer is not None and self._timer.active():
            self._timer.reset(_LET_GO)

    def over(self) -> None:
        """The connection is gone."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
