"""One game server: its record, its lifecycle and what the engine tells of its container."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stellarstack.core.events import deployment_progress, server_status
from stellarstack.core.messages import Json
from stellarstack.core.ports import PortMapping
from stellarstack.core.records import ServerRecord, ServerStatus, StatusReason
from stellarstack.core.server_lifecycle import ServerLifecycle, Transition
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import StellarError, TimedOut
from stellarstack.interfaces import ContainerState, ServerConsole
from stellarstack.servers.ready import ReadyWatch
from stellarstack.servers.scribe import Scribe
from stellarstack.servers.surroundings import Surroundings
from stellarstack.servers.truth import doubt, look
from stellarstack.tasks import within

LOOK_AGAIN = 1.0  # seconds after which an end that the event feed may have missed is looked up
LOOK_LEAST, LOOK_MOST = 0.5, 5.0  # seconds that such a look may take


class Server:
    """Owns the state of one game server. The procedures that change it (start, stop, install) live beside this module.

    `on_end(server, transition)` is told when a process ended. `closing`: the daemon stops, so what breaks off is
    neither undone nor told. `seen`: this daemon has compared it with the engine. `process_asked`: the engine was asked
    to start this run's process; `came_up`: it said that it did. `run`: a number that changes when a run begins and when
    it ends. `comeback`: the wait before a crash restart.
    `engine_takes_along`: the engine has no live restore, and its own end is that of its containers.
    """

    _log = Logger()

    def __init__(
        self,
        record: ServerRecord,
        console: ServerConsole,
        around: Surroundings,
        on_end: Callable[[Server, Transition], None],
        closing: Callable[[], bool],
    ) -> None:
        self.record = record
        self.console = console
        self.around = around
        self.closing = closing
        self.lifecycle = ServerLifecycle(record.spec.server_id, record.status)
        self.watch: ReadyWatch | None = None
        self.killing = False
        self.run = 0
        self.process_asked = False
        self.came_up = False
        self.started_at: float | None = None
        self.crashes: tuple[float, ...] = ()
        self.comeback: Deferred[None] | None = None
        self.outage: StatusReason | None = None  # what an end would be due to, while the engine comes back
        self.engine_takes_along = False
        self.seen = False
        self.told = 0
        self.doubts = 0
        self.doubting = False
        self.asked_meanwhile = False
        self._on_end = on_end
        self._ends: list[Deferred[None]] = []
        self._oom_container: str | None = None
        self._works: list[str] = []
        self._scribe = Scribe(
            server_id=self.id, store=around.store, bus=around.bus, clock=around.clock, tasks=around.tasks,
            again=self.tell,
        )  # fmt: skip

    # ------------------------------------------------------------------ facts

    @property
    def id(self) -> str:
        return self.record.spec.server_id

    @property
    def spec(self) -> ServerSpec:
        return self.record.spec

    @property
    def status(self) -> ServerStatus:
        return self.lifecycle.status

    @property
    def container_name(self) -> str:
        """Of the container and of the network alike; one server never has two."""
        return f"{self.around.node_id}.{self.id}"

    @property
    def user(self) -> tuple[int, int]:
        """The uid and gid that it runs as, and that own its files."""
        docker, own = self.around.docker, self.record.uid
        return (docker.uid, docker.gid) if own is None else (own, own)

    @property
    def root(self) -> Path:
        return self.around.servers_root / self.id

    @property
    def bound(self) -> tuple[PortMapping, ...]:
        """The ports that its container holds, and where it has none those of its next one."""
        held = self.record.bound
        return held if held is not None and self.status.has_process else self.spec.ports

    @property
    def held(self) -> ServerSpec:
        """Its spec with every port that is its own: those of its container, and those that wait for the next start."""
        if self.bound == self.spec.ports:
            return self.spec
        return replace(self.spec, ports=(*self.spec.ports, *self.bound))

    def ports(self) -> list[Json]:
        """As the wire tells those that are bound."""
        return _told(self.bound)

    def row(self) -> dict[str, Json]:
        """The server as `server.list` tells it."""
        return {
            "serverId": self.id,
            "name": self.spec.name,
            "status": self.status.value,
            "reason": self.record.reason.value if self.record.reason else None,
            "exitCode": self.record.exit_code,
            "containerId": self.record.container_id,
            "blueprint": self.spec.blueprint.id,
            "image": self.spec.image,
            "ports": self.ports(),
            **({"pendingPorts": _told(self.spec.ports)} if self.bound != self.spec.ports else {}),
            "network": self.spec.network or None,
            "startedAt": self.started_at if self.status.has_process else None,
        }

    # ------------------------------------------------------------------ who is at work

    @property
    def busy(self) -> bool:
        """Whether a procedure moves this server now, and will say itself what came of it."""
        return bool(self._works)

    @property
    def starting_up(self) -> bool:
        """Whether a start is between its first effect and the engine's word that the process is there."""
        return "start" in self._works

    @contextmanager
    def at_work(self, work: str) -> Iterator[None]:
        """Says that `work` (start, stop, install) is under way."""
        self._works.append(work)
        try:
            yield
        finally:
            self._works.remove(work)
            if self.asked_meanwhile and not self.starting_up:
                self.asked_meanwhile = False
                doubt(self)

    # ------------------------------------------------------------------ changes

    def begin_run(self) -> None:
        """A new container is about to be made and started."""
        transition = self.lifecycle.start_began()
        self.run += 1
        self.killing = self.process_asked = self.came_up = False
        self._oom_container = self.started_at = None
        # late words about the last run's container no longer concern us
        self.keep(replace(self.record, container_id=None))
        self.want(True)
        self.moved(transition)

    def want(self, wanted: bool) -> None:
        """Whether it should run from now on; a crash restart that waits is called off."""
        waiting, self.comeback = self.comeback, None
        if waiting is not None:
            waiting.cancel()
        if self.record.wanted != wanted:
            self.keep(replace(self.record, wanted=wanted))

    def rest(self) -> None:
        """Somebody wants it down: no crash policy brings it back."""
        self.want(False)

    @property
    def retired(self) -> bool:
        """Whether the server is deleted: nothing of it is written down any more."""
        return self._scribe.retired

    async def retire(self) -> None:
        """Takes the record away. StoreFailed: it stays."""
        await self._scribe.erase()

    def moved(self, transition: Transition) -> None:
        """Keeps and tells a new state; a repeated one is kept silent."""
        before = (self.record.status, self.record.reason)
        changed = replace(self.record, status=transition.status, reason=transition.reason)
        if transition.exit_code is not None or transition.status.has_process:
            changed = replace(changed, exit_code=transition.exit_code)
        if changed != self.record:
            self.keep(changed)
        if before != (changed.status, changed.reason):
            self.tell()
        self.console.set_status(transition.status, transition.exit_code, transition.reason)

    def keep(self, record: ServerRecord) -> None:
        """Makes `record` the current one and writes it down."""
        self.record = record
        self._scribe.keep(record)

    def tell(self) -> None:
        """Sends `server.status` with what is so now."""
        self.told += 1
        around, code = self.around, None if self.status.has_process else self.record.exit_code
        self._scribe.tell(server_status(self.id, around.node_id, around.now(), self.status, self.record.reason, code))

    def progress(self, step: str, percent: int | None = None) -> None:
        """Sends `deployment.progress`."""
        around = self.around
        around.bus.publish(deployment_progress(self.id, around.node_id, around.now(), step, percent))

    def note(self, text: str) -> None:
        """Something for the daemon's own log."""
        self._log.warn("{server}: {text}", server=self.id, text=text)

    # ------------------------------------------------------------------ the end of a process

    def oom_seen(self, container_id: str) -> None:
        """The engine told of an out-of-memory kill in this container."""
        if container_id == self.record.container_id:
            self._oom_container = container_id

    def note_end(self, state: ContainerState | None, cause: StatusReason | None = None) -> None:
        """Takes the end of the process into the books. `state` None: the container is gone."""
        if not self.status.has_process:
            return
        # the container of an earlier run tells nothing of this one
        ran = state is not None and state.started_at is not None and state.id == self.record.container_id
        exit_code = state.exit_code if state is not None and ran else None
        reason = self._reason(state, cause)
        self.around.gauges.untrack(self.id)
        transition = self.lifecycle.exited(exit_code, reason)
        self.started_at = None
        self.run += 1
        self.moved(transition)
        self._log.info("{server} ended with {code}: {now}", server=self.id, code=exit_code, now=self.status.value)
        self.close_watch()  # who waits for it looks at the state as it is now
        waiting, self._ends = self._ends, []
        for end in waiting:
            end.callback(None)
        self._on_end(self, transition)

    def close_watch(self) -> None:
        """The run is over: nobody waits for its ready check any more."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.close()

    def _reason(self, state: ContainerState | None, cause: StatusReason | None) -> StatusReason | None:
        if self.killing:
            return StatusReason.KILLED
        if self.status is ServerStatus.STOPPING:
            return None
        seen = self._oom_container == self.record.container_id or self.around.gauges.last_oom(self.id) > 0
        if state is not None and (state.oom_killed or (seen and state.exit_code == 137)):
            return StatusReason.OOM
        return cause

    def when_ended(self) -> Deferred[None]:
        """Fires when the process of now has ended; at once where there is none."""
        ended: Deferred[None] = Deferred(self._no_longer_waits)
        if self.status.has_process:
            self._ends.append(ended)
        else:
            ended.callback(None)
        return ended

    def _no_longer_waits(self, gone: Deferred[None]) -> None:
        if gone in self._ends:
            self._ends.remove(gone)

    def is_over(self, run: int) -> bool:
        """Whether the run of that number has ended, even where another has begun meanwhile."""
        return self.run != run or not self.status.has_process

    async def ended_within(self, seconds: float, run: int) -> bool:
        """Waits for a run's end; looks at the container itself every second, should the event feed have missed it."""
        clock = self.around.clock
        deadline = clock.seconds() + seconds
        while not self.is_over(run) and clock.seconds() < deadline:
            wait = min(LOOK_AGAIN, deadline - clock.seconds())
            try:
                await within(clock, wait, "the end", self.when_ended())
            except TimedOut:
                await self.glance(max(LOOK_LEAST, min(LOOK_MOST, deadline - clock.seconds())))
        return self.is_over(run)

    async def glance(self, seconds: float) -> None:
        """Looks at the container once, so many seconds at most; an engine that does not answer is noted."""
        try:
            await within(self.around.clock, seconds, "a look", look(self))
        except StellarError as error:
            self.note(f"its container cannot be looked at: {error}")


def _told(ports: Iterable[PortMapping]) -> list[Json]:
    return [
        {"host": port.host, "container": port.container, "protocol": port.protocol, "ip": port.ip} for port in ports
    ]
