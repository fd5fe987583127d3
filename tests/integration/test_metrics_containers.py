"""Figures of real containers, held against what Docker says of the same ones."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SkipTest, TestCase

from stellarstack.config import DockerConfig
from stellarstack.core.messages import Json
from stellarstack.docker.engine import DockerEngine
from stellarstack.interfaces import ContainerState
from stellarstack.metrics.cgroup import Cgroups
from stellarstack.metrics.containers import ContainerSampler, Instruments
from stellarstack.metrics.disk import DiskMeter
from stellarstack.metrics.oom import OomBell
from stellarstack.tasks import within
from tests.images import ensure_busybox_image

REACTOR: Any = reactor
SOCKET = DockerConfig().socket
PATIENCE = 30.0  # seconds until a test gives up waiting


async def until(found: Callable[[], bool], what: str) -> None:
    """Waits until `found` answers true, for PATIENCE at most."""

    async def look() -> None:
        while not found():
            await deferLater(REACTOR, 0.01)

    await within(REACTOR, PATIENCE, what, look())


class MetricsCase(TestCase):
    """Containers of the test's own on the real engine, and a sampler."""

    timeout = 120
    if not os.access(SOCKET, os.W_OK):
        skip = "no Docker Engine answers"

    def setUp(self) -> None:
        self.image = ensure_busybox_image()
        self.engine = DockerEngine(reactor=REACTOR, config=DockerConfig())
        self.samples: list[Mapping[str, Json]] = []
        self.bell = OomBell(reactor=REACTOR)
        disk = DiskMeter(clock=REACTOR, reactor=REACTOR, pool=ThreadPool(0, 1, "disk"))
        self.sampler = ContainerSampler(
            clock=REACTOR,
            reactor=REACTOR,
            instruments=Instruments(Cgroups(), self.bell, disk),
            interval=0.25,
            sample=lambda _server_id, metrics: self.samples.append(metrics),
            now=time.time,
        )
        self.sampler.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.sampler.stop()))

    async def run_container(self, script: str, **limits: Json) -> ContainerState:
        name = f"stellarstack-test-{os.getpid()}-{self.id().rsplit('.', 1)[-1]}"
        body: dict[str, Json] = {
            "Image": self.image,
            "Cmd": ["/bin/sh", "-c", script],
            "HostConfig": {"Memory": 64 * 2**20, "MemorySwap": 64 * 2**20, **limits},
        }
        container = await self.engine.create_container(name, body)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.engine.remove(container)))
        await self.engine.start(container)
        return await self.engine.inspect(container)

    def track(self, state: ContainerState) -> None:
        self.sampler.track("srv_1", state.pid, state.started_at or 0.0, 64 * 2**20, Path(self.mktemp()))

    async def docker_counters(self, container: str) -> Any:
        return await self.engine.stats(container)


class CompareTests(MetricsCase):
    """Against Docker's stats API."""

    async def test_counters_lie_between_dockers(self) -> None:
        """Processor, network, disk and process counters lie between Docker's just before and just after."""
        state = await self.run_container("yes > /dev/null & yes > /dev/null & sleep 600", NanoCpus=500_000_000)
        cgroup = Cgroups().open(state.pid)
        self.addCleanup(cgroup.close)
        for _ in range(3):
            before = await self.docker_counters(state.id)
            ours = cgroup.read()
            after = await self.docker_counters(state.id)
            cpu = [stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9 for stats in (before, after)]
            received = [stats["networks"]["eth0"]["rx_bytes"] for stats in (before, after)]
            sent = [stats["networks"]["eth0"]["tx_bytes"] for stats in (before, after)]
            self.assertTrue(cpu[0] <= ours.cpu_seconds <= cpu[1], (cpu, ours))
            self.assertTrue(received[0] <= ours.network_rx <= received[1], (received, ours))
            self.assertTrue(sent[0] <= ours.network_tx <= sent[1], (sent, ours))
            self.assertEqual(ours.pids, after["pids_stats"]["current"])

    async def test_memory_as_docker_shows_it(self) -> None:
        """Memory is Docker's figure without the page cache that can be given back, within a tenth."""
        state = await self.run_container(
            "dd if=/dev/zero of=/tmp/f bs=1M count=20; cat /tmp/f > /dev/null; echo > /tmp/done; sleep 600"
        )
        cgroup = Cgroups().open(state.pid)
        self.addCleanup(cgroup.close)
        await until(Path(f"/proc/{state.pid}/root/tmp/done").exists, "the write")
        stats = await self.docker_counters(state.id)
        memory = stats["memory_stats"]
        cache = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
        shown = memory["usage"] - cache
        self.assertLess(abs(cgroup.read().memory - shown), max(shown / 10, 2 * 2**20))

    async def test_sampled(self) -> None:
        """The sampler tells the figures of a running container, with a processor figure within its limit."""
        state = await self.run_container("yes > /dev/null", NanoCpus=500_000_000)
        self.track(state)
        await until(lambda: len(self.samples) >= 8, "eight samples")
        cpu = [sample["cpu"] for sample in self.samples]
        mean = sum(value for value in cpu if isinstance(value, float)) / len(cpu)
        self.assertTrue(2.0 < mean < 65.0, cpu)
        last = self.samples[-1]
        self.assertEqual((last["pids"], last["memoryLimit"]), (1, 64 * 2**20))
        self.assertTrue(0 < float(str(last["uptime"])) < 60, last)


