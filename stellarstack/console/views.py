"""What those who watch a console are shown: where each begins, the state, and the past that replay asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stellarstack.console.endings import Endings
from stellarstack.console.fanout import Bounds, FanOut, FanOutViewer
from stellarstack.console.notes import Notes
from stellarstack.console.scrollback import Scrollback
from stellarstack.console.surroundings import Surroundings
from stellarstack.core.frames import Encoding, stats_frame, status_frame, status_line
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus, StatusReason
from stellarstack.errors import InvalidState
from stellarstack.tasks import sleep
from stellarstack.viewing import RunEvent, ViewerWire, ViewRequest

_JOIN_WAIT, _JOIN_LOOK = 3.0, 0.05  # seconds that a viewer which saw more than we know waits for a join


class Views:
    """Those of one console; the `past` of its fan-out. `greet` has the first word to each viewer.

    `joins` tells whether it is still being found out what was printed while nobody listened.
    """

    def __init__(
        self, *, status: ServerStatus, scrollback: Scrollback, notes: Notes, endings: Endings, around: Surroundings,
        greet: Callable[[FanOutViewer], None], joins: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.status = status
        self._scrollback = scrollback
        self._notes = notes
        self._endings = endings
        self._around = around
        self._greet = greet
        self._joins = joins
        self._closed = False
        self.fanout = FanOut(
            past=self, bounds=Bounds(around.config.viewer_buffer, around.config.flood_viewer_bytes_per_second),
            clock=around.clock, now=around.now, end=scrollback.end, pages=around.pages,
        )  # fmt: skip

    # ---------------------------------------------------------------- where a viewer begins

    async def reaches(self, offset: int) -> bool:
        """See ConsoleFeed.reaches."""
        until = self._around.clock.seconds() + _JOIN_WAIT
        while offset > self._scrollback.end and self._joins():
            if self._around.clock.seconds() >= until:
                break
            await sleep(self._around.clock, _JOIN_LOOK)
        return offset <= self._scrollback.end

    async def view(self, request: ViewRequest, wire: ViewerWire) -> FanOutViewer:
        """See ConsoleFeed.view. InvalidState: the console was discarded meanwhile."""
        missed = None
        if request.since is None:
            start = await self._scrollback.line_start(request.scrollback)
        else:
            start = max(request.since, self._scrollback.first)
            missed = request.since if request.since < start else None
        if self._closed:
            raise InvalidState("the console is closed")
        start = self._border(min(max(start, self._scrollback.first), self._scrollback.end), request)
        viewer = self.fanout.join(wire, request.encoding, request.stats, start)
        wire.ready(start, self.fanout.newest(request.encoding), self.status)
        self._greet(viewer)
        if missed is not None:
            viewer.tell_gap(missed)
        elif request.since is not None and self._notes.doubts_of(request.since):
            viewer.tell_gap(start, known=False)  # what it saw may have been lost, and other bytes stand there
        self._around.tasks.spawn("console replay", viewer.replay())
        return viewer

    def _border(self, start: int, request: ViewRequest) -> int:
        newest = self.fanout.newest(request.encoding)
        if start <= newest:
            return start
        if request.since is None:
            return newest
        self.fanout.flush()  # it has seen a part of an unfinished character
        return start

    # ---------------------------------------------------------------- what all are told

    def set_status(self, status: ServerStatus, exit_code: int | None, reason: StatusReason | None) -> None:
        """See ServerConsole.set_status. The mark comes after the run's last byte, which may be on its way still."""
        if status is self.status:
            return
        ended, self.status = self.status.has_process and not status.has_process, status
        if not ended:
            self.fanout.notice(self.status_frame(Encoding.JSON), self.status_frame(Encoding.PLAIN))
            return
        event = "crashed" if status is ServerStatus.CRASHED else "exited"
        ending = RunEvent(0, self._around.now(), event, exit_code, reason.value if reason else None)
        told = status_frame(status.value, **self._endings.ended(ending))
        self.fanout.notice(told, status_line(status.value, exit_code))

    def send_stats(self, metrics: Mapping[str, Json]) -> None:
        """To those who may see them."""
        if len(self.fanout):
            self.fanout.notice(stats_frame(metrics), stats=True)

    def close(self, code: int, reason: str) -> None:
        """All go, and nobody comes any more."""
        self._closed = True
        self.fanout.close(code, reason)

    # ---------------------------------------------------------------- what replay asks

    async def read(self, start: int, limit: int) -> tuple[int, bytes]:
        """See Past.read."""
        return await self._scrollback.read(start, limit)

    def gap_after(self, offset: int) -> int | None:
        """See Past.gap_after."""
        return next((gap for gap in self._notes.gaps if gap >= offset), None)

    def status_frame(self, encoding: Encoding) -> bytes:
        """See Past.status_frame."""
        return (status_line if encoding is Encoding.PLAIN else status_frame)(self.status.value)
