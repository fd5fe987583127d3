"""Ports for the servers of tests."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port that nobody has now, by TCP and by UDP.

    It lies below those that the system gives to outgoing connections, so that it is still free when a server that was
    taken down comes back. Tests that run beside one another hardly ever draw the same.
    """
    while True:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("0.0.0.0", port))
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
