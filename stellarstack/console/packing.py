"""Compresses a console's closed segments once they are old: what a flood pushes out again costs nothing."""

from __future__ import annotations

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from stellarstack.console.segments import Segments
from stellarstack.console.threads import InThread
from stellarstack.tasks import Tasks, sleep

OLD_AFTER = 60.0  # seconds
_PAUSE = 0.25  # seconds between two segments


class Packing:
    """One console's. `turn` is the node's: one segment at a time, whatever the number of consoles."""

    _log = Logger()

    def __init__(
        self, *, server_id: str, segments: Segments, clock: IReactorTime, tasks: Tasks, in_thread: InThread,
        turn: DeferredLock,
    ) -> None:  # fmt: skip
        self._server_id = server_id
        self._segments = segments
        self._clock = clock
        self._tasks = tasks
        self._in_thread = in_thread
        self._turn = turn
        self._timer: IDelayedCall | None = None
        self._busy = self._closed = self._failed = False

    def look(self) -> None:
        """Something was written: what is closed now is old in a minute."""
        if self._timer is None and not self._busy and not self._closed and self._segments.closed_end:
            self._timer = self._clock.callLater(OLD_AFTER, self._begin, self._segments.closed_end)

    def _begin(self, old_end: int) -> None:
        self._timer = None
        self._busy = True
        self._tasks.spawn("packing scrollback", self._pack(old_end))

    async def _pack(self, old_end: int) -> None:
        try:
            while not self._closed and await self._pack_one(old_end):
                await sleep(self._clock, _PAUSE)
            self._failed = False
        except OSError as error:
            if not self._failed:  # and tried again in a minute
                reason = str(error)
                self._log.warn("scrollback of {server} stays unpacked: {reason}", server=self._server_id, reason=reason)
            self._failed = True
        finally:
            self._busy = False
            self.look()

    async def _pack_one(self, old_end: int) -> bool:
        await self._turn.acquire()
        try:
            return not self._closed and bool(await self._in_thread(self._segments.pack_oldest, old_end))
        finally:
            self._turn.release()

    def close(self) -> None:
        """No more of it; what is under way ends by itself."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
