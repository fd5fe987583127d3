"""Those who read a console line by line: the ready check, crash reports, `server.log` on Redis."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from stellarstack.core.console_session import Bucket
from stellarstack.core.messages import Event, Json
from stellarstack.core.streams import LineCutter
from stellarstack.interfaces import EventBus, LineWatcher

_LOG_LINES_A_SECOND = 200  # of a server; more are counted and told as a number
_FLOOD_LINES, _FLOOD_COSTS = 10_000, 10  # where so many more came in the last second, each counts as so many
_PART_AFTER = 0.05  # seconds until an unfinished line is offered
# What reading may cost a second, in bytes where a line counts for more: some 60 000 short lines, or 40 000 usual ones,
# which is several times what the busiest start of a game prints and a tenth of a core.
_WORK_A_SECOND, _WORK_AT_ONCE, _LINE_COSTS = 8 * 2**20, 2 * 2**20, 128
_SLICE = 16384
_BACKLOG = 2**20  # bytes of a flood that wait to be read; older ones are read by nobody
_BACKLOG_AFTER = 0.05
_LARGE, _SAMPLE = 65536, 4096  # of a piece that is larger only so much is looked at for newlines


class LineReaders:
    """Cuts a console's output into lines and hands them on. Where nobody reads it costs next to nothing.

    Nor does a flood cost more than so much a second: what is too much waits, the newest of it, and the rest is skipped.
    """

    _log = Logger()

    def __init__(
        self, *, server_id: str, node_id: str, bus: EventBus, publish: bool, clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._server_id = server_id
        self._node_id = node_id
        self._bus = bus
        self._publish = publish
        self._clock = clock
        self._now = now
        self._cutter = LineCutter()
        self._watchers: tuple[LineWatcher, ...] = ()
        self._rate = Bucket(_LOG_LINES_A_SECOND, clock.seconds())
        self._work = Bucket(_WORK_A_SECOND, clock.seconds(), _WORK_AT_ONCE)
        self._backlog = bytearray()
        self._untold = 0
        self._flood_until = float("-inf")
        self._guessed = False  # the lines of large pieces are
        self.unpublished = 0  # lines so far that `server.log` did not tell
        self._backlog_timer: IDelayedCall | None = None
        self._part_timer: IDelayedCall | None = None
        self._told_timer: IDelayedCall | None = None

    def watch(self, watcher: LineWatcher) -> Callable[[], None]:
        """See ServerConsole.watch."""
        self._watchers = (*self._watchers, watcher)

        def stop() -> None:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)

        return stop

    def feed(self, data: bytes) -> None:
        """The next bytes of the terminal."""
        if self._backlog:
            self._wait(data)
        elif self._wanted:
            self._read(data)
        else:
            self._skip(data)
        if self._watchers and self._part_timer is None:
            self._offer_later()

    @property
    def _wanted(self) -> bool:
        """Whether anybody takes lines now."""
        return bool(self._watchers) or (self._publish and not self._untold)

    def _read(self, data: bytes) -> None:
        """As much of it as there is work left for; the rest waits."""
        for at in range(0, len(data), _SLICE):
            if not self._wanted:
                self._skip(data[at:])
                return
            piece = data[at : at + _SLICE]
            if not self._work.take(len(piece) + piece.count(b"\n") * _LINE_COSTS, self._clock.seconds()):
                self._wait(data[at:])
                return
            for line in self._cutter.feed(piece):
                self._line(line)

    def _skip(self, data: bytes) -> None:
        self._cutter.skip(data)
        if self._publish:
            self._guessed = self._guessed or len(data) > _LARGE
            self._not_published(_newlines(data))

    def _wait(self, data: bytes) -> None:
        self._backlog += data
        over = len(self._backlog) - _BACKLOG
        if over > 0:
            self._skip(bytes(self._backlog[:over]))
            del self._backlog[:over]
        if self._backlog_timer is None:
            self._backlog_timer = self._clock.callLater(_BACKLOG_AFTER, self._read_on)

    def _read_on(self) -> None:
        if self._backlog_timer is not None and self._backlog_timer.active():
            self._backlog_timer.cancel()
        self._backlog_timer = None
        waiting = bytes(self._backlog)
        self._backlog.clear()
        self._read(waiting)

    def _not_published(self, lines: int) -> None:
        if not lines:
            return
        self._untold += lines
        self.unpublished += lines
        if self._told_timer is None:
            self._told_timer = self._clock.callLater(1.0, self._tell_untold)

    def _line(self, line: str) -> None:
        self._tell_watchers(line)
        if not self._publish or not line:
            return
        now = self._clock.seconds()
        cost = _FLOOD_COSTS if now < self._flood_until else 1
        if self._untold or not self._rate.take(cost, now):
            self._not_published(1)
            return
        self._emit("stdout", line)

    def _tell_watchers(self, line: str) -> None:
        for watcher in self._watchers:
            try:
                watcher(line)
            except Exception:
                self._log.failure("a reader of {server}'s console failed", server=self._server_id)

    def _offer_later(self) -> None:
        self._part_timer = self._clock.callLater(_PART_AFTER, self._offer_part)

    def _offer_part(self) -> None:
        self._part_timer = None
        if self._backlog:  # its rest may wait there
            self._offer_later()
            return
        part = self._cutter.part
        if part:
            self._tell_watchers(part)

    def _tell_untold(self) -> None:
        self._told_timer = None
        untold, self._untold = self._untold, 0
        about, self._guessed = "some " if self._guessed else "", False
        if untold > _FLOOD_LINES:
            self._flood_until = self._clock.seconds() + 1.0
        self._emit("daemon", f"… {about}{untold} lines more than are sent on; the console has them all")

    def _emit(self, stream: str, message: str) -> None:
        now = self._now()
        log: dict[str, Json] = {"stream": stream, "message": message, "timestamp": now}
        body: dict[str, Json] = {"serverId": self._server_id, "nodeId": self._node_id, "log": log, "timestamp": now}
        self._bus.publish(Event("server.log", body, durable=False))

    def run_ended(self) -> None:
        """What the run left without a newline was its last line."""
        self._read_on()
        self._skip(bytes(self._backlog))
        self._backlog.clear()
        rest = self._cutter.flush()
        if rest:
            self._line(rest)

    def close(self) -> None:
        """No more timers."""
        for timer in (self._part_timer, self._told_timer, self._backlog_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._part_timer = self._told_timer = self._backlog_timer = None


def _newlines(data: bytes) -> int:
    """How many there are; of a large piece about so many: counting them all is a tenth of what a flood costs."""
    if len(data) <= _LARGE:
        return data.count(b"\n")
    return round(data.count(b"\n", 0, _SAMPLE) * len(data) / _SAMPLE)
