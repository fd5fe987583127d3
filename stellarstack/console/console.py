"""One server's terminal: the bridge between its container's PTY, its scrollback and all who watch or type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.logger import Logger

from stellarstack.console.archive import Archive
from stellarstack.console.endings import Endings
from stellarstack.console.fanout import FanOutViewer
from stellarstack.console.flood import FloodWatch
from stellarstack.console.notebook import Notebook
from stellarstack.console.notes import Run
from stellarstack.console.readers import LineReaders
from stellarstack.console.rejoin import Rejoin, kept_of
from stellarstack.console.scrollback import Scrollback
from stellarstack.console.segments import Segments
from stellarstack.console.sizes import Sizes
from stellarstack.console.surroundings import Surroundings
from stellarstack.console.views import Views
from stellarstack.core.log_join import Kept
from stellarstack.core.messages import Json
from stellarstack.core.open_line import OpenLine
from stellarstack.core.records import PtySize, ServerStatus, StatusReason
from stellarstack.core.streams import readable
from stellarstack.errors import EngineConflict, InvalidState
from stellarstack.interfaces import Attachment, LineWatcher
from stellarstack.viewing import HistoryPage, RunEvent, ViewerWire, ViewRequest


class _Sink:
    """One attach's output; what an attach that was replaced still says is not heard."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def output_received(self, data: bytes) -> None:
        self._console.output_from(self, data)

    def output_ended(self) -> None:
        self._console.attach_ended(self)


