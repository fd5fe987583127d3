"""Keeps the household true to the engine: follows its events, reconciles after each outage, restarts what crashed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.logger import Logger

from stellarstack.core.crash import Ending, in_window, judge, known_cause
from stellarstack.core.events import node_alert
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus, StatusReason
from stellarstack.core.server_lifecycle import Transition
from stellarstack.errors import ContainerGone, StellarError
from stellarstack.interfaces import EngineEvent, EngineVersion
from stellarstack.servers.household import Household
from stellarstack.servers.lane import Outcome, Step
from stellarstack.servers.server import Server
from stellarstack.servers.start import launch, measure
from stellarstack.servers.surroundings import Surroundings
from stellarstack.tasks import sleep

RETRY_FIRST, RETRY_MOST = 0.2, 5.0  # seconds between attempts to reach the engine
PULSE = 10.0  # seconds between questions whether the engine still answers
CRASH_LINES = 50
LOOK_WAITS = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds between looks at a container that ended


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
                self.engine_version = await self._around.engine.version()
                await self._while_it_answers(self._around.engine.follow_events(since, self._event, self._connected))
            except StellarError as error:
                self._log.warn("the engine is out of reach: {reason}", reason=str(error))
                self._up = False
                self._changed(False, error)
            self._pause = sleep(self._around.clock, self._delay)
            self._delay = min(RETRY_MOST, self._delay * 2)
            await self._pause

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

    def hurry(self) -> None:
        """Tries the engine at once instead of waiting out the delay."""
        if self._pause is not None and not self._pause.called:
            self._pause.callback(None)

    def _connected(self) -> None:
        self._up = True
        self._delay = RETRY_FIRST
        self._around.tasks.spawn("reconcile", self._reconcile_all())

    def _event(self, event: EngineEvent) -> None:
        self._last_event = max(self._last_event, event.time)
        server = self._household.of_container(event.container_id)
        if server is None:
            return
        if event.action == "oom":
            server.oom_seen(event.container_id)
        elif event.action in ("die", "destroy"):
            self._around.tasks.spawn("end of a container", self._look_at(server, event.container_id))

    async def _look_at(self, server: Server, container_id: str) -> None:
        """The end of a container must not be missed for an engine that stumbles at this very moment."""
        for wait in LOOK_WAITS:
            try:
                await server.container_died(container_id)
                return
            except StellarError as error:
                self._log.warn("{server}: its end cannot be looked up: {reason}", server=server.id, reason=str(error))
            await sleep(self._around.clock, wait)

    # ------------------------------------------------------------------ reconcile

    async def _reconcile_all(self) -> None:
        cause = StatusReason.RECONCILED if self._first else StatusReason.DOCKER_RESTART
        if self._first and self._rebooted():
            cause = StatusReason.DOCKER_RESTART
        for server in self._household.all():
            told = server.told
            try:
                await self._reconcile(server, cause)
            except StellarError as error:
                self._log.warn("{server} could not be reconciled: {reason}", server=server.id, reason=str(error))
            if self._first and server.told == told:
                server.tell()
        await self._tell_strangers()
        self._first = False
        if self._up:
            self._changed(True, None)

    async def _reconcile(self, server: Server, cause: StatusReason) -> None:
        try:
            state = await self._around.engine.inspect(server.container_name)
        except ContainerGone:
            state = None
        if state is None or not state.running:
            if server.record.container_id is not None or self._first:
                server.note_end(state, cause)
            if server.status is ServerStatus.INSTALLING and self._first:
                server.moved(server.lifecycle.install_ended())
            return
        if server.record.container_id != state.id:
            server.keep(replace(server.record, container_id=state.id))
        if self._first or not server.status.has_process:
            server.moved(server.lifecycle.found_running())
        measure(server, state)
        if not server.console.attached:
            await server.console.attach(state.id, rejoin=True)

    async def _tell_strangers(self) -> None:
        """Containers with this node's label and no record: left alone, since they may be somebody's game, and told."""
        labels = {"stellarstack.node": self._around.node_id}
        for container in await self._around.engine.containers(labels):
            server_id = container.labels.get("stellarstack.server", "")
            if self._household.find(server_id) is None and container.running:
                text = f"container {container.name} of server {server_id} runs here without a record; it is left alone"
                await self._alert("warning", "container_without_record", text, server_id)

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
        self._around.tasks.spawn("crash restart", self._restart(server, verdict.restart_after))

    async def _restart(self, server: Server, delay: float) -> None:
        await sleep(self._around.clock, delay)
        if server.record.wanted and not server.status.has_process:
            self._add_internal(server.id, "restart after a crash", lambda step: self._again(server, step), _forget)

    async def _again(self, server: Server, step: Step) -> dict[str, Json]:
        if server.record.wanted and not server.status.has_process and not self._draining():
            await step.begin()
            server.crashes = (*server.crashes, self._around.now())
            await launch(server)
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

    async def _alert(self, severity: str, code: str, text: str, server_id: str, **more: Json) -> None:
        around = self._around
        await around.bus.emit(node_alert(around.node_id, around.now(), severity, code, text, server_id, **more))


def _forget(_outcome: Outcome) -> None:
    """A crash restart answers to nobody; its end is told as server.status."""
