"""How fast connections of a listener are sent to: those of this host are not paced, others as the host has it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IFileDescriptor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from stellarstack.sockets import Pacing


def control(of: socket.socket) -> bytes:
    return of.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


class Door:
    """A port as Twisted's."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        alsoProvides(self, IFileDescriptor)

    def fileno(self) -> int:
        return self._listening.fileno()


class Transport:
    """A connection as Twisted's."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def getHandle(self) -> Any:
        return self._handle


class Elsewhere(socket.socket):
    """A connection whose peer is another host."""

    def getpeername(self) -> tuple[str, int]:
        return "203.0.113.9", 4000


class PacingTests(SynchronousTestCase):
    """On a socket of the system's own."""

    def setUp(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.usual = control(self.listening)
        self.pacing = Pacing(Door(self.listening))

    def accept(self) -> socket.socket:
        near = socket.create_connection(self.listening.getsockname())
        self.addCleanup(near.close)
        accepted, _ = self.listening.accept()
        self.addCleanup(accepted.close)
        return accepted

    def test_this_host(self) -> None:
        """A proxy on the same host is sent to without a pace."""
        accepted = self.accept()
        self.pacing.accepted(Transport(accepted))
        self.assertEqual(control(accepted), b"reno")

    def test_another_host(self) -> None:
        """A viewer from elsewhere is sent to as the host is set up, also below TLS."""
        for wrap in (lambda found: found, Layer):
            accepted = Elsewhere(fileno=self.accept().detach())
            self.addCleanup(accepted.close)
            self.pacing.accepted(wrap(Transport(accepted)))
            self.assertEqual(control(accepted), self.usual)

    def test_in_memory(self) -> None:
        """A port or a connection that is no socket, or is gone, is let be."""
        Pacing(object()).accepted(Transport(self.accept()))
        self.pacing.accepted(object())
        gone = self.accept()
        gone.close()
        self.pacing.accepted(Transport(gone))


class Layer:
    """TLS over a connection."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
