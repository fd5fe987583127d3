"""Keeps the household true to the engine: follows its events, reconciles after each outage, restarts what crashed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock, DeferredSemaphore, FirstError
from twisted.logger import Logger

from stellarstack.core.container_spec import LABEL_INSTALLATION, LABEL_NODE, LABEL_ROLE, LABEL_SERVER, ROLE_INSTALL
from stellarstack.core.crash import BACKOFF_FIRST, Ending, in_window, judge, known_cause
from stellarstack.core.events import node_alert
from stellarstack.core.messages import Json
from stellarstack.core.records import StatusReason
from stellarstack.core.server_lifecycle import Transition
from stellarstack.errors import StellarError
from stellarstack.interfaces import ContainerState, EngineEvent, EngineVersion
from stellarstack.servers.household import Household
from stellarstack.servers.lane import Outcome, Step
from stellarstack.servers.server import Server
from stellarstack.servers.start import launch
from stellarstack.servers.stop import stop
from stellarstack.servers.surroundings import Surroundings
from stellarstack.servers.truth import doubt, look
from stellarstack.tasks import sleep

RETRY_FIRST, RETRY_MOST = 0.2, 5.0  # seconds between attempts to reach the engine
PULSE = 10.0  # seconds between questions whether the engine still answers
CRASH_LINES = 50
SIDE_BY_SIDE = 16  # servers that are compared with the engine at a time


class Keeper:
    """`changed(connected, error)` is told when the engine comes and goes; `add_internal` queues a crash restart.

    The household is true again when `changed(True, None)` is told.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        household: Household,
        around: Surroundings,
        changed: Callable[[bool, StellarError | None], None],
        add_internal: Callable[..., None],
        draining: Callable[[], bool],
        rebooted: Callable[[], bool],
    ) -> None:
        self._household = household
        self._around = around
        self._changed = changed
        self._add_internal = add_internal
        self._draining = draining
        self._rebooted = rebooted
        self._first = True
        self._foreign: frozenset[str] = frozenset()
        self._reconciling = DeferredLock()
        self._last_event = 0.0
        self._pause: Deferred[None] | None = None
        self._delay = RETRY_FIRST
        self._up = False
        self.engine_version: EngineVersion | None = None

    def start(self) -> None:
        self._around.tasks.spawn("engine watch", self._follow())

    async def _follow(self) -> None:
        while True:
            since = self._last_event or self._around.now()
            try:
                self._met(await self._around.engine.version())
                await self._while_it_answers(self._around.engine.follow_events(since, self._event, self._connected))
            except StellarError as error:
                self._log.warn("the engine is out of reach: {reason}", reason=str(error))
                self._lost(error)
            except CancelledError:
                raise
            except Exception:
                self._log.failure("the engine watch stumbled")
                self._lost(StellarError("the engine watch stumbled over a fault of the daemon's own"))
            self._pause = sleep(self._around.clock, self._delay)
            self._delay = min(RETRY_MOST, self._delay * 2)
            await self._pause

    def _met(self, version: EngineVersion) -> None:
        if self.engine_version is None or self.engine_version.known_holes != version.known_holes:
            for hole in version.known_holes:
                self._log.warn("{hole}, and has holes by which games broke out of containers; update it", hole=hole)
        self.engine_version = version

    def _lost(self, error: StellarError) -> None:
        self._up = False
        for server in self._household.all():
            server.outage = self._due_to_outage() if server.seen else None
        self._changed(False, error)
        self._tell_all()

    def _due_to_outage(self) -> StatusReason:
        """Why a process would end while the engine is away: where containers outlive it, for reasons of their own."""
        outlived = self.engine_version is not None and self.engine_version.live_restore
        return StatusReason.RECONCILED if outlived else StatusReason.DOCKER_RESTART

    async def _while_it_answers(self, following: Coroutine[Deferred[Any], Any, None]) -> None:
        """Follows the feed; a frozen engine keeps its feed open and silent, so it is asked now and then (K02)."""
        feed = Deferred.fromCoroutine(following)
        pulse = Deferred.fromCoroutine(self._pulse())
        try:
            await DeferredList([feed, pulse], fireOnOneCallback=True, fireOnOneErrback=True, consumeErrors=True)
        except FirstError as first:
            first.subFailure.raiseException()
        finally:
            feed.cancel()
            pulse.cancel()

    async def _pulse(self) -> None:
        while True:
            await sleep(self._around.clock, PULSE)
            self.engine_version = await self._around.engine.version()
            for server in self._household.all():
                if server.status.has_process and not server.busy and not server.console.attached:
                    doubt(server)  # its terminal broke off, or its end was missed

    def hurry(self) -> None:
        """Tries the engine at once instead of waiting out the delay."""
        if self._pause is not None and not self._pause.called:
            self._pause.callback(None)

    def _connected(self) -> None:
        self._up = True
        self._delay = RETRY_FIRST
        self._around.tasks.spawn("reconcile", self._reconcile_in_turn())

    def _event(self, event: EngineEvent) -> None:
        self._last_event = max(self._last_event, event.time)
        server = self._household.of_container(event.container_id)
        if server is None:
            return
        server.engine_takes_along = self._due_to_outage() is StatusReason.DOCKER_RESTART
        if event.action == "oom":
            server.oom_seen(event.container_id)
        elif (event.action in ("die", "destroy") and server.status.has_process) or (
            event.action == "start" and not server.starting_up
        ):
            doubt(server)

    # ------------------------------------------------------------------ reconcile

    async def _reconcile_in_turn(self) -> None:
        await self._reconciling.run(lambda: Deferred.fromCoroutine(self._reconcile_all()))

    async def _reconcile_all(self) -> None:
        around = self._around
        try:
            await around.ownership.adopt({one.id: around.bridges.names(one) for one in self._household.all()})
        except StellarError as error:
            self._log.warn("what is ours could not be looked for: {reason}", reason=str(error))
        places = DeferredSemaphore(SIDE_BY_SIDE)
        looks = [places.run(self._reconcile_soon, server) for server in self._household.all()]
        await DeferredList(looks, consumeErrors=True)
        for server in self._household.all():
            server.outage = None
        self._tell_all()
        try:
            await self._look_at_strangers()
        except StellarError as error:
            self._log.warn("other containers could not be looked at: {reason}", reason=str(error))
        try:
            await self._around.bridges.sweep()
        except StellarError as error:
            self._log.warn("networks that nobody needs could not be removed: {reason}", reason=str(error))
        if self._up:
            self._changed(True, None)

    def _reconcile_soon(self, server: Server) -> Deferred[None]:
        return Deferred.fromCoroutine(self._reconcile(server))

    async def _reconcile(self, server: Server) -> None:
        fresh = not server.seen
        cause = StatusReason.DOCKER_RESTART if self._rebooted() else StatusReason.RECONCILED
        try:
            await look(server, cause if fresh else self._due_to_outage())
        except CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, StellarError):
                self._log.failure("the reconcile of {server} stumbled", server=server.id)
            self._log.warn("{server} could not be reconciled: {reason}", server=server.id, reason=str(error))
            doubt(server)
            return
        if fresh and server.record.wanted and not server.status.has_process and server.comeback is None:
            self._come_back(server, BACKOFF_FIRST)  # the daemon ended while it waited to be restarted

    def _tell_all(self) -> None:
        """Once at each start of the daemon every server's state is told, changed or not (PROTOCOL 5)."""
        if self._first:
            self._first = False
            for server in self._household.all():
                if not server.told:
                    server.tell()

    async def _look_at_strangers(self) -> None:
        """Games with this node's label and no record are left alone, and told; so is what another daemon made.

        Forgotten installs are removed.
        """
        foreign = []
        for container in await self._around.engine.containers({LABEL_NODE: self._around.node_id}):
            server_id = container.labels.get(LABEL_SERVER, "")
            server = self._household.find(server_id)
            ours = self._around.ownership.ours(container)
            if not ours and (server is not None or LABEL_INSTALLATION in container.labels):
                foreign.append(container.name)
            elif container.labels.get(LABEL_ROLE) == ROLE_INSTALL:
                if server is None or not server.busy:
                    await self._remove_forgotten(container)
            elif server is None and container.running:
                text = f"container {container.name} of server {server_id} runs here without a record; it is left alone"
                await self._alert("warning", "container_without_record", text, server_id)
        await self._tell_foreign(frozenset(foreign))

    async def _tell_foreign(self, names: frozenset[str]) -> None:
        """Once, and again when others come."""
        fresh, self._foreign = names - self._foreign, names
        if fresh:
            some = ", ".join(sorted(names)[:5])
            text = (
                f"{len(names)} containers of another daemon bear this node's id ({some}); they are left alone: "
                "give each daemon its own [node] id"
            )
            await self._alert("critical", "node_id_shared", text)

    async def _remove_forgotten(self, container: ContainerState) -> None:
        self._log.warn("{container}: nobody waits for this install any more", container=container.name)
        await self._around.hands.remove(container.id)

    # ------------------------------------------------------------------ crashes

    def ended(self, server: Server, transition: Transition) -> None:
        """A process ended. One that should run comes back as its crash policy says."""
        if not server.record.wanted or self._household.closing:
            return
        now = self._around.now()
        oom = transition.reason is StatusReason.OOM
        policy = server.spec.blueprint.crash
        code = transition.exit_code if transition.exit_code is not None else 255
        if transition.reason is StatusReason.DOCKER_RESTART and code == 0:
            code = 143  # the engine ended it, it did not end by itself
        verdict = judge(policy, Ending(code, oom), server.crashes, now)
        server.crashes = in_window(policy, server.crashes, now)
        if verdict.crashed:
            self._around.tasks.spawn("crash report", self._report(server, transition, verdict.why))
        if verdict.restart_after is None or self._draining():
            server.rest()
            return
        self._come_back(server, verdict.restart_after)

    def _come_back(self, server: Server, delay: float) -> None:
        waiting = server.comeback = sleep(self._around.clock, delay)
        self._around.tasks.spawn("crash restart", self._restart(server, waiting))

    async def _restart(self, server: Server, waiting: Deferred[None]) -> None:
        try:
            await waiting
        except CancelledError:
            return  # somebody decided otherwise
        server.comeback = None
        if self._may_come_back(server):
            self._add_internal(server.id, "restart after a crash", lambda step: self._again(server, step), _forget)

    def _may_come_back(self, server: Server) -> bool:
        """One whose turn comes while the node drains is at rest from then on, as if it had crashed just now."""
        waits = self._household.find(server.id) is server and server.record.wanted and not server.status.has_process
        if waits and self._draining():
            server.rest()
        return waits and server.record.wanted

    async def _again(self, server: Server, step: Step) -> dict[str, Json]:
        if not self._may_come_back(server):
            return {}
        await step.begin()
        server.crashes = (*server.crashes, self._around.now())
        try:
            await launch(server, step)
        except StellarError:
            if not server.came_up and not server.status.has_process:
                server.want(True)
                self.ended(server, server.lifecycle.last)
            raise
        return {}

    async def _report(self, server: Server, transition: Transition, why: str) -> None:
        lines = server.console.tail(CRASH_LINES)
        oom = transition.reason is StatusReason.OOM
        cause = known_cause(lines, oom_killed=oom, exit_code=transition.exit_code)
        text = (
            f"server {server.id} crashed with status {transition.exit_code}{' (out of memory)' if oom else ''}; {why}"
        )
        more: dict[str, Json] = {"exitCode": transition.exit_code, "oom": oom, "lines": list(lines)}
        if cause is not None:
            more |= {"cause": cause.code, "hint": cause.hint}
        await self._alert("warning", "server_crashed", text, server.id, **more)

    # ------------------------------------------------------------------ the disk

    def disk_over(self, server_id: str, used: int, limit: int) -> None:
        """A server takes more of the disk than it may, in bytes: told, and ended where `[docker] disk_over` says so."""
        server = self._household.find(server_id)
        if server is None:
            return
        stops = self._around.docker.disk_over == "stop" and server.status.has_process
        what_follows = "it is stopped" if stops else "it goes on"
        text = (
            f"server {server_id} takes {used - limit} bytes more of the disk than its {limit >> 20} MB; {what_follows}"
        )
        more: dict[str, Json] = {"used": used, "limit": limit, "overshoot": used - limit}
        self._around.tasks.spawn("disk alert", self._alert("warning", "disk_limit", text, server_id, **more))
        if stops:
            self._around.tasks.spawn("stop over the disk limit", self._stop_over_limit(server))

    async def _stop_over_limit(self, server: Server) -> None:
        self._add_internal(server.id, "stop over the disk limit", lambda step: stop(server, step, None), _forget, True)

    async def _alert(self, severity: str, code: str, text: str, server_id: str | None = None, **more: Json) -> None:
        around = self._around
        await around.bus.emit(node_alert(around.node_id, around.now(), severity, code, text, server_id, **more))


def _forget(_outcome: Outcome) -> None:
    """What the daemon does by itself answers to nobody; its end is told as server.status."""
