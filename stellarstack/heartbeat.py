"""Tells the panel every 30 s that the node lives, and the node's lifecycle whether that got out (PROTOCOL 5, 6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from stellarstack.config import HeartbeatConfig
from stellarstack.core import health
from stellarstack.core.figures import HostFigures
from stellarstack.core.health import Health
from stellarstack.core.messages import Event, Json, channels_of
from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState
from stellarstack.errors import StellarError
from stellarstack.interfaces import OutboxState, Publisher
from stellarstack.tasks import Tasks, within

T = TypeVar("T")
VITALS_TIMEOUT = 5.0  # seconds for each vital sign, and never over a quarter of the interval
NO_FIGURES = HostFigures(0.0, 0.0, 0, 0, 0.0, 0, 0, 0, 0, (0.0, 0.0, 0.0), 1, 0.0)
GRACE = 1 / 30  # of the interval: at the border a heartbeat is due, whose answer may mend all
DISK_FULL = 95.0  # percent of the state folder's file system, above which the node is degraded


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What a heartbeat tells of, each asked anew for each one.

    `outbox_rows` and `outbox_bytes` are the outbox's marks; over half of either the node is degraded.
    """

    figures: Callable[[], Awaitable[HostFigures]]
    outbox: Callable[[], Awaitable[OutboxState]]
    active_containers: Callable[[], int]
    docker_connected: Callable[[], bool]
    outbox_rows: int
    outbox_bytes: int


