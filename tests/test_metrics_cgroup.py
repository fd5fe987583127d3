"""A container's files, held open, on recorded hosts with cgroups v1 and v2."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.metrics.cgroup import Cgroups, NoContainer
from tests.recorded_host import RecordedHost


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class CgroupTests(SynchronousTestCase):
    """Both versions alike."""

    def _host(self, version: int) -> RecordedHost:
        host = RecordedHost(Path(self.mktemp()), version)
        host.add(7)
        return host

    def test_reads(self) -> None:
        """All counters come from the files, and again after the files have changed, on the same descriptors."""
        for version, cpu, memory, pids in ((1, 0.025145208, 937984, 2), (2, 25.145208, 200278016, 41)):
            host = self._host(version)
            cgroup = Cgroups(host.proc).open(7)
            self.addCleanup(cgroup.close)
            counters = cgroup.read()
            self.assertEqual((counters.cpu_seconds, counters.memory, counters.pids), (cpu, memory, pids))
            self.assertEqual((counters.network_rx, counters.network_tx), (486, 0))
            before = open_files()
            host.write(7, "pids.current", "9\n")
            self.assertEqual(cgroup.read().pids, 9)
            self.assertEqual(open_files(), before)

    def test_no_block_file(self) -> None:
        """A kernel without the file of disk traffic, or one that does not delegate it, costs only that figure."""
        for version, name in ((1, "blkio.throttle.io_service_bytes_recursive"), (2, "io.stat")):
            host = self._host(version)
            host.file(7, name).unlink()
            cgroup = Cgroups(host.proc).open(7)
            self.addCleanup(cgroup.close)
            self.assertEqual((cgroup.read().block_read, cgroup.read().block_write), (0, 0))

    def test_gone(self) -> None:
        """A container that is gone is an error to read and no OOM count; closing leaves no descriptor (K29)."""
        before = open_files()
        for version in (1, 2):
            host = self._host(version)
            cgroup = Cgroups(host.proc).open(7)
            host.vanish(7)
            self.assertRaises(ValueError, cgroup.read)
            self.assertIsNone(cgroup.oom_kills())
            cgroup.close()
            cgroup.close()
            self.assertIsNone(cgroup.oom_kills())
        self.assertEqual(open_files(), before)

    def test_cannot_be_opened(self) -> None:
        """A container that goes while it is opened leaves no descriptor behind (K29)."""
        host = self._host(1)
        host.file(7, "pids.current").unlink()
        before = open_files()
        self.assertRaises(OSError, Cgroups(host.proc).open, 7)
        self.assertRaises(OSError, Cgroups(host.proc).open, 8)
        self.assertEqual(open_files(), before)

    def test_process_of_the_host(self) -> None:
        """A pid that the host has used again is not taken for the container."""
        host = self._host(2)
        (host.proc / "7/cgroup").write_text("0::/system.slice/ssh.service\n")
        error = self.assertRaises(NoContainer, Cgroups(host.proc).open, 7)
        self.assertIn("process 7", str(error))