class EndTests(MetricsCase):
    """Containers that go."""

    async def test_vanishing_containers_leak_nothing(self) -> None:
        """Containers removed behind our back leave no descriptor open (K03, K29)."""
        before = None
        for _ in range(5):
            state = await self.run_container("sleep 600")
            count = len(self.samples)
            self.track(state)
            await until(lambda count=count: len(self.samples) > count, "a sample")  # type: ignore[misc]
            await self.engine.remove(state.id)
            await until(lambda: not self.sampler.latest(), "the end of the samples")
            await until(lambda: self.open_figures() == 0, "closed files")
            before = before or len(os.listdir("/proc/self/fd"))
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before or 0)

    def open_figures(self) -> int:
        """How many of our descriptors are of cgroup or net files."""
        count = 0
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{name}")
                count += "/cgroup/" in target or target.endswith("/net/dev")
        return count

    async def test_child_killed_for_memory(self) -> None:
        """A child that is killed for want of memory is counted, though the container ends with 0 right after (K20)."""
        state = await self.run_container("sleep 0.7; dd if=/dev/zero of=/dev/null bs=200M count=1; true")
        self.track(state)
        self.assertEqual(await self.engine.wait(state.id), 0)
        self.sampler.untrack("srv_1")
        self.assertEqual(self.sampler.last_oom("srv_1"), 1)

    async def test_first_process_killed_for_memory(self) -> None:
        """So is the first process, whose container is gone milliseconds later (K20)."""
        state = await self.run_container("sleep 0.7; exec dd if=/dev/zero of=/dev/null bs=200M count=1")
        self.track(state)
        self.assertEqual(await self.engine.wait(state.id), 137)
        self.sampler.untrack("srv_1")
        self.assertEqual(self.sampler.last_oom("srv_1"), 1)

    async def test_other_ends_are_no_oom(self) -> None:
        """A container that is killed by a signal, whose bell rings as it goes, has no OOM."""
        state = await self.run_container("sleep 600")
        self.track(state)
        await until(lambda: bool(self.samples), "a sample")
        await self.engine.kill(state.id, "SIGKILL")
        await self.engine.wait(state.id)
        self.sampler.untrack("srv_1")
        self.assertEqual(self.sampler.last_oom("srv_1"), 0)


class Version2BellTests(TestCase):
    """v2's way of ringing, on a cgroup file of the kernel that changes when we say so."""

    timeout = 30

    def setUp(self) -> None:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        points = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
        if not points or os.geteuid() != 0:
            raise SkipTest("no cgroup2 hierarchy in which a group can be made")
        self.group = Path(points[0]) / f"stellarstack-test-{os.getpid()}"
        self.group.mkdir()
        self.addCleanup(self.group.rmdir)

    async def test_rings(self) -> None:
        """A change of a file that the kernel announces as it does memory.events rings once, not for ever."""
        events = os.open(self.group / "cgroup.events", os.O_RDONLY)
        self.addCleanup(os.close, events)
        os.pread(events, 4096, 0)
        rung: list[bytes] = []

        class Cgroup:
            """What the bell needs of one."""

            files = type("Files", (), {"version": 2, "memory_events": ""})
            events_descriptor = events

        bell = OomBell(reactor=REACTOR)
        fake: Any = Cgroup
        stop = bell.watch(fake, lambda: rung.append(os.pread(events, 4096, 0)))
        child = subprocess.Popen(["/bin/sleep", "60"])
        try:
            (self.group / "cgroup.procs").write_text(str(child.pid))
            await until(lambda: bool(rung), "the bell")
            self.assertIn(b"populated 1", rung[-1])
        finally:
            child.kill()
            child.wait()
        await until(lambda: b"populated 0" in rung[-1], "the second bell")
        self.assertLessEqual(len(rung), 3)
        stop()
