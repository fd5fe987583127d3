"""The node itself: every room, made and handed what it needs, and the stages by which they begin and end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import random
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from stellarstack import __version__
from stellarstack.api.websocket import ConsoleEndpoint
from stellarstack.auth.secrets import read_or_make_secret
from stellarstack.auth.signing import CommandAuthority
from stellarstack.auth.token import ConsoleTokens
from stellarstack.bus import Bus
from stellarstack.config import Config
from stellarstack.connectivity import Connectivity
from stellarstack.console.consoles import Consoles
from stellarstack.core.events import command_failed, node_alert, node_status, server_metrics
from stellarstack.core.messages import Json
from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState
from stellarstack.core.records import record_from
from stellarstack.core.redis_url import RedisKind, parse_redis_url
from stellarstack.core.requests import ConsoleRevoke, NodeShutdown, Request
from stellarstack.core.server_lifecycle import Transition
from stellarstack.docker.engine import DockerEngine
from stellarstack.errors import StellarError, TimedOut
from stellarstack.facts import NodeFacts
from stellarstack.heartbeat import Heartbeat, Vitals
from stellarstack.metrics.cgroup import Cgroups
from stellarstack.metrics.containers import ContainerSampler, Instruments
from stellarstack.metrics.disk import DiskMeter
from stellarstack.metrics.host import HostProbe
from stellarstack.metrics.oom import OomBell
from stellarstack.notify import ServiceNotifier
from stellarstack.redis.dial import Login, RedisDialer
from stellarstack.redis.embedded import EmbeddedRedis
from stellarstack.redis.link import RedisLink
from stellarstack.redis.publisher import OutboxPublisher
from stellarstack.servers.blueprints import BlueprintShelf
from stellarstack.servers.create import Arrivals
from stellarstack.servers.dispatch import Dispatch
from stellarstack.servers.household import Household
from stellarstack.servers.intake import CommandIntake
from stellarstack.servers.keeper import Keeper
from stellarstack.servers.operations import Operations
from stellarstack.servers.resume import sort_out
from stellarstack.servers.server import Server
from stellarstack.servers.subnets import SubnetPool
from stellarstack.servers.surroundings import Surroundings
from stellarstack.stages import Stage
from stellarstack.statefolder import StateFolder, make_folder, remove_leftovers
from stellarstack.store.sqlite_store import SqliteStore
from stellarstack.tasks import Tasks, within

P = ParamSpec("P")
T = TypeVar("T")
DRAINING_KEY = "node.draining"
BOOT_KEY = "host.boot"
FIRST_LOOK = 5.0  # seconds that the start waits for the engine's first word


class Node:
    """Everything that one daemon process runs. `folder` is the state folder, held by this process."""

    _log = Logger()

    def __init__(self, config: Config, folder: StateFolder, reactor: Any) -> None:
        self._config = config
        self._folder = folder
        self._reactor = reactor
        self._now = time.time
        self._started = time.time()
        self._tasks = Tasks()
        self._end: Callable[[], None] = lambda: None
        self._issues: list[tuple[str, str, str]] = []
        self.node_id = config.node.id or ""
        self._make_folders()
        self._notifier = ServiceNotifier(environ=os.environ, clock=reactor, pid=os.getpid())
        self._lifecycle = NodeLifecycle(changed=self._state_changed)
        self._store = SqliteStore(
            path=config.database_path, node_id=self.node_id, reactor=reactor, limits=config.limits,
            issue=lambda issue: self._alert("critical", issue.code, issue.message),
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

    def _make_folders(self) -> None:
        config = self._config
        make_folder(config.servers_path, 0o711, "[paths] servers")
        for key, path in (("blueprints", config.blueprints_path), ("console", config.console_path)):
            make_folder(path, 0o700, f"[paths] {key}")
        make_folder(config.database_path.parent, 0o700, "[paths] database")
        remove_leftovers([config.paths.state, config.console_path])

    def _make_gauges(self) -> None:
        reactor = self._reactor
        self._disk_pool = ThreadPool(0, 1, "disk usage")  # of its own: a slow disk holds up nobody else
        instruments = Instruments(
            Cgroups(), OomBell(reactor=reactor), DiskMeter(clock=reactor, reactor=reactor, pool=self._disk_pool)
        )
        self._sampler = ContainerSampler(
            clock=reactor, reactor=reactor, instruments=instruments, interval=self._config.metrics.interval,
            sample=self._sampled, now=self._now,
        )  # fmt: skip

    def _make_household(self) -> None:
        config, reactor = self._config, self._reactor
        self._household = Household(draining=lambda: self._lifecycle.draining, on_end=self._process_ended)
        subnets = SubnetPool(
            engine=self._engine, pool=config.docker.network_pool, threads=_in_thread, held=self._household.subnets
        )
        profile = config.docker.seccomp_profile
        self._around = Surroundings(
            node_id=self.node_id, engine=self._engine, store=self._store, bus=self._bus, consoles=self._consoles,
            gauges=self._sampler, subnets=subnets, docker=config.docker, servers_root=config.servers_path,
            state_root=config.paths.state, clock=reactor, now=self._now, tasks=self._tasks, threads=_in_thread,
            seccomp=profile.read_text() if profile is not None else None,
        )  # fmt: skip
        shelf = BlueprintShelf(config.blueprints_path, _in_thread)
        self._facts = NodeFacts(
            node_id=config.node.id, state=lambda: self._lifecycle.state.value, started=self._started, now=self._now,
            figures=self._probe.figures, outbox=self._store.outbox_state,
            engine=lambda: self._keeper.engine_version, servers=self._household,
        )  # fmt: skip
        operations = Operations(
            household=self._household,
            arrivals=Arrivals(household=self._household, around=self._around, shelf=shelf),
            around=self._around,
            node_info=self._facts,
            revoke=self._revoke,
            queue=lambda *work: self._dispatch.add_internal(*work),
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
            rebooted=lambda: self._rebooted,
        )  # fmt: skip

    def _make_redis(self) -> None:
        config, token = self._config, self._config.node.api_token
        secret = token.reveal() if token is not None else None
        url = parse_redis_url(config.redis.url.reveal(), require_tls=config.redis.require_tls)
        self._embedded: EmbeddedRedis | None = None
        if url.kind is RedisKind.EMBEDDED:
            self._embedded = EmbeddedRedis(
                reactor=self._reactor, socket=config.embedded_socket, directory=config.paths.state / "redis",
                port=config.redis.embedded_port, password=secret,
            )  # fmt: skip
            url = self._embedded.url
        if url.plaintext:
            self._issues.append(("warning", "redis_plaintext", f"{url} is not encrypted; use rediss://"))
        dialer = RedisDialer(
            reactor=self._reactor, url=url, login=Login(config.node.id, secret), tls=self._tls_to_redis(),
            require_tls=config.redis.require_tls,
        )  # fmt: skip
        self._publisher = OutboxPublisher(
            node_id=self.node_id, clock=self._reactor, store=self._store, log_length=config.redis.events_log_maxlen,
            on_sequence_reset=self._sequence_reset, wait_for_replica=url.kind is RedisKind.SENTINEL, jitter=random,
        )  # fmt: skip
        self._link = RedisLink(
            clock=self._reactor, dialer=dialer, node_id=self.node_id, publisher=self._publisher, intake=self._intake,
            on_change=self._redis_changed,
        )  # fmt: skip
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
            lifecycle=self._lifecycle, greet=self._heartbeat.beat_now, retry_redis=lambda: None,
            retry_docker=self._keeper.hurry, config=config.heartbeat, clock=self._reactor,
        )  # fmt: skip

    def _tls_to_redis(self) -> None:
        return None

    def _make_doors(self) -> None:
        config = self._config
        self._tokens = ConsoleTokens(
            node_id=config.node.id, auth=config.auth, secret=read_or_make_secret(config.paths.state / "jwt_secret"),
            store=self._store, now=self._now,
        )  # fmt: skip
        self._endpoint = ConsoleEndpoint(
            consoles=self._consoles, directory=self._household, tokens=self._tokens, config=config.console,
            node_id=self.node_id, bus=self._bus, clock=self._reactor, now=self._now, tasks=self._tasks,
            allowed_origins=config.server.allowed_origins,
        )  # fmt: skip
        self.port = 0

    async def _revoke(self, request: ConsoleRevoke) -> int:
        return self._endpoint.revoke(jti=request.jti, user_id=request.user_id, server_id=request.server_id)

    async def _open_doors(self) -> None:
        from twisted.web.resource import Resource
        from twisted.web.server import Site

        root = Resource()
        root.putChild(b"console", self._endpoint.resource())
        self._endpoint.start()
        self._p = self._reactor.listenTCP(self._config.server.port, Site(root), interface=self._config.server.host)
        self.port = self._p.getHost().port

    async def _close_doors(self) -> None:
        await self._endpoint.stop()
        await self._p.stopListening()

    # ------------------------------------------------------------------ how it begins and ends

    def stages(self) -> list[Stage]:
        """In the order of the start; the stop goes the other way round. Without a node id nothing speaks for it."""
        stages = [
            Stage("state", self._nothing, self._release),
            Stage("store", self._open_store, self._store.close, patience=3.0),
        ]
        if not self.node_id:
            return [*stages, Stage("doors", self._open_doors, self._close_doors)]
        return [
            *stages,
            Stage("tokens", self._tokens.start, self._nothing),
            Stage("redis, embedded", self._start_embedded, self._stop_embedded, patience=6.0),
            Stage("tasks", self._nothing, self._tasks.cancel_all),
            Stage("gauges", self._start_gauges, self._stop_gauges),
            Stage("servers", self._start_servers, self._nothing),
            Stage("redis", self._start_redis, self._link.stop, patience=3.0),
            Stage("outbox", self._nothing, self._drain_outbox, patience=self._config.limits.stop_deadline),
            Stage("detach", self._nothing, self._detach),
            Stage("heartbeat", self._start_heartbeat, self._heartbeat.stop),
            Stage("doors", self._open_doors, self._close_doors),
        ]

    def sign(self) -> None:
        """The process is the one that stays (after twistd's fork)."""
        self._folder.sign()

    def ended_by(self, end: Callable[[], None]) -> None:
        """How node.shutdown ends the process."""
        self._end = end

    def begun(self) -> None:
        """All stages have begun."""
        self._notifier.ready(f"{self.node_id or 'not registered'}, port {self.port}")
        self._log.info(
            "{node} {version} is up, port {port}", node=self.node_id or "a node without id", version=__version__,
            port=self.port,
        )  # fmt: skip
        for severity, code, text in self._issues:
            self._alert(severity, code, text)
        if not self.node_id:
            self._log.warn("no [node] id: this node is not registered, and stays OFFLINE until it is")

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
        if await self._store.get_value(DRAINING_KEY) is True:
            self._lifecycle.drain("it was draining before the restart")
        boot = await _in_thread(_boot_id)
        last = await self._store.get_value(BOOT_KEY)
        self._rebooted = last is not None and last != boot
        await self._store.put_value(BOOT_KEY, boot)

    async def _start_embedded(self) -> None:
        if self._embedded is not None:
            self._embedded.start()

    async def _stop_embedded(self) -> None:
        if self._embedded is not None:
            await self._embedded.stop()

    async def _start_gauges(self) -> None:
        self._disk_pool.start()
        self._sampler.start()

    async def _stop_gauges(self) -> None:
        await self._sampler.stop()

    async def _start_servers(self) -> None:
        for server_id, document in (await self._store.servers()).items():
            try:
                await self._household.take_in(record_from(document), self._around)
            except (StellarError, KeyError, ValueError) as error:
                text = f"the record of server {server_id} cannot be read ({error}); its container is left alone"
                self._issues.append(("critical", "server_record_unreadable", text))
        self._unfinished = await self._store.unfinished()
        self._keeper.start()
        await self._first_look()

    async def _first_look(self) -> None:
        """Waits a moment for the engine, so that a healthy start has its servers reconciled before anybody speaks."""
        waiting: Deferred[None] = Deferred()
        self._looked = waiting
        try:
            await within(self._reactor, FIRST_LOOK, "the first look at the engine", waiting)
        except TimedOut as error:
            self._log.warn("{reason}; the start goes on without it", reason=str(error))

    async def _detach(self) -> None:
        """Lets go of the consoles and of whatever is under way; the game servers run on."""
        self._household.closing = True
        self._dispatch.close()
        await self._tasks.cancel_all()
        await self._consoles.stop()

    async def _start_redis(self) -> None:
        self._bus.connect(self._publisher)
        self._link.start()

    async def _drain_outbox(self) -> None:
        await self._publisher.drained(self._config.limits.stop_deadline - 1.0)

    async def _start_heartbeat(self) -> None:
        self._heartbeat.start()
        self._connectivity.start()

    # ------------------------------------------------------------------ what the rooms tell

    def _engine_changed(self, connected: bool, error: StellarError | None) -> None:
        """The first word opens the lanes: the household is as true as it can be now."""
        self._connectivity.docker_changed(connected, error)
        if not self._looked.called:
            self._looked.callback(None)
        resumed = sort_out(self._unfinished, self._household)
        self._unfinished = ()
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

    def _process_ended(self, server: Server, transition: Transition) -> None:
        self._keeper.ended(server, transition)

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


def _in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    return deferToThread(work, *args, **kwargs)


def _boot_id() -> str:
    """Another one after each boot of the host."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
