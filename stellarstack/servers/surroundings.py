"""What every game server of the household shares: the engine, the store, the bus and the node's own facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.interfaces import IReactorTime

from stellarstack.bus import Bus
from stellarstack.config import DockerConfig
from stellarstack.interfaces import Consoles, Engine, Store
from stellarstack.servers.bridges import Bridges
from stellarstack.servers.ownership import Ownership
from stellarstack.servers.prune import PulledImages
from stellarstack.servers.steady import REMOVALS, Hands, SteadyThreads
from stellarstack.servers.subnets import SubnetPool
from stellarstack.servers.threads import Threads
from stellarstack.servers.trees import Trees
from stellarstack.tasks import Tasks


class Gauges(Protocol):
    """Who measures running containers."""

    def track(self, server_id: str, *, pid: int, started_at: float, memory_limit: int, root: Path) -> None:
        """Measures from now on; `memory_limit` in bytes, `started_at` in Unix seconds."""

    def untrack(self, server_id: str) -> None: ...

    def forget(self, server_id: str) -> None:
        """The server is deleted."""

    def last_oom(self, server_id: str) -> int:
        """How many processes of the server's last run the kernel killed for want of memory."""


class Fence(Protocol):
    """Who keeps each server within its share of the disk. Neither call ever fails."""

    async def limit(self, server_id: str, root: Path, limit_bytes: int) -> None:
        """From now on `root`, which is there, may take so much (0: any amount)."""

    async def forget(self, server_id: str, root: Path) -> None:
        """The server is deleted."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Handed to each Server. `servers_root` is `[paths] servers`, `state_root` `[paths] state`."""

    node_id: str
    engine: Engine
    store: Store
    bus: Bus
    consoles: Consoles
    gauges: Gauges
    fence: Fence
    subnets: SubnetPool
    bridges: Bridges
    ownership: Ownership
    docker: DockerConfig
    servers_root: Path
    state_root: Path
    clock: IReactorTime
    now: Callable[[], float]
    tasks: Tasks
    threads: Threads
    trees: Trees
    probes: Threads
    images: PulledImages
    seccomp: str | None = None
    removals: DeferredSemaphore = field(default_factory=lambda: DeferredSemaphore(REMOVALS))

    @property
    def hands(self) -> Hands:
        """The engine's effects, which a cancelled procedure does not leave half done."""
        return Hands(self.engine, self.clock, self.ownership, self.removals)

    @property
    def in_probe(self) -> SteadyThreads:
        """Waits for somebody's answer, of seconds each: their threads are none that others wait for."""
        return SteadyThreads(self.probes, self.clock)

    @property
    def in_thread(self) -> SteadyThreads:
        """Blocking work, which a cancelled procedure waits for."""
        return SteadyThreads(self.threads, self.clock)
