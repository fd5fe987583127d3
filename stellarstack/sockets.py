"""What sockets tell and are told: whether a port can be had, whether a peer takes anything, how fast it is sent to."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
import termios
from typing import Any

from twisted.internet.interfaces import IFileDescriptor

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


class Pacing:
    """Connections of one listener whose peer is this host (a proxy, a tunnel) are not paced.

    Some congestion controls (BBR) pace a connection by how fast its network seems to be. On loopback that is a guess,
    by which readers of a flood fall behind; and a connection that began paced stays so. So the listener begins all of
    them with the plainest control there is, and those from elsewhere get the host's own at once.
    """

    def __init__(self, listening: Any) -> None:
        self._usual = b""
        if not IFileDescriptor.providedBy(listening):  # a port in memory
            return
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(listening.fileno())) as door:
            usual = door.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")
            door.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
            self._usual = usual

    def accepted(self, transport: Any) -> None:
        """A new connection."""
        found = _socket_of(transport) if self._usual else None
        if found is not None:
            with contextlib.suppress(OSError):
                if found.getpeername()[0] != found.getsockname()[0]:
                    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._usual)
