"""Ports for the servers of tests."""

from __future__ import annotations

import random
import socket


def free_ports(count: int) -> list[int]:
    """So many ports that nobody has now, by TCP and by UDP.

    They lie below those that the system gives to outgoing connections, so that one is still free when a server that was
    taken down comes back. Tests that run beside one another hardly ever draw the same.
    """
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("0.0.0.0", port))
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.add(port)
    return [*found]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
