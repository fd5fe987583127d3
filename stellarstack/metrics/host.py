"""Measures the host: processor, memory, the state folder's disk, network, load, uptime. psutil lives here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from stellarstack.core.figures import HostFigures

_SYS_NET = Path("/sys/class/net")
_VIRTUAL = ("lo", "veth", "docker", "br-", "virbr", "ifb", "dummy", "tap", "tun")


class HostProbe:
    """Looks at the host in a thread. `path`: the folder whose file system is the node's disk.

    Each owner of a probe has its own processor figure: the mean between its calls (the first: since the probe was
    made).
    """

    def __init__(self, *, path: Path, reactor: IReactorThreads) -> None:
        self._path = path
        self._reactor = reactor
        self._processor = CpuMeter(lambda: psutil.cpu_times()._asdict())

    async def figures(self) -> HostFigures:
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self.measure)

    def measure(self) -> HostFigures:
        """The figures now. Blocks a few milliseconds."""
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._path))
        received, sent = network_bytes()
        return HostFigures(
            cpu_percent=self._processor.percent(),
            memory_percent=memory.percent,
            memory_total=memory.total,
            memory_used=memory.total - memory.available,
            disk_percent=disk.percent,
            disk_total=disk.total,
            disk_used=disk.used,
            network_rx=received,
            network_tx=sent,
            load=os.getloadavg(),
            cores=psutil.cpu_count() or 1,
            uptime=time.time() - psutil.boot_time(),
        )


class CpuMeter:
    """Percent of all processors' time that was not idle, between two looks. `times` answers seconds by kind."""

    def __init__(self, times: Callable[[], Mapping[str, float]]) -> None:
        self._times = times
        self._busy, self._total = self._look()
        self._percent = 0.0

    def percent(self) -> float:
        """0–100 since the last call; the last figure again where no time has passed."""
        busy, total = self._look()
        passed = total - self._total
        if passed > 0:
            self._percent = min(100.0, max(0.0, 100.0 * (busy - self._busy) / passed))
            self._busy, self._total = busy, total
        return self._percent

    def _look(self) -> tuple[float, float]:
        times = self._times()
        # The kernel counts guest time in user and nice already.
        total = sum(value for name, value in times.items() if not name.startswith("guest"))
        return total - times.get("idle", 0.0) - times.get("iowait", 0.0), total


def network_bytes() -> tuple[int, int]:
    """Bytes (received, sent) since boot over the interfaces that count."""
    counters = psutil.net_io_counters(pernic=True)
    counted = counted_interfaces(counters, {name for name in counters if (_SYS_NET / name / "device").exists()})
    return (
        sum(counters[name].bytes_recv for name in counted),
        sum(counters[name].bytes_sent for name in counted),
    )


def counted_interfaces(names: Collection[str], physical: Collection[str]) -> set[str]:
    """Which interfaces make up the host's traffic, so that no byte counts twice.

    The ones with a device behind them: what crosses a bridge, a bond, a VLAN, a tunnel or a container's veth goes
    through one of those too, or never leaves the host. Where none has a device (inside a container, say) all but the
    loopback and what is virtual by its name.
    """
    devices = {name for name in names if name in physical}
    return devices or {name for name in names if not name.startswith(_VIRTUAL)}
