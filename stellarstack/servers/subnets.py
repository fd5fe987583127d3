"""Which /28 each server's bridge gets: free of the engine's networks, of this host's routes and of other servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredLock

from stellarstack.core.subnets import PREFIX, free_subnet
from stellarstack.interfaces import Engine
from stellarstack.servers.threads import Threads

ROUTES = Path("/proc/net/route")


class SubnetPool:
    """One per node; hands out one subnet at a time, so that two creates never get the same."""

    def __init__(
        self, *, engine: Engine, pool: IPv4Network, threads: Threads, held: Callable[[], Iterable[str]]
    ) -> None:
        self._engine = engine
        self._pool = pool
        self._threads = threads
        self._held = held
        self._lock = DeferredLock()
        self._given: set[str] = set()

    async def take(self, *, instead_of: str | None = None, prefix: int = PREFIX) -> str:
        """A subnet like `10.213.4.16/28`. InsufficientResources: the pool is used up."""
        return await self._lock.run(lambda: Deferred.fromCoroutine(self._take(instead_of, prefix)))

    def give_back(self, subnet: str) -> None:
        """Its server is gone."""
        self._given.discard(subnet)

    @property
    def given(self) -> frozenset[str]:
        """What was handed out and not given back."""
        return frozenset(self._given)

    async def _take(self, instead_of: str | None, prefix: int) -> str:
        networks = await self._engine.networks({})
        routes = await self._threads(read_routes)
        taken = {*self._held(), *self._given, *(subnet for subnets in networks.values() for subnet in subnets)}
        if instead_of is not None:
            taken.add(instead_of)
        own = [network for network in map(_network, taken) if network is not None]
        subnet = str(free_subnet(self._pool, own, routes, prefix=prefix))
        self._given.add(subnet)
        return subnet


def _network(text: str) -> IPv4Network | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return network if isinstance(network, IPv4Network) else None


def read_routes(path: Path = ROUTES) -> list[IPv4Network]:
    """The host's IPv4 routes, as the kernel lists them: destination and mask in hexadecimal, little end first."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()[1:]
    except OSError:
        return []
    routes = []
    for columns in (line.split() for line in lines):
        if len(columns) > 7:
            destination, mask = (int.from_bytes(bytes.fromhex(columns[at]), "little") for at in (1, 7))
            routes.append(IPv4Network((destination, mask.bit_count())))
    return routes
