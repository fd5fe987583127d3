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
_PART_AFTER = 0.05  # seconds until an unfinished line is offered


class LineReaders:
    """Cuts a console's output into lines and hands them on. Where nobody reads it costs next to nothing."""

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
        self._untold = 0
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
        if not self._watchers and (not self._publish or self._untold):
            self._cutter.skip(data)
            self._untold += data.count(b"\n") if self._publish else 0
        else:
            for line in self._cutter.feed(data):
                self._line(line)
        if self._watchers and self._part_timer is None:
            self._part_timer = self._clock.callLater(_PART_AFTER, self._offer_part)

    def _line(self, line: str) -> None:
        self._tell_watchers(line)
        if not self._publish or not line:
            return
        if self._untold or not self._rate.take(1, self._clock.seconds()):
            self._untold += 1
            if self._told_timer is None:
                self._told_timer = self._clock.callLater(1.0, self._tell_untold)
            return
        self._emit("stdout", line)

    def _tell_watchers(self, line: str) -> None:
        for watcher in self._watchers:
            try:
                watcher(line)
            except Exception:
                self._log.failure("a reader of {server}'s console failed", server=self._server_id)

    def _offer_part(self) -> None:
        self._part_timer = None
        part = self._cutter.part
        if part:
            self._tell_watchers(part)

    def _tell_untold(self) -> None:
        self._told_timer = None
        untold, self._untold = self._untold, 0
        self._emit("daemon", f"… {untold} lines more than are sent on; the console has them all")

    def _emit(self, stream: str, message: str) -> None:
        now = self._now()
        log: dict[str, Json] = {"stream": stream, "message": message, "timestamp": now}
        body: dict[str, Json] = {"serverId": self._server_id, "nodeId": self._node_id, "log": log, "timestamp": now}
        self._bus.publish(Event("server.log", body, durable=False))

    def run_ended(self) -> None:
        """What the run left without a newline was its last line."""
        rest = self._cutter.flush()
        if rest:
            self._line(rest)

    def close(self) -> None:
        """No more timers."""
        for timer in (self._part_timer, self._told_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._part_timer = self._told_timer = None
