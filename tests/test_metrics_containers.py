"""The sampler: once a second, without drift, leaks or lost OOM counts, on recorded hosts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as _installed  # noqa: F401  # its descriptors are there before any are counted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Json
from stellarstack.metrics.cgroup import Cgroups
from stellarstack.metrics.containers import ContainerSampler, Instruments
from stellarstack.metrics.disk import DiskMeter
from stellarstack.metrics.oom import OomBell
from tests.inline_threads import InlinePool, InlineReactor
from tests.recorded_host import RecordedHost

OOM_V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
METRICS = "cpu memory memoryLimit disk networkRx networkTx uptime pids blockRead blockWrite".split()  # noqa: SIM905


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class SamplerCase(SynchronousTestCase):
    """A sampler on a recorded host with threads that the test drives."""

    version = 1

    def setUp(self) -> None:
        base = Path(self.mktemp())
        self.before = open_files()
        self.host = RecordedHost(base, self.version)
        self.clock = Clock()
        self.reactor = InlineReactor()
        self.disk_pool = InlinePool()
        self.root = base / "server"
        self.root.mkdir()
        self.samples: list[tuple[float, str, Mapping[str, Json]]] = []
        reactor = cast(Any, self.reactor)
        self.bell = OomBell(reactor=reactor)
        self.sampler = ContainerSampler(
            clock=self.clock,
            reactor=reactor,
            instruments=Instruments(
                Cgroups(self.host.proc),
                self.bell,
                DiskMeter(clock=self.clock, reactor=reactor, pool=cast(Any, self.disk_pool)),
            ),
            interval=1.0,
            sample=self._sample,
            now=lambda: 1000.0 + self.clock.seconds(),
        )
        self.sampler.start()
        self.addCleanup(self._stop)

    def _sample(self, server_id: str, metrics: Mapping[str, Json]) -> None:
        self.samples.append((self.clock.seconds(), server_id, metrics))

    def _stop(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.sampler.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.reactor.readers, [])
        self.assertEqual(open_files(), self.before)

    def track(self, server_id: str, pid: int) -> None:
        self.host.add(pid)
        self.sampler.track(server_id, pid, 990.0, 2**30, self.root)


class SampleTests(SamplerCase):
    """What is told, and when."""

    def test_metrics(self) -> None:
        """A sample has exactly the figures of PROTOCOL 5, with the units that it names."""
        (self.root / "world").write_bytes(b"x" * 100_000)
        self.track("srv_1", 7)
        self.clock.advance(1)
        self.host.write(7, "cpuacct.usage", "900000000000")
        self.clock.advance(1)
        _, server_id, metrics = self.samples[-1]
        self.assertEqual(server_id, "srv_1")
        self.assertEqual(list(metrics), METRICS)
        expected: dict[str, Json] = {
            "memory": 937984, "memoryLimit": 2**30, "networkRx": 486, "networkTx": 0, "uptime": 12.0, "pids": 2,
            "blockRead": 0, "blockWrite": 0,
        }  # fmt: skip
        self.assertEqual({name: metrics[name] for name in expected}, expected)
        self.assertGreater(cast(float, metrics["cpu"]), 100.0)
        self.assertGreaterEqual(cast(int, metrics["disk"]), 100_000)
        self.assertEqual(self.sampler.latest()["srv_1"].pids, 2)

    def test_grid(self) -> None:
        """Ten servers are sampled once a second each, on the second, by one thread call a tick."""
        for number in range(10):
            self.track(f"srv_{number}", 100 + number)
        self.reactor.pool.calls.clear()
        self.clock.pump([0.3] * 100)
        ticks = [at for at, server_id, _ in self.samples if server_id == "srv_3"]
        self.assertEqual(len(ticks), 30)
        self.assertTrue(all(at - second < 0.31 for second, at in enumerate(ticks, 1)), ticks)
        self.assertEqual(self.reactor.pool.calls, ["_read_all"] * 30)

    def test_slow_look(self) -> None:
        """While a look is under way ticks are left out, not queued."""
        self.track("srv_1", 7)
        self.reactor.pool.held = True
        self.clock.pump([1.0] * 10)
        self.assertEqual(len(self.reactor.pool.jobs), 1)
        self.reactor.pool.held = False
        self.reactor.pool.work()
        self.clock.advance(1)
        self.assertEqual(len(self.samples), 2)

    def test_failing_listener(self) -> None:
        """A listener that fails is logged, and the next sample comes all the same."""
        self.track("srv_1", 7)

        def bug(server_id: str, metrics: Mapping[str, Json]) -> None:
            raise ZeroDivisionError

        good, self.sampler._sample = self.sampler._sample, bug
        self.clock.advance(1)
        self.sampler._sample = good
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.samples), 1)

    def test_nothing_to_do(self) -> None:
        """Without a running server no thread is bothered."""
        self.clock.pump([1.0] * 10)
        self.assertEqual(self.reactor.pool.calls, [])


class EndTests(SamplerCase):
    """Containers that go."""

    def test_vanishes(self) -> None:
        """A container that vanishes gives no more samples, and its descriptors are closed within a tick (K03, K29)."""
        self.track("srv_1", 7)
        self.clock.advance(1)
        self.host.vanish(7)
        self.clock.pump([1.0] * 3)
        self.assertEqual(len(self.samples), 1)
        self.assertEqual(self.sampler.latest(), {})
        self.assertEqual(open_files(), self.before)

    def test_never_there(self) -> None:
        """A process that is gone before its files are open is no error and leaves nothing."""
        self.sampler.track("srv_1", 99, 0.0, 0, self.root)
        self.clock.advance(2)
        self.assertEqual(self.samples, [])

    def test_untracked_while_it_is_opened(self) -> None:
        """A server that ends while its files are being opened leaves no descriptor (K29)."""
        self.reactor.pool.held = True
        self.track("srv_1", 7)
        self.sampler.untrack("srv_1")
        self.reactor.pool.held = False
        self.reactor.pool.work()
        self.clock.pump([1.0] * 2)
        self.assertEqual(self.samples, [])
        self.assertEqual(open_files(), self.before)

    def test_untracked_while_it_is_read(self) -> None:
        """A look that ends after the server does is not told."""
        self.track("srv_1", 7)
        self.reactor.pool.held = True
        self.clock.advance(1)
        self.sampler.untrack("srv_1")
        self.reactor.pool.held = False
        self.reactor.pool.work()
        self.assertEqual(self.samples, [])

    def test_broken_file(self) -> None:
        """A container of which one file is no use is not tracked, and leaves nothing open (K29)."""
        self.host.add(7)
        self.host.write(7, "pids.current", "nonsense")
        self.sampler.track("srv_1", 7, 0.0, 0, self.root)
        self.clock.advance(1)
        self.assertEqual(self.samples, [])
        self.assertEqual(open_files(), self.before)

    def test_many_runs(self) -> None:
        """A hundred starts and ends leave no descriptor, timer or watch behind (K29)."""
        for number in range(100):
            self.track("srv_1", 1000 + number)
            self.clock.advance(1)
        self.sampler.forget("srv_1")
        self.clock.advance(1)
        self.assertEqual(len(self.samples), 100)
        self.assertEqual(open_files(), self.before)

    def test_stop_waits_for_a_look(self) -> None:
        """The stop waits for a look under way, so that no file is closed under it; one that hangs is given up."""
        self.track("srv_1", 7)
        self.reactor.pool.held = True
        self.clock.advance(1)
        stopped = Deferred.fromCoroutine(self.sampler.stop())
        self.assertNoResult(stopped)
        self.clock.advance(5)
        self.successResultOf(stopped)
        self.reactor.pool.work()


class OomTests(SamplerCase):
    """Kills for want of memory."""

    def _ring(self, pid: int) -> None:
        """As the kernel does it: the eventfd whose number was written to cgroup.event_control."""
        eventfd, counted = self.host.file(pid, "cgroup.event_control").read_text().split()
        self.assertTrue(os.path.samefile(f"/proc/self/fd/{counted}", self.host.file(pid, "memory.oom_control")))
        os.eventfd_write(int(eventfd), 1)
        for reader in list(self.reactor.readers):
            reader.doRead()

    def test_counted(self) -> None:
        """The kernel's count is known while the server runs and after its end, until it is deleted (K20)."""
        self.track("srv_1", 7)
        self.assertEqual(self.sampler.last_oom("srv_1"), 0)
        self.host.write(7, "memory.oom_control", OOM_V1.format(2))
        self.assertEqual(self.sampler.last_oom("srv_1"), 2)
        self.host.vanish(7)
        self.sampler.untrack("srv_1")
        self.assertEqual(self.sampler.last_oom("srv_1"), 2)
        self.sampler.forget("srv_1")
        self.assertEqual(self.sampler.last_oom("srv_1"), 0)

    def test_next_run_begins_anew(self) -> None:
        """A new container counts from 0."""
        self.track("srv_1", 7)
        self.host.write(7, "memory.oom_control", OOM_V1.format(1))
        self.sampler.untrack("srv_1")
        self.track("srv_1", 8)
        self.assertEqual(self.sampler.last_oom("srv_1"), 0)

    def test_bell_before_the_count(self) -> None:
        """The bell comes before the kill: the count is read again some milliseconds later, before the cgroup goes."""
        self.track("srv_1", 7)
        self._ring(7)
        self.clock.advance(0.002)
        self.host.write(7, "memory.oom_control", OOM_V1.format(1))
        self.clock.advance(0.001)
        self.host.vanish(7)
        self.assertEqual(self.sampler.last_oom("srv_1"), 1)

    def test_gone_right_after_the_bell(self) -> None:
        """A container that goes right after the bell, before anyone could count, was killed by it."""
        self.track("srv_1", 7)
        self._ring(7)
        self.host.vanish(7)
        self.sampler.untrack("srv_1")
        self.assertEqual(self.sampler.last_oom("srv_1"), 1)

    def test_false_bell(self) -> None:
        """A bell after which nobody is killed does not count, nor does the one that comes when the container goes."""
        self.track("srv_1", 7)
        self._ring(7)
        self.clock.advance(0.003)
        self.clock.advance(0.010)
        self.host.vanish(7)
        self._ring_gone(7)
        self.sampler.untrack("srv_1")
        self.assertEqual(self.sampler.last_oom("srv_1"), 0)

    def _ring_gone(self, pid: int) -> None:
        for eventfd in list(self.bell._eventfds):
            os.eventfd_write(eventfd, 1)
        for reader in list(self.reactor.readers):
            reader.doRead()

    def test_two_servers(self) -> None:
        """Each server's bell is its own."""
        self.track("srv_1", 7)
        self.track("srv_2", 8)
        self._ring(8)
        self.host.vanish(8)
        self.assertEqual((self.sampler.last_oom("srv_1"), self.sampler.last_oom("srv_2")), (0, 1))


