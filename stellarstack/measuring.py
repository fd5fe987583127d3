"""The gauges of the node put together: what runs is sampled once a second, and kept within its share of the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.python.threadpool import ThreadPool

from stellarstack.config import Config
from stellarstack.core.messages import Json
from stellarstack.files.fence import DiskFence
from stellarstack.interfaces import Store
from stellarstack.metrics.cgroup import Cgroups
from stellarstack.metrics.containers import ContainerSampler, Instruments
from stellarstack.metrics.disk import DiskMeter
from stellarstack.metrics.oom import OomBell
from stellarstack.servers.threads import FewThreads


class Measuring:
    """`sample(server_id, metrics)` once a second for each server; `over(server_id, used, limit)` in bytes."""

    def __init__(
        self, *, config: Config, store: Store, reactor: Any, now: Callable[[], float],
        sample: Callable[[str, Mapping[str, Json]], None], over: Callable[[str, int, int], None],
    ) -> None:  # fmt: skip
        self._walks = FewThreads(reactor, 2, "disk labels")
        self.fence = DiskFence(
            servers=config.servers_path, store=store, reactor=reactor, clock=reactor, over=over, walks=self._walks,
        )  # fmt: skip
        disk = DiskMeter(
            clock=reactor, reactor=reactor, warden=self.fence, rest=config.docker.disk_check_interval,
            pool=ThreadPool(0, 1, "disk usage"),  # of its own: a slow disk holds up nobody else
        )  # fmt: skip
        self.sampler = ContainerSampler(
            clock=reactor, reactor=reactor, instruments=Instruments(Cgroups(), OomBell(reactor=reactor), disk),
            interval=config.metrics.interval, sample=sample, now=now,
        )  # fmt: skip

    async def start(self) -> None:
        """StoreFailed: which server has which project cannot be read yet."""
        await self.fence.start()
        self.sampler.start()

    async def stop(self) -> None:
        """Closes every file; limits in the kernel stay."""
        await self.sampler.stop()
        await self.fence.stop()
        self._walks.stop()
