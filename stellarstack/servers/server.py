"""One game server: its record, its lifecycle and what the engine tells of its container."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stellarstack.core.events import deployment_progress, server_status
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerRecord, ServerStatus, StatusReason
from stellarstack.core.server_lifecycle import ServerLifecycle, Transition
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import ContainerGone, TimedOut
from stellarstack.interfaces import ContainerState, ServerConsole
from stellarstack.servers.ready import ReadyWatch
from stellarstack.servers.surroundings import Surroundings
from stellarstack.tasks import within

LOOK_AGAIN = 1.0  # seconds after which an end that the event feed may have missed is looked up


class Server:
    """Owns the state of one game server. The procedures that change it (start, stop, install) live beside this module.

    `on_end(server, transition)` is told when a process ended; `on_rest(server)` when somebody wants it to stay down.
    """

    _log = Logger()

    def __init__(
        self,
        record: ServerRecord,
        console: ServerConsole,
        around: Surroundings,
        on_end: Callable[[Server, Transition], None],
    ) -> None:
        self.record = record
        self.console = console
        self.around = around
        self.lifecycle = ServerLifecycle(record.spec.server_id, record.status)
        self.watch: ReadyWatch | None = None
        self.killing = False
        self.started_at: float | None = None
        self.crashes: tuple[float, ...] = ()
        self._on_end = on_end
        self._ends: list[Deferred[None]] = []
        self._oom_container: str | None = None
        self._retired = False
        self.told = 0

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
    def root(self) -> Path:
        return self.around.servers_root / self.id

    def ports(self) -> list[Json]:
        """As the wire tells them."""
        return [
            {"host": port.host, "container": port.container, "protocol": port.protocol, "ip": port.ip}
            for port in self.spec.ports
        ]

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
            "startedAt": self.started_at if self.status.has_process else None,
        }

    # ------------------------------------------------------------------ changes

    def begin_run(self) -> None:
        """A new container is about to be made and started."""
        self.killing = False
        self._oom_container = None
        # late words about the last run's container no longer concern us
        self.keep(replace(self.record, wanted=True, container_id=None))
        self.moved(self.lifecycle.start_began())

    def rest(self) -> None:
        """Somebody wants it down: no crash policy brings it back."""
        if self.record.wanted:
            self.keep(replace(self.record, wanted=False))

    def retire(self) -> None:
        """The server is being deleted: nothing of it is written down any more."""
        self._retired = True

    def moved(self, transition: Transition) -> None:
        """Keeps and tells a new state; a repeated one is kept silent."""
        before = (self.record.status, self.record.reason)
        changed = replace(self.record, status=transition.status, reason=transition.reason)
        if transition.exit_code is not None or transition.status is ServerStatus.STARTING:
            changed = replace(changed, exit_code=transition.exit_code)
        self.keep(changed)
        if before != (changed.status, changed.reason):
            self.tell()
        self.console.set_status(transition.status)

    def keep(self, record: ServerRecord) -> None:
        """Makes `record` the current one and writes it down, in order."""
        self.record = record
        if not self._retired:
            self.around.tasks.spawn("server record", self._write(record))

    async def _write(self, record: ServerRecord) -> None:
        await self.around.store.put_server(self.id, record.to_document())

    def tell(self) -> None:
        """Sends `server.status` with what is so now."""
        self.told += 1
        around, code = self.around, None if self.status.has_process else self.record.exit_code
        event = server_status(self.id, around.node_id, around.now(), self.status, self.record.reason, code)
        around.tasks.spawn("server.status", around.bus.emit(event))

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

    async def container_died(self, container_id: str, cause: StatusReason | None = None) -> None:
        """The engine says the container ended: looks, and tells it once. `cause` where the caller knows one."""
        if not self._concerns(container_id):
            return
        try:
            state = await self.around.engine.inspect(container_id)
        except ContainerGone:
            state = None
        if self._concerns(container_id) and (state is None or not state.running):
            self.note_end(state, cause)

    async def settle_with_engine(self) -> None:
        """Looks at the container by name and takes an end into the books, also of one that never ran."""
        try:
            state = await self.around.engine.inspect(self.container_name)
        except ContainerGone:
            state = None
        if self.status.has_process and (state is None or not state.running):
            self.note_end(state)

    def note_end(self, state: ContainerState | None, cause: StatusReason | None = None) -> None:
        """Takes the end of the process into the books. `state` None: the container is gone."""
        if not self.status.has_process:
            return
        ran = state is not None and state.started_at is not None
        exit_code = state.exit_code if state is not None and ran else None
        reason = self._reason(state, cause)
        self.around.gauges.untrack(self.id)
        transition = self.lifecycle.exited(exit_code, reason)
        self.started_at = None
        self.moved(transition)
        self._log.info("{server} ended with {code}: {now}", server=self.id, code=exit_code, now=self.status.value)
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.close()  # who waits for it looks at the state as it is now
        waiting, self._ends = self._ends, []
        for end in waiting:
            end.callback(None)
        self._on_end(self, transition)

    def _concerns(self, container_id: str) -> bool:
        return container_id == self.record.container_id and self.status.has_process

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
        ended: Deferred[None] = Deferred(lambda gone: self._ends.remove(gone))
        if self.status.has_process:
            self._ends.append(ended)
        else:
            ended.callback(None)
        return ended

    async def ended_within(self, seconds: float) -> bool:
        """Waits for the end; looks at the container itself every second, should the event feed have missed it."""
        clock = self.around.clock
        deadline = clock.seconds() + seconds
        while self.status.has_process and clock.seconds() < deadline:
            wait = min(LOOK_AGAIN, deadline - clock.seconds())
            try:
                await within(clock, wait, "the end", self.when_ended())
            except TimedOut:
                await self.settle_with_engine()
        return not self.status.has_process
