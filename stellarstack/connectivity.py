"""Turns what Redis and Docker report into the node's lifecycle: deadline, refusals, new attempts (PROTOCOL 6)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from stellarstack.config import HeartbeatConfig
from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState
from stellarstack.errors import StellarError

RETRY_INTERVAL = 30.0  # seconds between new attempts


class _Link:
    """One of the two connections that a node must have; asks for a new attempt every 30 s while it is not there.

    `refused` tells why the other side wants nothing to do with us, and is empty where that is not so.
    """

    _log = Logger()

    def __init__(self, name: str, retry: Callable[[], None], clock: IReactorTime) -> None:
        self.name = name
        self.connected = False
        self.refused = ""
        self._retry = retry
        self._clock = clock
        self._timer: IDelayedCall | None = None

    def report(self, connected: bool, error: StellarError | None) -> bool:
        """Takes in a report; answers whether it says anything that matters to the lifecycle."""
        moved = connected != self.connected
        self.connected = connected
        self.refused = str(error) if error is not None and not connected and not error.retry else ""
        if moved:
            self._log.info("{link} is connected" if connected else "{link} is not connected", link=self.name)
        return moved or bool(self.refused)

    def watch(self) -> None:
        """Sets the timer of the next attempt, or takes it away."""
        if self.connected:
            self.rest()
        elif self._timer is None:
            self._timer = self._clock.callLater(RETRY_INTERVAL, self._try_again)

    def rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try_again(self) -> None:
        self._timer = None
        self.watch()
        self._log.info("trying {link} again", link=self.name)
        try:
            self._retry()
        except Exception:
            self._log.failure("the new attempt at {link} failed", link=self.name)


class Connectivity:
    """Knows which of Redis and Docker is connected, and tells the lifecycle.

    `retry_redis` and `retry_docker` are called every 30 s while that link is not connected: they begin a new attempt at
    once, and do not wait for it. `greet` is called when both have come to be connected: it sends a heartbeat.
    """

    def __init__(
        self, *, lifecycle: NodeLifecycle, greet: Callable[[], None], retry_redis: Callable[[], None],
        retry_docker: Callable[[], None], config: HeartbeatConfig, clock: IReactorTime,
    ) -> None:  # fmt: skip
        self._lifecycle = lifecycle
        self._greet = greet
        self._redis = _Link("Redis", retry_redis, clock)
        self._docker = _Link("Docker", retry_docker, clock)
        self._links = (self._redis, self._docker)
        self._config = config
        self._clock = clock
        self._deadline: IDelayedCall | None = None
        self._running = False
        lifecycle.listen(self._node_changed)

    @property
    def redis_connected(self) -> bool:
        return self._redis.connected

    @property
    def docker_connected(self) -> bool:
        return self._docker.connected

    def start(self) -> None:
        """The node is registered: the time to connect begins. What was reported before counts."""
        self._running = True
        self._lifecycle.registered()
        seconds = self._config.connect_deadline
        if self._lifecycle.state is NodeState.STARTING:
            self._deadline = self._clock.callLater(seconds, self._lifecycle.not_connected_in_time, seconds)
        for link in self._links:
            link.watch()
        self._judge()

    def stop(self) -> None:
        """Nothing comes to the lifecycle from here any more."""
        self._running = False
        self._forget_deadline()
        for link in self._links:
            link.rest()

    def redis_changed(self, connected: bool, error: StellarError | None = None) -> None:
        """Redis is connected, or is not (any more) because of `error`; one that no retry helps with is a refusal."""
        self._changed(self._redis, connected, error)

    def docker_changed(self, connected: bool, error: StellarError | None = None) -> None:
        """The same of the Docker Engine; an API that is too old is a refusal."""
        self._changed(self._docker, connected, error)

    def _changed(self, link: _Link, connected: bool, error: StellarError | None) -> None:
        matters = link.report(connected, error)
        if self._running:
            link.watch()
            if matters:
                self._judge()

    def _judge(self) -> None:
        refused = next((link for link in self._links if link.refused), None)
        missing = next((link for link in self._links if not link.connected), None)
        if refused is not None:
            self._lifecycle.refused(f"{refused.name}: {refused.refused}")
        elif missing is not None:
            self._lifecycle.disconnected(missing.name)
        else:
            self._lifecycle.connected()
            self._greet()

    def _node_changed(self, _previous: NodeState, state: NodeState, _reason: str) -> None:
        if state is not NodeState.STARTING:
            self._forget_deadline()

    def _forget_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