class Console:
    """See ServerConsole and ConsoleFeed in interfaces.py, both of which this is."""

    _log = Logger()

    def __init__(self, server_id: str, status: ServerStatus, around: Surroundings) -> None:
        self._server_id = server_id
        self._around = around
        self._segments = Segments(around.directory / server_id, around.config.scrollback)
        self._scrollback = Scrollback(
            server_id=server_id, segments=self._segments, clock=around.clock, tasks=around.tasks,
            in_thread=around.in_thread, now=around.now, packing=around.packing,
        )  # fmt: skip
        self._notebook = Notebook(
            server_id=server_id, segments=self._segments, scrollback=self._scrollback, around=around
        )  # fmt: skip
        self._readers = LineReaders(
            server_id=server_id, node_id=around.node_id, bus=around.bus, publish=around.config.publish_logs,
            clock=around.clock, now=around.now,
        )  # fmt: skip
        self._flood = FloodWatch(
            server_id=server_id, around=around, announce=lambda *told: self._fanout.announce(*told),
            unpublished=lambda: self._readers.unpublished,
        )  # fmt: skip
        self._sizes = Sizes(server_id=server_id, take=self._take_size, clock=around.clock, tasks=around.tasks)
        self._set_up(status)
        self._attachment: Attachment | None = None
        self._sink: _Sink | None = None
        self._container: str | None = None
        self._rejoin: Rejoin | None = None
        self._typed = OpenLine()
        self._closed = False

    def _set_up(self, status: ServerStatus) -> None:
        around = self._around
        self._notes = self._notebook.notes
        self._endings = Endings(
            scrollback=self._scrollback, notes=self._notes, clock=around.clock, tasks=around.tasks,
            speaks=self._speaks, keep=self._notebook.save,
        )  # fmt: skip
        self._views = Views(
            status=status, scrollback=self._scrollback, notes=self._notes, endings=self._endings, around=around,
            greet=self._flood.greet, joins=self._joins,
        )  # fmt: skip
        self._fanout = self._views.fanout

    async def load(self) -> None:
        """Takes up what an earlier daemon kept."""
        await self._notebook.load(self._views.status)
        self._set_up(self._views.status)

    def _speaks(self) -> bool:
        """Whether more of the run may come."""
        return self._sink is not None or self._joins()

    def _joins(self) -> bool:
        """Whether it is still being found out what was printed while nobody listened."""
        return self._rejoin is not None and not self._rejoin.over

    @property
    def archive(self) -> Archive:
        """What it said so far, for search and download."""
        return Archive(
            server_id=self._server_id, scrollback=self._scrollback, notes=self._notes, clock=self._around.clock,
            in_thread=self._around.in_thread,
        )  # fmt: skip

    # ---------------------------------------------------------------- the PTY

    @property
    def attached(self) -> bool:
        return self._attachment is not None

    async def attach(self, container: str, *, rejoin: bool = False) -> None:
        """See ServerConsole.attach. DockerUnavailable or a subclass: nothing is attached."""
        self._let_go()
        self._endings.settle(at_once=True)
        sink = self._sink = _Sink(self)
        self._typed = OpenLine(unknown=rejoin)
        joining = self._new_rejoin(container) if rejoin else None
        if joining is None:
            self._begin_run(container)
            await self._notebook.save()
        self._rejoin = joining
        self._container = container
        try:
            attachment = await self._around.engine.attach(container, sink)
        except BaseException:
            if self._sink is sink:
                self._sink = self._rejoin = None
            raise
        if self._sink is not sink:  # ended at once, replaced or discarded meanwhile
            attachment.close()
        else:
            self._attachment = attachment
        if joining is not None:
            following = self._around.tasks.spawn("console join", self._join(joining))
            following.addBoth(lambda _: self._joined(joining))

    def _let_go(self) -> None:
        if self._rejoin is not None:
            self._rejoin.give_up()
        attachment, self._attachment, self._sink, self._rejoin = self._attachment, None, None, None
        if attachment is not None:
            attachment.close()

    def _begin_run(self, container: str) -> None:
        self._fanout.flush()
        self._readers.run_ended()
        if self._notebook.doubtful:
            self._unknown_gap()
        self._notes.begin_run(Run(self._scrollback.end, container, self._around.now()), self._scrollback.first)

    def output_from(self, sink: _Sink, data: bytes) -> None:
        """A piece of the PTY's output."""
        if sink is not self._sink or not data:
            return
        if self._rejoin is not None and not self._rejoin.over:
            self._rejoin.held_back(data)
        else:
            self._output(data)

    def attach_ended(self, sink: _Sink) -> None:
        """The PTY is gone: the run is over, or the engine let go of it."""
        if sink is not self._sink:
            return
        self._attachment = self._sink = None
        if self._rejoin is not None:
            self._rejoin.attach_ended()
        self._fanout.flush()
        self._endings.settle()

    def _output(self, data: bytes) -> None:
        self._fanout.output(data)  # first: an echo should be on its way before anything else is done
        self._scrollback.append(data)
        self._flood.feed(len(data))
        self._readers.feed(data)

    def type(self, data: bytes) -> None:
        if self._attachment is None:
            raise InvalidState("the server does not run: nobody reads what is typed")
        self._attachment.write(data)
        self._typed.feed(data)

    def enter(self, line: str) -> None:
        self.type(self._typed.keys(line))

    def resize(self, size: PtySize) -> None:
        self._sizes.want(size)

    async def _take_size(self, size: PtySize) -> None:
        if self._closed or not self._notes.resize(size, self._scrollback.end):
            return
        await self._notebook.save()
        await self.resize_pty()

    async def resize_pty(self) -> None:
        """See ServerConsole.resize_pty. A container that does not run is no error."""
        if self._container is None or self._attachment is None:
            return
        try:
            await self._around.engine.resize(self._container, self._notes.size)
        except EngineConflict:
            self._log.debug("the terminal of {server} does not run yet", server=self._server_id)

    # ---------------------------------------------------------------- taking up again

    def _new_rejoin(self, container: str) -> Rejoin:
        kept, counted = self._kept_of(container)
        around = self._around
        return Rejoin(
            container=container, kept=kept, counted=counted, engine=around.engine, clock=around.clock,
            in_thread=around.in_thread, append=self._output, gap=self._unknown_gap, proved=self._notebook.proved,
        )  # fmt: skip

    def _kept_of(self, container: str) -> tuple[Kept, bool]:
        """What the scrollback has of the container's run; whether it is known how much came before that."""
        run = self._notes.runs[-1] if self._notes.runs else None
        if run is None or run.container != container:
            self._begin_run(container)
            return Kept(b"", 0), True
        return kept_of(run, self._notes, self._scrollback)

    async def _join(self, joining: Rejoin) -> None:
        await self._notebook.save()
        await joining.catch_up()
        await joining.follow()

    def _joined(self, joining: Rejoin) -> None:
        if not self._closed:
            joining.give_up()
            self._endings.settle()

    async def recall(self, container: str) -> None:
        """See ServerConsole.recall."""
        if self._container is not None or self._closed:
            return
        self._container = container
        joining = self._rejoin = self._new_rejoin(container)
        joining.attach_ended()
        try:
            await self._join(joining)
        finally:
            self._joined(joining)

    def _unknown_gap(self) -> None:
        self._fanout.flush()
        if self._notebook.gap():
            self._fanout.unknown_gap()

    # ---------------------------------------------------------------- the household

    def watch(self, watcher: LineWatcher) -> Callable[[], None]:
        return self._readers.watch(watcher)

    def set_status(
        self, status: ServerStatus, exit_code: int | None = None, reason: StatusReason | None = None
    ) -> None:
        """See ServerConsole.set_status."""
        self._views.set_status(status, exit_code, reason)

    def send_stats(self, metrics: Mapping[str, Json]) -> None:
        self._views.send_stats(metrics)

    def tail(self, lines: int) -> list[str]:
        rows = self._scrollback.tail().split(b"\n")
        if rows and not rows[-1]:
            rows.pop()
        return [readable(row) for row in rows[-lines:]] if lines > 0 else []

    # ---------------------------------------------------------------- viewers

    async def reaches(self, offset: int) -> bool:
        return await self._views.reaches(offset)

    async def view(self, request: ViewRequest, wire: ViewerWire) -> FanOutViewer:
        """See ConsoleFeed.view. InvalidState: the console was discarded meanwhile."""
        return await self._views.view(request, wire)

    async def history(self, before: int | None, limit: int) -> HistoryPage:
        """See ConsoleFeed.history. It begins at a character's border where that is known."""
        begins, data = await self._scrollback.page(before, limit)
        return HistoryPage(begins, data, self._scrollback.first)

    def runs(self, start: int, end: int) -> Sequence[RunEvent]:
        """See ConsoleFeed.runs."""
        return self._notes.events(start, end)

    # ---------------------------------------------------------------- the end

    async def stop(self) -> None:
        """The daemon stops: the game goes on, what it said so far is kept."""
        self._close(1001, "the daemon stops")
        self._endings.settle(at_once=True)
        self._notebook.stopped = await self._scrollback.save()
        await self._notebook.save()

    async def discard(self) -> None:
        """The server is gone, and its scrollback with it."""
        self._notebook.discarded = True
        self._close(4404, "the server was deleted")
        self._scrollback.close()
        await self._around.in_thread(self._segments.remove)

    def _close(self, code: int, reason: str) -> None:
        self._closed = True
        if self._rejoin is not None:
            self._rejoin.abandon()
        self._rejoin = None
        self._let_go()
        self._readers.close()
        self._flood.close()
        self._views.close(code, reason)
