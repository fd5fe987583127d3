"""The node itself: every room, made and handed what it needs, and the stages by which they begin and end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stellarstack import __version__
from stellarstack.auth.signing import CommandAuthority
from stellarstack.auth.tls import TlsContexts
from stellarstack.bus import Bus
from stellarstack.config import Config
from stellarstack.connectivity import Connectivity
from stellarstack.console.consoles import Consoles
from stellarstack.core.events import command_failed, node_alert, node_status, server_metrics
from stellarstack.core.messages import Json
from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState
from stellarstack.core.requests import NodeShutdown, Request
from stellarstack.docker.engine import DockerEngine
from stellarstack.doors import Doors, Rooms
from stellarstack.errors import StellarError, TimedOut
from stellarstack.facts import NodeFacts, Sources
from stellarstack.heartbeat import Heartbeat, Vitals
from stellarstack.measuring import Measuring
from stellarstack.memory import Memory
from stellarstack.metrics.host import HostProbe
from stellarstack.notify import ServiceNotifier
from stellarstack.places import make_places, read_seccomp
from stellarstack.servers.blueprints import BlueprintShelf
from stellarstack.servers.bridges import Bridges
from stellarstack.servers.create import Arrivals
from stellarstack.servers.dispatch import Dispatch
from stellarstack.servers.drain import Drain
from stellarstack.servers.household import Household
from stellarstack.servers.intake import CommandIntake
from stellarstack.servers.keeper import Keeper
from stellarstack.servers.operations import Operations
from stellarstack.servers.ownership import Ownership
from stellarstack.servers.prune import HOUR, PulledImages, images_of
from stellarstack.servers.resume import sort_out
from stellarstack.servers.subnets import SubnetPool
from stellarstack.servers.surroundings import Surroundings
from stellarstack.servers.threads import FewThreads, ReactorThreads
from stellarstack.servers.trees import WALKS, Trees
from stellarstack.stages import Stage
from stellarstack.statefolder import StateFolder, installation_id
from stellarstack.store.sqlite_store import SqliteStore
from stellarstack.tasks import Tasks, within
from stellarstack.telephone import Telephone

FIRST_LOOK = 5.0  # seconds that the start waits for the engine's first word


class Node:
    """Everything that one daemon process runs. `folder` is the state folder, held by this process."""

    _log = Logger()

    def __init__(self, config: Config, folder: StateFolder, reactor: Any) -> None:
        self._config = config
        self._folder = folder
        self._reactor = reactor
        self._now = time.time
        self._tasks = Tasks()
        self._end: Callable[[], None] = lambda: None
        self._threads = ReactorThreads(reactor)
        self._walks, self._probes = FewThreads(reactor, WALKS, "trees"), FewThreads(reactor, 4, "ready probes")
        self._looked: Deferred[None] = Deferred()  # fires at the engine's first word, good or bad
        self._issues: list[tuple[str, str, str]] = []
        self.node_id = config.node.id or ""
        make_places(config)
        self._seccomp = read_seccomp(config.docker.seccomp_profile)
        self._notifier = ServiceNotifier(environ=os.environ, clock=reactor, pid=os.getpid())
        self._tls = TlsContexts(config.tls)
        self._lifecycle = NodeLifecycle(changed=self._state_changed)
        self._store = SqliteStore(
            path=config.database_path, node_id=self.node_id, reactor=reactor, limits=config.limits,
            issue=lambda issue: self._alert("critical", issue.code, issue.message),
        )  # fmt: skip
        self._memory = Memory(
            store=self._store, threads=self._threads, clock=reactor, tasks=self._tasks,
            alarm=lambda *told: self._issues.append(told),
        )  # fmt: skip
        self._bus = Bus(node_id=self.node_id, store=self._store, clock=reactor)
        self._engine = DockerEngine(reactor=reactor, config=config.docker)
        self._probe = HostProbe(path=config.paths.state, reactor=reactor)
        self._consoles = Consoles(
            engine=self._engine, directory=config.console_path, config=config.console, bus=self._bus,
            node_id=self.node_id, reactor=reactor, tasks=self._tasks, now=self._now,
        )  # fmt: skip
        self._make_gauges()
        self._make_household()
        self._make_redis()
        self._make_doors()

    # ------------------------------------------------------------------ what is made

    def _make_gauges(self) -> None:
        self._measuring = Measuring(
            config=self._config, store=self._store, reactor=self._reactor, now=self._now, sample=self._sampled,
            over=lambda *told: self._keeper.disk_over(*told),
        )  # fmt: skip
        self._sampler = self._measuring.sampler

    def _make_household(self) -> None:
        config, reactor = self._config, self._reactor
        self._household = Household(
            draining=lambda: self._lifecycle.draining, on_end=lambda *ended: self._keeper.ended(*ended)
        )
        subnets = SubnetPool(
            node_id=self.node_id, engine=self._engine, pool=config.docker.network_pool,
            threads=self._threads, held=self._household.subnets,
        )  # fmt: skip
        ownership = Ownership(
            installation=installation_id(config.paths.state), node_id=self.node_id, engine=self._engine,
            store=self._store,
        )  # fmt: skip
        bridges = Bridges(
            node_id=self.node_id, engine=self._engine, clock=reactor, ownership=ownership, subnets=subnets,
            servers=self._household.all,
        )  # fmt: skip
        self._images = PulledImages(
            engine=self._engine, store=self._store, clock=reactor, now=self._now, tasks=self._tasks,
            after=config.docker.prune_after * HOUR, needed=lambda: images_of(self._household.all()),
        )  # fmt: skip
        self._around = Surroundings(
            node_id=self.node_id, engine=self._engine, store=self._store, bus=self._bus, consoles=self._consoles,
            gauges=self._sampler, fence=self._measuring.fence, subnets=subnets, bridges=bridges, ownership=ownership,
            docker=config.docker,            servers_root=config.servers_path,
            state_root=config.paths.state, clock=reactor, now=self._now, tasks=self._tasks, threads=self._threads,
            trees=Trees(threads=self._walks, clock=reactor), probes=self._probes,
            images=self._images, seccomp=self._seccomp,
        )  # fmt: skip
        shelf = BlueprintShelf(config.blueprints_path, self._threads)
        self._drain = Drain(
            household=self._household, lifecycle=self._lifecycle, store=self._store, bus=self._bus,
            node_id=self.node_id, clock=reactor, now=self._now, tasks=self._tasks,
        )  # fmt: skip
        operations = Operations(
            household=self._household,
            arrivals=Arrivals(household=self._household, around=self._around, shelf=shelf),
            around=self._around,
            node_info=lambda: self._facts.info(),
            revoke=lambda request: self._doors.revoke(request),
            queue=lambda *work: self._dispatch.add_internal(*work),
            drain=self._drain,
        )
        self._dispatch = Dispatch(
            operations=operations, finished=self._finished, bus=self._bus, store=self._store, node_id=self.node_id,
            now=self._now, tasks=self._tasks, parallel=config.limits.parallel_commands,
            lane_length=config.limits.lane_length,
        )  # fmt: skip
        authority = CommandAuthority(
            keys=config.auth.command_keys, require_signed=config.auth.require_signed_commands,
            node_id=config.node.id, now=self._now,
        )  # fmt: skip
        self._intake = CommandIntake(
            open_envelope=authority.open_envelope, submit=self._dispatch.submit, bus=self._bus, node_id=self.node_id,
            clock=reactor, now=self._now, tasks=self._tasks,
        )  # fmt: skip
        self._keeper = Keeper(
            household=self._household, around=self._around, changed=self._engine_changed,
            add_internal=self._dispatch.add_internal, draining=lambda: self._lifecycle.draining,
            rebooted=lambda: self._memory.rebooted,
        )  # fmt: skip

    def _make_redis(self) -> None:
        config = self._config
        self._telephone = Telephone(
            config=config, tls=self._tls, store=self._store, intake=self._intake, reactor=self._reactor,
            changed=self._redis_changed, sequence_reset=self._sequence_reset,
        )  # fmt: skip
        self._publisher, self._link = self._telephone.publisher, self._telephone.link
        if self._telephone.plaintext is not None:
            text = f"{self._telephone.plaintext} is not encrypted; use rediss://"
            self._issues.append(("warning", "redis_plaintext", text))
        self._heartbeat = Heartbeat(
            node_id=self.node_id, version=__version__, publisher=self._publisher, lifecycle=self._lifecycle,
            config=config.heartbeat, clock=self._reactor, now=self._now,
            vitals=Vitals(
                figures=self._probe.figures, outbox=self._store.outbox_state, active_containers=self._active,
                docker_connected=lambda: self._connectivity.docker_connected,
                outbox_rows=config.limits.outbox_rows, outbox_bytes=config.limits.outbox_bytes,
            ),
        )  # fmt: skip
        self._connectivity = Connectivity(
            lifecycle=self._lifecycle, greet=self._heartbeat.beat_now, retry_redis=self._link.retry,
            retry_docker=self._keeper.hurry, config=config.heartbeat, clock=self._reactor,
        )  # fmt: skip

    def _make_doors(self) -> None:
        probe = HostProbe(path=self._config.paths.state, reactor=self._reactor)  # its own interval, not the heartbeat's
        self._facts = NodeFacts(
            node_id=self._config.node.id, started=self._now(), now=self._now, clock=self._reactor,
            sources=Sources(
                state=lambda: self._lifecycle.state, figures=probe.figures, store=self._store,
                engine=lambda: self._keeper.engine_version, servers=self._household, measured=self._sampler.latest,
                redis_connected=lambda: self._connectivity.redis_connected,
                docker_connected=lambda: self._connectivity.docker_connected,
                missed=lambda: self._heartbeat.missed, viewers=lambda: self._doors.viewers,
            ),
        )  # fmt: skip
        rooms = Rooms(
            store=self._store, bus=self._bus, consoles=self._consoles, servers=self._household, intake=self._intake,
            facts=self._facts, lines=self._household.line_typed,
        )  # fmt: skip
        self._doors = Doors(config=self._config, tls=self._tls, rooms=rooms, reactor=self._reactor, now=self._now)
        if self._doors.plaintext:
            text = (
                f"[server] {self._config.server.host} has no [tls]: tokens and consoles cross the network unencrypted"
            )
            self._issues.append(("warning", "listener_plaintext", text))

    # ------------------------------------------------------------------ how it begins and ends

    def stages(self) -> list[Stage]:
        """In the order of the start; the stop goes the other way round. Without a node id nothing speaks for it.

        The heartbeat comes last: a start that breaks off says nothing of the node.
        """
        stages = [
            Stage("state", self._nothing, self._release),
            Stage("store", self._open_store, self._store.close, patience=3.0),
        ]
        if not self.node_id:
            return [*stages, Stage("doors", self._doors.open, self._doors.close)]
        return [
            *stages,
            Stage("tokens", self._doors.tokens.start, self._nothing),
            Stage("redis, embedded", self._telephone.start_embedded, self._telephone.stop_embedded, patience=6.0),
            Stage("tasks", self._nothing, self._tasks.cancel_all),
            Stage("gauges", self._start_gauges, self._measuring.stop),
            Stage("servers", self._start_servers, self._nothing),
            Stage("redis", self._start_redis, self._link.stop, patience=3.0),
            Stage("outbox", self._nothing, self._drain_outbox, patience=self._config.limits.stop_deadline),
            Stage("detach", self._nothing, self._detach, patience=4.0),
            Stage("doors", self._doors.open, self._doors.close),
            Stage("heartbeat", self._start_heartbeat, self._stop_heartbeat),
        ]

    def probe(self) -> None:
        """ConfigError: a door cannot be opened, as its port is taken. Nothing has started yet."""
        self._doors.probe()

    def sign(self) -> None:
        """The process is the one that stays (after twistd's fork)."""
        self._folder.sign()

    def ended_by(self, end: Callable[[], None]) -> None:
        """How node.shutdown ends the process."""
        self._end = end

    def begun(self) -> None:
        """All stages have begun."""
        self._notifier.ready(f"{self.node_id or 'not registered'}, port {self._doors.port}")
        self._log.info(
            "{node} {version} is up, port {port}", node=self.node_id or "a node without id", version=__version__,
            port=self._doors.port,
        )  # fmt: skip
        for severity, code, text in self._issues:
            self._alert(severity, code, text)
        if not self.node_id:
            self._log.warn("no [node] id: this node is not registered, and stays OFFLINE until it is")

    def reload(self) -> None:
        """SIGHUP: reads the TLS files anew; who is connected stays."""
        self._tasks.spawn("reading the TLS files anew", self._reload())

    async def _reload(self) -> None:
        await self._threads(self._tls.reload)

    def stopping(self) -> None:
        """The stop begins."""
        self._notifier.stopping()
        self._household.closing = True

    async def _nothing(self) -> None:
        """A stage without this half."""

    async def _release(self) -> None:
        self._notifier.close()
        self._folder.release()

    async def _open_store(self) -> None:
        for issue in await self._store.open():
            self._issues.append((issue.severity, issue.code, issue.message))
        await self._memory.once_usable(lambda: self._memory.read_values(self._lifecycle))

    async def _start_gauges(self) -> None:
        await self._memory.once_usable(self._measuring.start)

    async def _start_servers(self) -> None:
        await self._memory.once_usable(self._take_servers_in)
        if self._lifecycle.draining:
            self._drain.resume()
        self._keeper.start()
        self._images.start()
        await self._first_look()

    async def _take_servers_in(self) -> None:
        await self._images.load()
        await self._memory.take_servers_in(self._household, self._around, self._measuring.fence)

    async def _first_look(self) -> None:
        """Waits a moment for the engine, so that a healthy start has its servers reconciled before anybody speaks."""
        try:
            await within(self._reactor, FIRST_LOOK, "the first look at the engine", self._looked)
        except TimedOut as error:
            self._log.warn("{reason}; the start goes on without it", reason=str(error))

    async def _detach(self) -> None:
        """Lets go of the consoles and of whatever is under way; the game servers run on."""
        self._household.closing = True
        await self._link.stop_listening()
        self._dispatch.close()
        await self._consoles.stop()
        self._around.trees.end()
        await self._tasks.cancel_all()
        self._walks.stop()
        self._probes.stop()

    async def _start_redis(self) -> None:
        self._bus.connect(self._publisher)
        await self._telephone.start_link()

    async def _drain_outbox(self) -> None:
        await self._publisher.drained(self._config.limits.stop_deadline)

    async def _start_heartbeat(self) -> None:
        self._connectivity.start()
        self._heartbeat.start()

    async def _stop_heartbeat(self) -> None:
        self._connectivity.stop()
        await self._heartbeat.stop()

    # ------------------------------------------------------------------ what the rooms tell

    def _engine_changed(self, connected: bool, error: StellarError | None) -> None:
        """The first word opens the lanes: the household is as true as it can be now."""
        self._connectivity.docker_changed(connected, error)
        if not self._looked.called:
            self._looked.callback(None)
        resumed = sort_out(self._memory.unfinished, self._household)
        self._memory.unfinished = ()
        self._dispatch.open(lambda: resumed.again)
        for command, lost in resumed.lost:
            failed = command_failed(command, self.node_id, self._now(), 0.0, "failed", lost)
            self._tasks.spawn("interrupted command", self._bus.finish(command.id, failed))

    def _redis_changed(self, connected: bool, error: StellarError | None) -> None:
        self._connectivity.redis_changed(connected, error)

    def _state_changed(self, previous: NodeState, state: NodeState, reason: str) -> None:
        self._log.info(
            "node is {state} (was {previous}): {reason}", state=state.value, previous=previous.value, reason=reason
        )
        self._notifier.status(f"{state.value}: {reason}")
        if self.node_id:
            event = node_status(self.node_id, self._now(), state.value, previous.value, reason)
            self._tasks.spawn("node.status", self._bus.emit(event))

    def _sequence_reset(self, seq: int) -> None:
        text = f"the event log in Redis is ahead of this node's database; numbering goes on above {seq}"
        self._alert("warning", "sequence_reset", text)

    def _sampled(self, server_id: str, metrics: Mapping[str, Json]) -> None:
        server = self._household.find(server_id)
        if server is not None:
            self._bus.publish(server_metrics(server_id, self.node_id, self._now(), metrics))
            server.console.send_stats(metrics)

    def _finished(self, request: Request) -> None:
        if isinstance(request, NodeShutdown):
            self._end()

    def _active(self) -> int:
        return sum(1 for server in self._household.all() if server.status.has_process)

    def _alert(self, severity: str, code: str, text: str) -> None:
        if self.node_id:
            event = node_alert(self.node_id, self._now(), severity, code, text)
            self._tasks.spawn("node.alert", self._bus.emit(event))
