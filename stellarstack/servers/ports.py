"""Who holds a host port: another server of this node, or anything else on this host."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from stellarstack.core.ports import PortMapping
from stellarstack.errors import PortInUse


def clash_between(wanted: Iterable[PortMapping], held: Iterable[PortMapping]) -> PortMapping | None:
    """The first wanted port that one of `held` takes: same protocol and number, same address or either on all."""
    taken: dict[tuple[str, int], set[str]] = {}
    for port in held:
        for protocol in port.protocols:
            taken.setdefault((protocol, port.host), set()).add(port.ip)
    for port in wanted:
        for protocol in port.protocols:
            others = taken.get((protocol, port.host))
            if others and (port.ip in others or _is_any(port.ip) or any(map(_is_any, others))):
                return port
    return None


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


def _is_any(ip: str) -> bool:
    return ip in ("", "0.0.0.0", "::")
