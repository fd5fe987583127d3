"""Finds each server's network a subnet that nobody uses (PROTOCOL 12). Performs no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from stellarstack.errors import InsufficientResources

PREFIX = 28
SHARED_PREFIX = 26
SHARED_MOST = (1 << (32 - SHARED_PREFIX)) - 3  # servers in one shared network: all addresses but net, bridge, broadcast


def free_subnet(
    pool: IPv4Network,
    taken: Iterable[IPv4Network],
    routes: Iterable[IPv4Network],
    *,
    start: int = 0,
    prefix: int = PREFIX,
) -> IPv4Network:
    """The first free /28 (or `prefix`) of `pool`, counting from the `start`th and around.

    InsufficientResources: there is none. `taken` are the engine's networks, `routes` the host's; a default route
    (0.0.0.0/0) says nothing. Whoever makes several at once passes different starts, or the ones just found in `taken`.
    """
    size = 1 << (32 - prefix)
    first, count = int(pool.network_address), pool.num_addresses // size
    if not count:
        raise InsufficientResources(f"the network pool {pool} is smaller than one /{prefix}")
    busy = _merged(network for network in [*taken, *routes] if network.prefixlen and network.overlaps(pool))
    begin = start % count
    found = _first_free(busy, first + begin * size, first + count * size, size)
    if found is None:
        found = _first_free(busy, first, first + begin * size, size)
    if found is None:
        raise InsufficientResources(f"the network pool {pool} has no free /{prefix} left of {count}")
    return IPv4Network((IPv4Address(found), prefix))


def _merged(networks: Iterable[IPv4Network]) -> list[tuple[int, int]]:
    """Ranges [first, last] in order, none touching another."""
    ranges = sorted((int(network.network_address), int(network.broadcast_address)) for network in networks)
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def _first_free(busy: list[tuple[int, int]], low: int, end: int, size: int) -> int | None:
    """The lowest multiple of `size` in [low, end) whose block no range touches."""
    at = low
    while at + size <= end:
        index = bisect_right(busy, (at + size - 1, 1 << 33)) - 1
        if index < 0 or busy[index][1] < at:
            return at
        at = (busy[index][1] // size + 1) * size
    return None
