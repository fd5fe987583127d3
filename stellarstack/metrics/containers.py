"""Samples every running server's container once a second, straight from the kernel (PROTOCOL 5, `server.metrics`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from stellarstack.core.figures import ServerFigures
from stellarstack.core.messages import Json
from stellarstack.errors import TimedOut
from stellarstack.metrics.cgroup import Cgroups, Counters, NoContainer, OpenCgroup
from stellarstack.metrics.disk import DiskMeter
from stellarstack.metrics.oom import OomBell
from stellarstack.metrics.run import Run
from stellarstack.tasks import Tasks, sleep, within

AFTER_OOM = (0.003, 0.010)  # seconds from the kernel's bell to a look at the count, and to the last one: it rings first
STOP_TIMEOUT = 5.0  # seconds for a look under way


@dataclass(frozen=True, slots=True)
class Instruments:
    """What a sampler measures with; its own, started and stopped by it."""

    cgroups: Cgroups
    bell: OomBell
    disk: DiskMeter


class ContainerSampler:
    """`track` at a server's start, `untrack` at its end; `sample(server_id, metrics)` once an interval in between.

    Ticks lie on a fixed grid from `start` on; one that comes while the last look is still under way is left out. One
    thread call a tick looks at all containers. `reactor` is for its threads, `clock` for the time.
    """

    _log = Logger()

    def __init__(
        self, *, clock: IReactorTime, reactor: IReactorThreads, instruments: Instruments, interval: float,
        sample: Callable[[str, Mapping[str, Json]], None], now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._clock = clock
        self._reactor = reactor
        self._cgroups = instruments.cgroups
        self._bell = instruments.bell
        self._disk = instruments.disk
        self._interval = interval
        self._sample = sample
        self._now = now
        self._runs: dict[str, Run] = {}  # by server: the one under way, or the last one
        self._latest: dict[str, ServerFigures] = {}
        self._retired: list[OpenCgroup] = []
        self._tasks = Tasks()
        self._looks = Tasks()
        self._at_work: set[Deferred[None]] = set()  # looks with a thread at work: waited for, not cancelled
        self._looking = False
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def start(self) -> None:
        self._disk.start()
        self._loop.start(self._interval, now=False)

    async def stop(self) -> None:
        """Ends everything and closes every file; waits for the look under way."""
        if self._loop.running:
            self._loop.stop()
        for server_id in list(self._runs):
            self.untrack(server_id)
        await self._tasks.cancel_all()
        await self._disk.stop()
        try:
            await within(self._clock, STOP_TIMEOUT, "the last look at the containers", DeferredList(self._at_work))
        except TimedOut as error:
            self._log.warn("{reason}", reason=str(error))
        self._bell.close()
        self._close_retired()

    def track(self, server_id: str, pid: int, started_at: float, memory_limit: int, root: Path) -> None:
        """A server's container runs, with `pid` as its first process since `started_at` (Unix seconds).

        `memory_limit` is in bytes, 0 for none; `root` is the server's folder. What ran under the id before is let go.
        """
        self.untrack(server_id)
        run = self._runs[server_id] = Run(
            server_id=server_id, pid=pid, started_at=started_at, memory_limit=memory_limit
        )
        self._disk.add(server_id, root)
        self._let_look("opening a container's files", self._open(run))

    def untrack(self, server_id: str) -> None:
        """Its container has ended. Its OOM count and the disk's last figure stay known until `forget`."""
        run = self._runs.get(server_id)
        if run is not None:
            self._let_go(run)
        self._disk.remove(server_id)

    def forget(self, server_id: str) -> None:
        """The server is deleted."""
        self.untrack(server_id)
        self._disk.forget(server_id)
        self._runs.pop(server_id, None)

    def last_oom(self, server_id: str) -> int:
        """How often the kernel killed for want of memory in the server's container, this run's or the last one's."""
        run = self._runs.get(server_id)
        if run is None:
            return 0
        run.read_oom()
        return run.oom_kills

    def latest(self) -> Mapping[str, ServerFigures]:
        """The newest sample of each server that runs, by server id."""
        return dict(self._latest)

    def _let_look(self, name: str, look: Coroutine[Deferred[Any], Any, None]) -> None:
        looking = self._looks.spawn(name, look)
        self._at_work.add(looking)
        looking.addBoth(lambda _: self._at_work.discard(looking))

    async def _open(self, run: Run) -> None:
        pool = self._reactor.getThreadPool()
        try:
            cgroup, counters, at = await deferToThreadPool(self._reactor, pool, self._opened, run.pid)
        except (OSError, ValueError, NoContainer) as error:
            self._log.warn("{server} has no figures: {reason}", server=run.server_id, reason=str(error))
            return
        run.opened(cgroup, counters, at)
        if run.ended:
            self._let_go(run)
            return
        try:
            run.unwatch = self._bell.watch(cgroup, lambda: self._rang(run))
        except (OSError, KeyError) as error:
            self._log.warn("{server}'s OOMs are not heard: {reason}", server=run.server_id, reason=str(error))

    def _opened(self, pid: int) -> tuple[OpenCgroup, Counters, float]:
        cgroup = self._cgroups.open(pid)
        try:
            return cgroup, cgroup.read(), time.monotonic()
        except BaseException:
            cgroup.close()
            raise

    def _tick(self) -> None:
        """The loop's body: it neither raises nor waits, so that the loop cannot die or fall behind."""
        open_runs = {run: run.cgroup for run in self._runs.values() if run.cgroup is not None}
        if not self._looking and (open_runs or self._retired):
            self._looking = True
            self._let_look("a look at the containers", self._look(open_runs))

    async def _look(self, runs: Mapping[Run, OpenCgroup]) -> None:
        try:
            looks = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._read_all, runs)
        finally:
            self._looking = False
        for run, counters, at in looks:
            self._take_in(run, counters, at)

    def _read_all(self, runs: Mapping[Run, OpenCgroup]) -> list[tuple[Run, Counters | None, float]]:
        """In the thread: closes what has been let go and reads the rest; None for a container that is gone."""
        self._close_retired()
        return [(run, _read(cgroup), time.monotonic()) for run, cgroup in runs.items()]

    def _take_in(self, run: Run, counters: Counters | None, at: float) -> None:
        if run.ended:
            return
        if counters is None:
            self._let_go(run)
            return
        figures = run.looked(counters, at, self._now(), self._disk.used(run.server_id))
        self._latest[run.server_id] = figures
        try:
            self._sample(run.server_id, figures.wire())
        except Exception:
            self._log.failure("a sample of {server} was not taken", server=run.server_id)

    def _let_go(self, run: Run) -> None:
        cgroup = run.let_go()
        self._latest.pop(run.server_id, None)
        if cgroup is not None:
            self._retired.append(cgroup)

    def _close_retired(self) -> None:
        while self._retired:
            self._retired.pop().close()

    def _rang(self, run: Run) -> None:
        if run.rung():
            self._tasks.spawn("reading an OOM count", self._after_oom(run))

    async def _after_oom(self, run: Run) -> None:
        for delay in AFTER_OOM:
            await sleep(self._clock, delay)
            run.read_oom()
        run.bell_settled()


def _read(cgroup: OpenCgroup) -> Counters | None:
    try:
        return cgroup.read()
    except (OSError, KeyError, ValueError):
        return None
