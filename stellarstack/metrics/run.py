"""One run of a server, as its container's counters tell it: rates between two looks, and the count of OOM kills."""

from __future__ import annotations

from collections.abc import Callable

from stellarstack.core.figures import ServerFigures
from stellarstack.metrics.cgroup import Counters, OpenCgroup


class Run:
    """From `track` to `untrack`. `started_at` is in Unix seconds, `memory_limit` in bytes (0: none).

    Belongs to the reactor's thread; `cgroup` is None before its files are open and once they have been let go.
    """

    def __init__(self, *, server_id: str, pid: int, started_at: float, memory_limit: int) -> None:
        self.server_id = server_id
        self.pid = pid
        self.ended = False
        self.oom_kills = 0
        self.cgroup: OpenCgroup | None = None
        self.unwatch: Callable[[], None] = lambda: None
        self._started_at = started_at
        self._memory_limit = memory_limit
        self._counters: Counters | None = None
        self._counters_at = 0.0
        self._rung = False  # the kernel is about to kill, and the count does not show it yet

    def opened(self, cgroup: OpenCgroup, counters: Counters, at: float) -> None:
        """Its files are open; `counters` is the first look, at `at` (monotonic seconds)."""
        self.cgroup = cgroup
        self._counters, self._counters_at = counters, at

    def looked(self, counters: Counters, at: float, now: float, disk: int) -> ServerFigures:
        """The figures of a new look at `at` (monotonic) and `now` (Unix); processor time is that since the last one."""
        last = self._counters or counters
        passed = max(at - self._counters_at, 1e-3)
        self._counters, self._counters_at = counters, at
        self._count(counters.oom_kills)
        return ServerFigures(
            cpu=100.0 * max(0.0, counters.cpu_seconds - last.cpu_seconds) / passed,
            memory=counters.memory,
            memory_limit=self._memory_limit,
            disk=disk,
            network_rx=counters.network_rx,
            network_tx=counters.network_tx,
            uptime=max(0.0, now - self._started_at),
            pids=counters.pids,
            block_read=counters.block_read,
            block_write=counters.block_write,
        )

    def rung(self) -> bool:
        """The kernel's bell: it comes before the kill, and again when the container goes. Whether a kill may follow."""
        if self.cgroup is None or self.cgroup.oom_kills() is None:
            return False
        self._rung = True
        self.read_oom()
        return True

    def read_oom(self) -> None:
        """Takes in the kernel's count. Where the container went right after the bell, that counts as a kill."""
        if self.cgroup is None:
            return
        count = self.cgroup.oom_kills()
        if count is not None:
            self._count(count)
        elif self._rung:
            self._count(self.oom_kills + 1)

    def bell_settled(self) -> None:
        """Time enough has passed since the bell for the count to show what came of it."""
        self.read_oom()
        self._rung = False

    def let_go(self) -> OpenCgroup | None:
        """The run is over. Answers the files, which are to be closed in a thread."""
        self.ended = True
        self.read_oom()
        self.unwatch()
        self.unwatch = lambda: None
        cgroup, self.cgroup = self.cgroup, None
        return cgroup

    def _count(self, kills: int) -> None:
        if kills > self.oom_kills:
            self.oom_kills = kills
            self._rung = False
