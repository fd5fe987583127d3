"""The figures that the daemon measures, as plain values (PROTOCOL 5). Performs no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from stellarstack.core.messages import Json


@dataclass(frozen=True, slots=True)
class HostFigures:
    """One look at the host. Percent are 0–100; sizes and network counters (since boot) are bytes; uptime is seconds."""

    cpu_percent: float
    memory_percent: float
    memory_total: int
    memory_used: int
    disk_percent: float
    disk_total: int
    disk_used: int
    network_rx: int
    network_tx: int
    load: tuple[float, float, float]
    cores: int
    uptime: float


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """One look at a server's container. `cpu` is percent of one core, `uptime` seconds, all else bytes or a count.

    The counters begin with the container. `memory_limit` 0 means none.
    """

    cpu: float
    memory: int
    memory_limit: int
    disk: int
    network_rx: int
    network_tx: int
    uptime: float
    pids: int
    block_read: int
    block_write: int

    def wire(self) -> dict[str, Json]:
        """`metrics` of `server.metrics`."""
        return {
            "cpu": round(self.cpu, 2),
            "memory": self.memory,
            "memoryLimit": self.memory_limit,
            "disk": self.disk,
            "networkRx": self.network_rx,
            "networkTx": self.network_tx,
            "uptime": round(self.uptime, 3),
            "pids": self.pids,
            "blockRead": self.block_read,
            "blockWrite": self.block_write,
        }