class Version2Tests(SamplerCase):
    """A host with cgroups v2."""

    version = 2

    def test_samples(self) -> None:
        """The figures are those of v2's files; where no bell can be had (these are no cgroup files) it goes without."""
        self.track("srv_1", 7)
        self.clock.advance(1)
        _, _, metrics = self.samples[0]
        self.assertEqual((metrics["memory"], metrics["pids"], metrics["blockWrite"]), (200278016, 41, 8388608))
        self.assertEqual(self.sampler.last_oom("srv_1"), 2)
        self.sampler.untrack("srv_1")
        self.clock.advance(1)


class BellTests(SynchronousTestCase):
    """The bell by itself, rung by a pipe: as v2's file is, it is exceptional to poll, not readable."""

    def test_exceptional_descriptor(self) -> None:
        """A descriptor that becomes exceptional rings once each time, not for as long as it is so."""
        reactor = InlineReactor()
        bell = OomBell(reactor=cast(Any, reactor))
        rung: list[int] = []
        read, write = os.pipe()
        self.addCleanup(os.close, write)

        class Cgroup:
            """What the bell needs of one."""

            files = type("Files", (), {"version": 2, "memory_events": ""})
            events_descriptor = write

        stop = bell.watch(cast(Any, Cgroup), lambda: rung.append(1))
        os.close(read)
        for _ in range(3):
            reactor.readers[0].doRead()
        self.assertEqual(rung, [1])
        stop()
        stop()
        self.assertEqual(reactor.readers, [])
        bell.doRead()
        self.assertEqual(bell.fileno(), -1)

    def test_no_control_file(self) -> None:
        """A v1 container that goes before its bell is hung is an error, and leaves no descriptor (K29)."""
        host = RecordedHost(Path(self.mktemp()), 1)
        host.add(7)
        cgroup = Cgroups(host.proc).open(7)
        self.addCleanup(cgroup.close)
        host.file(7, "cgroup.event_control").parent.rename(Path(self.mktemp()))
        bell = OomBell(reactor=cast(Any, InlineReactor()))
        before = open_files()
        self.assertRaises(OSError, bell.watch, cgroup, lambda: None)
        self.assertEqual(open_files(), before)

    def test_failing_ring(self) -> None:
        """A listener that fails is logged and does not cost the others their ring; the end of it all lets go (K29)."""
        host = RecordedHost(Path(self.mktemp()), 1)
        reactor = InlineReactor()
        bell = OomBell(reactor=cast(Any, reactor))
        rung: list[int] = []

        def bug() -> None:
            raise ZeroDivisionError

        before = open_files()
        cgroups = []
        for pid, ring in ((7, bug), (8, lambda: rung.append(8))):
            host.add(pid)
            cgroups.append(Cgroups(host.proc).open(pid))
            bell.watch(cgroups[-1], ring)
            os.eventfd_write(int(host.file(pid, "cgroup.event_control").read_text().split()[0]), 1)
        reactor.readers[0].doRead()
        self.assertEqual(rung, [8])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(bell.logPrefix(), "oom")
        bell.connectionLost(Failure(ConnectionDone()))
        for cgroup in cgroups:
            cgroup.close()
        self.assertEqual((reactor.readers, open_files()), ([], before))
