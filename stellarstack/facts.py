"""What this node is and how it does: the answers of node.info, `GET /v1/node`, /health and /metrics."""

from __future__ import annotations

import os
import platform
import resource
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from stellarstack import __version__
from stellarstack.api.health import NodeHealth
from stellarstack.core.exposition import CONTENT_TYPE, DaemonFigures, exposition
from stellarstack.core.figures import HostFigures, ServerFigures
from stellarstack.core.messages import Json
from stellarstack.core.node_lifecycle import NodeState
from stellarstack.core.records import ServerStatus
from stellarstack.errors import StellarError
from stellarstack.heartbeat import DISK_FULL
from stellarstack.interfaces import EngineVersion, OutboxState, ServerDirectory, Store
from stellarstack.tasks import within

CHECK_PATIENCE = 1.5  # seconds for one check of /health: whoever asks seldom waits for five


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the facts come from, each asked anew at each call."""

    state: Callable[[], NodeState]
    figures: Callable[[], Awaitable[HostFigures]]
    store: Store
    engine: Callable[[], EngineVersion | None]
    servers: ServerDirectory
    measured: Callable[[], Mapping[str, ServerFigures]]
    redis_connected: Callable[[], bool]
    docker_connected: Callable[[], bool]
    missed: Callable[[], int]
    viewers: Callable[[], int]


class NodeFacts:
    """`started` and `now` are Unix seconds."""

    def __init__(
        self, *, node_id: str | None, started: float, now: Callable[[], float], clock: IReactorTime, sources: Sources
    ) -> None:  # fmt: skip
        self._node_id = node_id
        self._started = started
        self._now = now
        self._clock = clock
        self._ask = sources

    @property
    def uptime(self) -> float:
        return max(0.0, self._now() - self._started)

    async def info(self) -> Mapping[str, Json]:
        """The result of `node.info`."""
        figures, outbox = await self._ask.figures(), await self._outbox()
        rows = self._ask.servers.listing()
        running = sum(1 for row in rows if row["status"] == ServerStatus.RUNNING.value)
        return {
            "nodeId": self._node_id,
            "state": self._ask.state().value,
            "version": __version__,
            "uptime": round(self.uptime, 1),
            "hostname": socket.gethostname(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "docker": self._docker(),
            "redis": {"connected": self._ask.redis_connected()},
            "servers": {"total": len(rows), "running": running},
            "cpu": {"cores": figures.cores, "usage": round(figures.cpu_percent, 1)},
            "memory": {"total": figures.memory_total, "used": figures.memory_used},
            "disk": {"total": figures.disk_total, "used": figures.disk_used},
            "outbox": {"lastSeq": outbox.last_seq, "pending": outbox.pending_rows},
        }

    async def health(self) -> NodeHealth:
        """What `GET /health` tells."""
        checks = {
            "redis": self._ask.redis_connected(),
            "docker": self._ask.docker_connected(),
            "database": await self._well("the database", self._ask.store.healthy()),
            "disk": await self._well("the disk", self._disk_has_room()),
        }
        return NodeHealth(self._node_id, self._ask.state().value, self.uptime, checks)

    async def _disk_has_room(self) -> bool:
        return (await self._ask.figures()).disk_percent <= DISK_FULL

    async def _well(self, what: str, check: Awaitable[bool]) -> bool:
        """A check that is not through in time has failed: who asks hears of it while they still listen."""
        try:
            return await within(self._clock, CHECK_PATIENCE, what, check)
        except StellarError:
            return False

    async def metrics(self) -> tuple[str, str]:
        """The text of `GET /metrics` and its content type."""
        host, outbox = await self._ask.figures(), await self._outbox()
        used = resource.getrusage(resource.RUSAGE_SELF)
        daemon = DaemonFigures(
            node_id=self._node_id or "",
            version=__version__,
            state=self._ask.state(),
            uptime=self.uptime,
            cpu_seconds=used.ru_utime + used.ru_stime,
            memory=_resident(),
            open_files=len(os.listdir("/proc/self/fd")),
            redis_connected=self._ask.redis_connected(),
            docker_connected=self._ask.docker_connected(),
            heartbeats_missed=self._ask.missed(),
            last_seq=outbox.last_seq,
            outbox_rows=outbox.pending_rows,
            outbox_bytes=outbox.pending_bytes,
            viewers=self._ask.viewers(),
            servers={str(row["serverId"]): ServerStatus(row["status"]) for row in self._ask.servers.listing()},
        )
        return exposition(daemon, host, self._ask.measured()), CONTENT_TYPE

    async def _outbox(self) -> OutboxState:
        try:
            return await self._ask.store.outbox_state()
        except StellarError:
            return OutboxState(0, 0, 0, 0)

    def _docker(self) -> dict[str, Json] | None:
        engine = self._ask.engine()
        if engine is None:
            return None
        return {
            "version": engine.version,
            "api": ".".join(str(part) for part in engine.api),
            "cgroup": engine.cgroup,
            "liveRestore": engine.live_restore,
        }


def _resident() -> int:
    """Resident memory of this process in bytes."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def boot_id() -> str:
    """Another one after each boot of the host; empty where the kernel tells none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
