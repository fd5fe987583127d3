"""The host's figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.metrics.host import CpuMeter, HostProbe, counted_interfaces
from tests.inline_threads import InlineReactor


class ProcessorTests(SynchronousTestCase):
    """Percent between two looks."""

    def test_percent(self) -> None:
        """Busy is what is neither idle nor waiting for a disk; guest time is in user's already."""
        looks = [
            {"user": 10.0, "system": 5.0, "idle": 80.0, "iowait": 5.0, "guest": 3.0},
            {"user": 12.0, "system": 6.0, "idle": 86.0, "iowait": 6.0, "guest": 5.0},
            {"user": 12.0, "system": 6.0, "idle": 86.0, "iowait": 6.0, "guest": 5.0},
            {"user": 22.0, "system": 6.0, "idle": 86.0, "iowait": 6.0, "guest": 5.0},
            {"user": 21.0, "system": 6.0, "idle": 88.0, "iowait": 6.0, "guest": 5.0},
        ]
        meter = CpuMeter(iter(looks).__next__)
        self.assertEqual([round(meter.percent(), 6) for _ in looks[1:]], [30.0, 30.0, 100.0, 0.0])


class InterfaceTests(SynchronousTestCase):
    """Which of them count."""

    def test_physical(self) -> None:
        """Bridges, veths, bonds, VLANs and the loopback do not count beside the devices that their bytes go through."""
        names = ["lo", "eth0", "eth1", "bond0", "eth0.5", "docker0", "br-1f", "veth12", "wg0"]
        self.assertEqual(counted_interfaces(names, {"eth0", "eth1"}), {"eth0", "eth1"})

    def test_none_physical(self) -> None:
        """Where no interface has a device all count but what is virtual by its name."""
        self.assertEqual(counted_interfaces(["lo", "eth0", "veth12", "docker0"], set()), {"eth0"})


class ProbeTests(SynchronousTestCase):
    """This host."""

    def test_figures(self) -> None:
        """The figures of this host are plausible, and agree with what the system says itself."""
        reactor = InlineReactor()
        probe = HostProbe(path=Path("/"), reactor=cast(Any, reactor))
        figures = self.successResultOf(Deferred.fromCoroutine(probe.figures()))
        self.assertEqual(reactor.pool.calls, ["measure"])
        self.assertTrue(0 <= figures.cpu_percent <= 100)
        self.assertTrue(0 < figures.memory_percent < 100)
        self.assertTrue(0 < figures.memory_used < figures.memory_total)
        self.assertTrue(0 < figures.disk_percent <= 100)
        self.assertEqual(figures.cores, os.cpu_count())
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        self.assertLess(abs(figures.uptime - uptime), 5)
        self.assertGreater(figures.network_rx + figures.network_tx, 0)
