"""Which subnets are handed out: none twice, none that this host routes elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import InsufficientResources
from stellarstack.servers.subnets import SubnetPool, read_routes
from tests.fake_engine import FakeEngine
from tests.fakes import at_once
from tests.household import done

P = ParamSpec("P")
T = TypeVar("T")


def no_routes(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    """A host that has no routes of its own."""
    return cast("Deferred[T]", at_once(list))


class PoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.engine = FakeEngine(clock=self.clock)
        self.held: list[str] = []

    def pool(self, text: str = "10.213.0.0/26", node_id: str = "node_a") -> SubnetPool:
        return SubnetPool(
            node_id=node_id,
            engine=self.engine,
            pool=IPv4Network(text),
            threads=no_routes,
            held=lambda: [*self.held, "fe80::/64", "?"],
        )

    def test_none_twice(self) -> None:
        """Many at once get different ones, and when all are gone it says so; one given back is had again."""
        self.engine.faults.latency = lambda _: 1.0
        pool = self.pool()
        asked = [Deferred.fromCoroutine(pool.take()) for _ in range(5)]
        self.clock.pump([0.5] * 20)
        given = [self.successResultOf(one) for one in asked[:4]]
        self.assertEqual(len(set(given)), 4)
        self.failureResultOf(asked[4], InsufficientResources)
        self.engine.faults.latency = None
        pool.give_back(given[2])
        self.assertEqual(done(pool.take()), given[2])

    def test_held(self) -> None:
        """Those of servers, of other networks of the engine, and the one that did not do are left out."""
        self.held.append("10.213.0.0/28")
        done(self.engine.create_network("other", "10.213.0.16/28", {}))
        pool = self.pool()
        self.assertEqual(done(pool.take(refused=["10.213.0.32/28"])), "10.213.0.48/28")
        self.assertEqual(pool.given, {"10.213.0.48/28"})

    def test_refused(self) -> None:
        """What the engine refused is never offered again, and two nodes do not meet at the next one."""
        refused = ["10.213.0.0/28", "10.213.0.16/28"]
        places = {
            done(self.pool("10.213.0.0/16", node).take(refused=refused)) for node in ("node_a", "node_b", "node_c")
        }
        self.assertEqual(len(places), 3)
        self.assertFalse(places & set(refused))
        with self.assertRaises(InsufficientResources):
            done(self.pool("10.213.0.0/27").take(refused=refused))

    def test_cancelled(self) -> None:
        """One who stops waiting has taken nothing, and blocks nobody."""
        self.engine.faults.latency = lambda _: 1.0
        pool = self.pool()
        first, second = (Deferred.fromCoroutine(pool.take()) for _ in range(2))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.clock.pump([0.5] * 6)
        self.assertEqual(pool.given, {self.successResultOf(second)})


class RoutesTests(SynchronousTestCase):
    def routes(self, text: str) -> list[str]:
        path = Path(self.mktemp())
        path.write_text(text)
        return [str(network) for network in read_routes(path)]

    def test_read(self) -> None:
        """The kernel's table in hexadecimal, little end first; lines that are too short are left out."""
        text = (
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
            "eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n"
            "docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n"
            "short\n"
        )
        self.assertEqual(self.routes(text), ["0.0.0.0/0", "172.17.0.0/16"])

    def test_no_table(self) -> None:
        """A host without the table has no routes to mind."""
        self.assertEqual(read_routes(Path("/nowhere")), [])
