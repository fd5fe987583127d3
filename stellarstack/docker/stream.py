"""A connection to the engine's socket as a transport of our own: read by `recv` alone, in pieces as large as there are.

Twisted's own for UNIX sockets asks at each read for file descriptors that might be handed over, which for a key's echo
is most of what it does; and its reads are its own affair, where an attach wants to pace them (docker/attach.py).
"""

# mypy: allow-untyped-calls
# Twisted leaves FileDescriptor and Failure untyped.

from __future__ import annotations

import socket
from errno import EAGAIN
from pathlib import Path
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime, ISystemHandle
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from stellarstack.tasks import sleep

_BUSY_RETRY = 0.05  # seconds, where as many wait at the engine's door as may


async def connect(reactor: Any, clock: IReactorTime, path: Path, protocol: Protocol) -> None:
    """Connects `protocol` to the engine. OSError: nobody listens there. A crowded door is tried again without end."""
    while True:
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            handle.connect(str(path))
        except OSError as error:
            handle.close()
            if error.errno != EAGAIN:
                raise
        else:
            EngineStream(reactor, handle, protocol)
            return
        await sleep(clock, _BUSY_RETRY)


@implementer(ISystemHandle)
class EngineStream(FileDescriptor):
    """One connection; its protocol is told what a Twisted transport tells.

    `bufferSize`: bytes of a read; where there are as many, and it is less than `MORE`, up to so many of what follows
    belong to the same piece. `holds`: about how much the engine can write before it waits for us to read.
    """

    bufferSize = 65536
    MORE = 256 << 10

    def __init__(self, reactor: Any, handle: socket.socket, protocol: Protocol) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self._handle = handle
        self._protocol = protocol
        self._aborting = False
        # It depends on the writer's buffer, of which only the system's default is known, the same as for ours.
        self.holds = handle.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.connected = 1
        protocol.makeConnection(self)
        self.startReading()

    def fileno(self) -> int:
        return self._handle.fileno()

    def getHandle(self) -> socket.socket:
        return self._handle

    def logPrefix(self) -> str:
        return "engine"

    def doRead(self) -> Exception | None:
        if self._aborting:
            return None
        try:
            data = self._handle.recv(self.bufferSize)
            if len(data) == self.bufferSize < self.MORE:
                data += self._what_follows()
        except BlockingIOError:
            return None
        except OSError:
            return ConnectionLost()
        if not data:
            return ConnectionDone()
        self._protocol.dataReceived(data)
        return None

    def _what_follows(self) -> bytes:
        try:
            return self._handle.recv(self.MORE)
        except OSError:  # nothing is there; a reset is told once, so the next read finds an end like any other
            return b""

    def writeSomeData(self, data: bytes) -> int | BaseException:
        if self._aborting:
            return 0
        try:
            return self._handle.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return ConnectionLost()

    def abortConnection(self) -> None:
        """Ends it at once, whatever waits; nothing is read or written any more."""
        if self.connected and not self._aborting:
            self._aborting = True
            self.stopReading()
            self.stopWriting()
            self._reactor.callLater(0, self.connectionLost, Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        """Called once, by the reactor or after an abort."""
        if self.disconnected:
            return
        super().connectionLost(reason)
        self._handle.close()
        self._protocol.connectionLost(reason)
