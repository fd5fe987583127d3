"""Free /28s for servers' networks."""

from ipaddress import IPv4Network

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.subnets import free_subnet
from stellarstack.errors import InsufficientResources

POOL = IPv4Network("10.213.0.0/16")


class SubnetTests(SynchronousTestCase):
    def test_first(self) -> None:
        """An empty pool gives its first /28, a start its own."""
        self.assertEqual(free_subnet(POOL, [], []), IPv4Network("10.213.0.0/28"))
        self.assertEqual(free_subnet(POOL, [], [], start=3), IPv4Network("10.213.0.48/28"))

    def test_each_is_new(self) -> None:
        """A thousand servers get a thousand subnets that do not overlap."""
        taken: set[IPv4Network] = set()
        for _ in range(1000):
            found = free_subnet(POOL, taken, [])
            self.assertNotIn(found, taken)
            taken.add(found)

    def test_shifted_past_routes(self) -> None:
        """Where a route of the host overlaps, the next free place is taken; the default route is no reason."""
        routes = [IPv4Network("0.0.0.0/0"), IPv4Network("10.213.0.0/24"), IPv4Network("192.168.0.0/16")]
        self.assertEqual(free_subnet(POOL, [], routes), IPv4Network("10.213.1.0/28"))
        self.assertEqual(free_subnet(POOL, [IPv4Network("10.213.0.16/30")], []), IPv4Network("10.213.0.0/28"))
        self.assertEqual(free_subnet(POOL, [IPv4Network("10.213.0.16/30")], [], start=1), IPv4Network("10.213.0.32/28"))

    def test_goes_around(self) -> None:
        """Behind the pool's end the search goes on at its beginning."""
        pool = IPv4Network("10.0.0.0/26")
        taken = [IPv4Network("10.0.0.32/28"), IPv4Network("10.0.0.48/28")]
        self.assertEqual(free_subnet(pool, taken, [], start=2), IPv4Network("10.0.0.0/28"))

    def test_exhausted(self) -> None:
        """A full pool, a pool inside a route and a pool that is too small are told as such."""
        pool = IPv4Network("10.0.0.0/27")
        for taken, routes in [(list(pool.subnets(new_prefix=28)), []), ([], [IPv4Network("10.0.0.0/8")])]:
            self.assertRaises(InsufficientResources, free_subnet, pool, taken, routes)
        self.assertRaises(InsufficientResources, free_subnet, IPv4Network("10.0.0.0/29"), [], [])

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), max_size=12),
        st.integers(0, 100_000),
    )
    def test_never_overlaps(self, busy: list[tuple[int, int]], start: int) -> None:
        """Whatever is taken, what is found lies in the pool and overlaps nothing."""
        pool = IPv4Network("10.1.0.0/24")
        taken = [IPv4Network((f"10.1.0.{low}", prefix), strict=False) for low, prefix in busy]
        free = [net for net in pool.subnets(new_prefix=28) if not any(net.overlaps(other) for other in taken)]
        if not free:
            self.assertRaises(InsufficientResources, free_subnet, pool, taken, [], start=start)
            return
        self.assertIn(free_subnet(pool, taken, [], start=start), free)
