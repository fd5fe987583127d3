"""Which /28 each server's bridge gets: free of the engine's networks, of this host's routes and of other servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from zlib import crc32

from twisted.internet.defer import Deferred, DeferredLock

from stellarstack.core.subnets import PREFIX, free_subnet
from stellarstack.interfaces import Engine
from stellarstack.servers.threads import Threads

ROUTES = Path("/proc/net/route")


class SubnetPool:
    """One per node; hands out one subnet at a time, so that two creates never get the same."""

    def __init__(
        self, *, node_id: str, engine: Engine, pool: IPv4Network, threads: Threads, held: Callable[[], Iterable[str]]
    ) -> None:
        self._node_id = node_id
        self._engine = engine
        self._pool = pool
        self._threads = threads
        self._held = held
        self._lock = DeferredLock()
        self._given: set[str] = set()

    async def take(self, *, refused: Collection[str] = (), prefix: int = PREFIX) -> str:
        """A subnet like `10.213.4.16/28`. InsufficientResources: the pool is used up.

        After the engine `refused` some, the search goes on at a place of this node's own: another daemon that takes
        from the same pool is not run after from one subnet to the next.
        """
        return await self._lock.run(lambda: Deferred.fromCoroutine(self._take(refused, prefix)))

    def give_back(self, subnet: str) -> None:
        """Its server is gone."""
        self._given.discard(subnet)

    @property
    def given(self) -> frozenset[str]:
        """What was handed out and not given back."""
        return frozenset(self._given)

    async def _take(self, refused: Collection[str], prefix: int) -> str:
        networks = await self._engine.networks({})
        routes = await self._threads(read_routes)
        listed = (subnet for subnets in networks.values() for subnet in subnets)
        taken = {*self._held(), *self._given, *listed, *refused}
        own = [network for network in map(_network, taken) if network is not None]
        start = crc32(f"{self._node_id} {len(refused)}".encode()) if refused else 0
        subnet = str(free_subnet(self._pool, own, routes, start=start, prefix=prefix))
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
