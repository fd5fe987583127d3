"""What sockets tell: whether a port can be had, whether a connection's peer takes anything."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import termios
from typing import Any

_BYTES_ACKED = 120  # in Linux' struct tcp_info: a u64 that grows with each byte the peer has taken


def try_port(host: str, port: int) -> None:
    """OSError: the port cannot be bound now. It is free afterwards; 0 is any, which there is."""
    if not port:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Twisted's own
        tried.bind((host, port))


def progress(transport: Any) -> tuple[bool, int] | None:
    """Whether bytes wait for the peer's TCP, and a number that grows when it takes some.

    None where there is no such socket: a UNIX socket, a transport in memory, another system.
    """
    found = _socket_of(transport)
    if found is None:
        return None
    try:
        waiting = array.array("i", [0])
        fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, waiting)
        told = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
        return waiting[0] > 0, struct.unpack_from("=Q", told, _BYTES_ACKED)[0]
    except (OSError, struct.error):
        return None


def _socket_of(transport: Any) -> socket.socket | None:
    """The TCP socket below a transport, below TLS too."""
    for layer in (transport, getattr(transport, "transport", None)):
        ask: Any = getattr(layer, "getHandle", None)
        handle = ask() if ask is not None else None
        if isinstance(handle, socket.socket):
            return handle
    return None