class Heartbeat:
    """One beat at once and one every interval, until `stop`, whatever became of the last one.

    A heartbeat is missed where its PUBLISH was not answered within the interval; the time since the last good one is
    judged by core.health on the injected (monotonic) clock, one second (of an interval of 30) after each border.
    """

    _log = Logger()

    def __init__(
        self, *, node_id: str, version: str, publisher: Publisher, vitals: Vitals, lifecycle: NodeLifecycle,
        config: HeartbeatConfig, clock: IReactorTime, now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._node_id = node_id
        self._version = version
        self._publisher = publisher
        self._vitals = vitals
        self._lifecycle = lifecycle
        self._config = config
        self._clock = clock
        self._now = now
        self._tasks = Tasks()
        self._loop = LoopingCall(self._beat_soon)
        self._loop.clock = clock
        self._border: IDelayedCall | None = None
        self._last_good = clock.seconds()
        self._figures = NO_FIGURES
        self._outbox = OutboxState(0, 0, 0, 0)
        self._silent = False
        lifecycle.listen(self._node_changed)

    def start(self) -> None:
        """Begins to beat; the node must be registered. Of one that beats: no change."""
        if not self._loop.running:
            self._last_good = self._clock.seconds()
            self._watch()
            ended: Deferred[Any] = self._loop.start(self._config.interval, now=True)
            ended.addErrback(lambda failure: self._log.failure("the heartbeat ended", failure=failure))

    async def stop(self) -> None:
        """No beat comes after this is answered."""
        if self._loop.running:
            self._loop.stop()
        if self._border is not None and self._border.active():
            self._border.cancel()
        self._border = None
        await self._tasks.cancel_all()

    def beat_now(self) -> None:
        """One beat at once; the next is due an interval later. Before `start` and after `stop`: nothing."""
        if self._loop.running:
            self._loop.reset()
            self._beat_soon()

    @property
    def missed(self) -> int:
        """How many heartbeats in a row did not get out, for /health and /metrics."""
        return health.missed(self._last_good, self._clock.seconds(), self._config.interval)

    def _node_changed(self, _previous: NodeState, state: NodeState, _reason: str) -> None:
        if state is NodeState.ONLINE:
            self.beat_now()

    def _beat_soon(self) -> None:
        """The loop's body: it neither raises nor waits, so that the loop cannot die or hang."""
        self._tasks.spawn("heartbeat", self._beat())

    async def _beat(self) -> None:
        due = self._clock.seconds()
        try:
            out = await within(self._clock, self._config.interval, "a heartbeat's PUBLISH", self._publish())
        except StellarError as error:
            self._fell_silent(str(error))
            return
        if out:
            self._got_out(due)
        else:
            self._fell_silent("Redis is not connected")

    async def _publish(self) -> bool:
        figures = await self._asked("the host's figures", self._vitals.figures, self._figures)
        outbox = await self._asked("the outbox's state", self._vitals.outbox, self._outbox)
        self._figures, self._outbox = figures, outbox
        event = self._event(figures, outbox)
        answer = self._publisher.publish(channels_of(self._node_id, event)[0], event.encode())
        if answer is None:
            return False
        await answer
        return True

    async def _asked(self, what: str, source: Callable[[], Awaitable[T]], last: T) -> T:
        """A vital sign; the last known one where it cannot be had now: a node without figures lives all the same."""
        try:
            return await within(self._clock, min(VITALS_TIMEOUT, self._config.interval / 4), what, source())
        except StellarError as error:
            self._log.warn("a heartbeat repeats old figures: {reason}", reason=str(error))
        except CancelledError:
            raise
        except Exception:
            self._log.failure("a heartbeat repeats old figures: {what} failed", what=what)
        return last

    def _event(self, figures: HostFigures, outbox: OutboxState) -> Event:
        metrics: dict[str, Json] = {
            "cpuUsage": round(figures.cpu_percent, 1),
            "memoryUsage": round(figures.memory_percent, 1),
            "diskUsage": round(figures.disk_percent, 1),
            "activeContainers": self._vitals.active_containers(),
            "networkRx": figures.network_rx,
            "networkTx": figures.network_tx,
        }
        fields: dict[str, Json] = {
            "nodeId": self._node_id,
            "timestamp": int(self._now()),
            "status": "degraded" if self._degraded(figures, outbox) else "healthy",
            "metrics": metrics,
            "state": self._lifecycle.state.value,
            "version": self._version,
            "lastSeq": outbox.last_seq,
        }
        return Event("heartbeat", fields, durable=False)

    def _degraded(self, figures: HostFigures, outbox: OutboxState) -> bool:
        return (
            not self._vitals.docker_connected()
            or figures.disk_percent > DISK_FULL
            or outbox.pending_rows * 2 > self._vitals.outbox_rows
            or outbox.pending_bytes * 2 > self._vitals.outbox_bytes
        )

    def _got_out(self, due: float) -> None:
        self._last_good = max(self._last_good, due)
        self._watch()
        if self._silent:
            self._silent = False
            self._log.info("heartbeats get out again")
        self._lifecycle.heartbeat_out()

    def _fell_silent(self, reason: str) -> None:
        """Told once, and not of the first beat of all, which may come before Redis; the lifecycle tells the rest."""
        if not self._silent and self._clock.seconds() - self._last_good >= self._config.interval / 2:
            self._silent = True
            self._log.warn("heartbeats do not get out: {reason}", reason=reason)

    def _watch(self) -> None:
        """Sets the timer to the next border at which too many heartbeats will have been missed."""
        if self._border is not None and self._border.active():
            self._border.cancel()
        config, now = self._config, self._clock.seconds()
        for after in (config.unhealthy_after, config.offline_after):
            at = health.border(self._last_good, config.interval, after) + config.interval * GRACE
            if at > now:
                self._border = self._clock.callLater(at - now, self._crossed)
                return
        self._border = None

    def _crossed(self) -> None:
        config, now = self._config, self._clock.seconds()
        verdict = health.judge(
            self._last_good, now, config.interval, config.unhealthy_after, config.offline_after
        )  # fmt: skip
        if verdict is Health.UNHEALTHY:
            self._lifecycle.heartbeats_missed(self.missed)
        elif verdict is Health.OFFLINE:
            self._lifecycle.heartbeats_lost(self.missed)
        self._watch()
