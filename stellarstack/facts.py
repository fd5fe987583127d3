"""What this node is: the answer of node.info and of `GET /v1/node`."""

from __future__ import annotations

import platform
import socket
from collections.abc import Awaitable, Callable, Mapping

from stellarstack import __version__
from stellarstack.core.figures import HostFigures
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.interfaces import EngineVersion, OutboxState, ServerDirectory


class NodeFacts:
    """Gathers them anew at each call; each source is handed in by daemon.py."""

    def __init__(
        self,
        *,
        node_id: str | None,
        state: Callable[[], str],
        started: float,
        now: Callable[[], float],
        figures: Callable[[], Awaitable[HostFigures]],
        outbox: Callable[[], Awaitable[OutboxState]],
        engine: Callable[[], EngineVersion | None],
        servers: ServerDirectory,
    ) -> None:
        self._node_id = node_id
        self._state = state
        self._started = started
        self._now = now
        self._figures = figures
        self._outbox = outbox
        self._engine = engine
        self._servers = servers

    async def __call__(self) -> Mapping[str, Json]:
        figures, outbox = await self._figures(), await self._outbox()
        rows = self._servers.listing()
        running = sum(1 for row in rows if row["status"] == ServerStatus.RUNNING.value)
        return {
            "nodeId": self._node_id,
            "state": self._state(),
            "version": __version__,
            "uptime": round(self._now() - self._started, 1),
            "hostname": socket.gethostname(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "docker": self._docker(),
            "servers": {"total": len(rows), "running": running},
            "cpu": {"cores": figures.cores, "usage": round(figures.cpu_percent, 1)},
            "memory": {"total": figures.memory_total, "used": figures.memory_used},
            "disk": {"total": figures.disk_total, "used": figures.disk_used},
            "outbox": {"lastSeq": outbox.last_seq, "pending": outbox.pending_rows},
        }

    def _docker(self) -> dict[str, Json] | None:
        engine = self._engine()
        if engine is None:
            return None
        return {
            "version": engine.version,
            "api": ".".join(str(part) for part in engine.api),
            "cgroup": engine.cgroup,
            "liveRestore": engine.live_restore,
        }
