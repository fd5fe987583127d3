"""Ports for the servers of tests."""

from __future__ import annotations

import random
import socket


def free_ports(count: int) -> list[int]:
    """So many ports that nobody has now, by TCP and by UDP.

    They lie below those that the system gives to outgoing connections, so that one is still free when a server that was
    taken down comes back, and below the fixed ones of tests. Those that run side by side hardly ever draw the same.
    """
    found: set[int] = set()
    for port in random.sample(range(10_000, 20_000), 10_000):
        if len(found) == count:
            break
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("0.0.0.0", port))
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.add(port)
    assert len(found) == count, f"only {len(found)} of {count} ports are free"
    return [*found]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
