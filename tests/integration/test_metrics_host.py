"""The host's figures through the real reactor's threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from stellarstack.metrics.host import HostProbe

REACTOR: Any = reactor


class HostTests(TestCase):
    """This host, twice."""

    async def test_counters_grow(self) -> None:
        """Counters do not go back between two looks, and the processor's figure is that of the time between them."""
        probe = HostProbe(path=Path("/"), reactor=REACTOR)
        first = await probe.figures()
        sum(range(2_000_000))
        second = await probe.figures()
        self.assertGreaterEqual(second.network_rx, first.network_rx)
        self.assertGreaterEqual(second.uptime, first.uptime)
        self.assertGreater(second.cpu_percent, 0)
