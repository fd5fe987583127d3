"""Whether anything else on this host holds a port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from stellarstack.core.ports import PortMapping
from stellarstack.errors import PortInUse


def try_ports(wanted: Iterable[PortMapping]) -> None:
    """Binds each for a moment. PortInUse names the port. Blocks (for microseconds a port): call it in a thread."""
    for port in wanted:
        for protocol in port.protocols:
            _try_one(port, protocol)


def _try_one(port: PortMapping, protocol: str) -> None:
    family = socket.AF_INET6 if ":" in port.ip else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(family, kind) as probe:
            if protocol == "tcp":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((port.ip or "0.0.0.0", port.host))
    except OSError as error:
        raise PortInUse(_told(port, protocol, error)) from None


def _told(port: PortMapping, protocol: str, error: OSError) -> str:
    where = f"{port.ip or '0.0.0.0'}:{port.host}/{protocol}"
    if error.errno == errno.EADDRINUSE:
        return f"port {where} is held by another program on this host; free it or choose another port"
    return f"port {where} cannot be opened on this host: {error.strerror}"
