"""Tells people of a game that floods its console; the game is neither paused nor killed, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IDelayedCall

from stellarstack.console.fanout import FanOutViewer
from stellarstack.console.surroundings import Surroundings
from stellarstack.core.events import node_alert
from stellarstack.core.flood import FloodBegan, FloodEnded, FloodGuard
from stellarstack.core.frames import notice_frame, notice_line
from stellarstack.core.messages import Json

_EVERY = 1.0  # seconds between two judgements, while something is printed
_MIB = 2**20


@dataclass(kw_only=True)
class FloodWatch:
    """One console's. `announce` shows a frame, or its line, to all viewers; `unpublished` counts lines so far."""

    server_id: str
    around: Surroundings
    announce: Callable[[bytes, bytes], None]
    unpublished: Callable[[], int]
    _size: int = 0  # bytes since the last judgement
    _since: float = 0.0
    _timer: IDelayedCall | None = None
    _told: tuple[bytes, bytes] | None = None  # of the flood that goes on
    _unpublished_before: int = 0
    _on: bool = field(init=False)
    _guard: FloodGuard = field(init=False)

    def __post_init__(self) -> None:
        rate = self.around.config.flood_bytes_per_second
        self._on, self._guard = rate > 0, FloodGuard(rate)

    def feed(self, size: int) -> None:
        """So many bytes were printed."""
        self._size += size
        if self._timer is None and self._on:
            self._begin_stretch()

    def greet(self, viewer: FanOutViewer) -> None:
        """A new viewer is told of a flood that goes on."""
        if self._told is not None:
            viewer.tell(*self._told)

    def _begin_stretch(self) -> None:
        if self._guard.quiet:
            self._unpublished_before = self.unpublished()
        self._since = self.around.clock.seconds()
        self._timer = self.around.clock.callLater(_EVERY, self._judge)

    def _judge(self) -> None:
        self._timer = None
        size, self._size = self._size, 0
        match self._guard.judge(size, self._since, self.around.clock.seconds()):
            case FloodBegan() as began:
                self._tell_begin(began)
            case FloodEnded() as ended:
                self._tell_end(ended)
        if size or not self._guard.quiet:
            self._begin_stretch()

    def _tell_begin(self, began: FloodBegan) -> None:
        text = f"the server floods its console with {began.rate / _MIB:.1f} MiB a second; it runs on"
        self._announce("flood", text, bytesPerSecond=round(began.rate))
        if began.alert:
            around = self.around
            event = node_alert(
                around.node_id, around.now(), "warning", "console_flood", text, self.server_id,
                bytesPerSecond=round(began.rate),
            )  # fmt: skip
            around.tasks.spawn("node.alert", around.bus.emit(event))

    def _tell_end(self, ended: FloodEnded) -> None:
        unpublished = self.unpublished() - self._unpublished_before
        text = f"the flood is over: {ended.size / _MIB:.1f} MiB in {ended.seconds:.0f} seconds"
        if self.around.config.publish_logs:
            text += f"; {unpublished} of its lines were not published as server.log"
        more: dict[str, Json] = {"seconds": round(ended.seconds, 1), "bytes": ended.size, "unpublished": unpublished}
        self._announce("flood_over", text, **more)

    def _announce(self, code: str, text: str, **more: Json) -> None:
        told = notice_frame(code, text, **more), notice_line(text)
        self._told = told if self._guard.flooding else None
        self.announce(*told)

    def close(self) -> None:
        """No more timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._on = False
