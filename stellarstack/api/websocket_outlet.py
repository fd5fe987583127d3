"""Where a viewer's frames go: straight into its socket while nothing waits before them, else through its transport.

A transport copies what it is given and writes it a turn of the reactor later; for a frame that goes to a hundred
viewers that is most of the work (DESIGN, fact 20). So, where the transport is a plain TCP connection, a frame is sent
on the socket that it tells by `ISystemHandle`, and only what the kernel does not take goes to the transport. As its
pull producer we hear when all of that has left; until then everything goes through it, so that order is kept. Under
TLS there is no such way, and the transport's own marks say when it is full.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer, ISSLTransport, ISystemHandle, ITCPTransport
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from stellarstack.viewing import Frame

_HIGH_WATER = 65536  # bytes in the transport at which it counts as full, as Twisted's own

Turned = Callable[[bool], None]


@implementer(IPushProducer)
class BufferedOutlet:
    """Through the transport. `turned` is told when it is full (true) and when all has left again (false)."""

    def __init__(self, transport: Any, turned: Turned) -> None:
        self._transport = transport
        self._turned = turned
        self.full = False
        transport.registerProducer(self, True)

    def write(self, frame: Frame) -> None:
        """A whole frame; never refused."""
        self._transport.write(bytes(frame))

    def release(self) -> None:
        """Before the connection is let go: a transport with a producer would wait for its end."""
        self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.full = True
        self._turned(True)

    def resumeProducing(self) -> None:
        self.full = False
        self._turned(False)

    def stopProducing(self) -> None:
        pass


@implementer(IPullProducer)
class StraightOutlet:
    """Straight to the socket; see the module. Full as soon as the kernel does not take a whole frame."""

    __slots__ = ("_began", "_handle", "_held", "_transport", "_turned", "full")

    def __init__(self, transport: Any, handle: socket.socket, turned: Turned) -> None:
        self._transport = transport
        self._handle = handle
        self._turned = turned
        self._held = 1  # bytes in the transport; what was written before us may still be there
        self.full = False
        self._began = False
        transport.registerProducer(self, False)
        self._began = True

    def write(self, frame: Frame) -> None:
        """A whole frame; never refused."""
        if self._held:
            self._hold(bytes(frame))
            if self._held > _HIGH_WATER and not self.full:
                self._fill()
            return
        try:
            left = len(frame) - self._handle.send(frame) if isinstance(frame, bytes) else frame.send(self._handle)
        except OSError:  # it takes nothing now, or never again: the transport finds that out by itself
            left = len(frame)
        if left:
            self._hold(bytes(frame)[-left:])
            self._fill()

    def _hold(self, rest: bytes) -> None:
        self._held += len(rest)
        self._transport.write(rest)

    def _fill(self) -> None:
        self.full = True
        self._turned(True)

    def release(self) -> None:
        """Before the connection is let go: a transport with a producer would wait for its end."""
        self._held = 1
        self._transport.unregisterProducer()

    def resumeProducing(self) -> None:
        if not self._began:  # said at the registration, whatever the transport holds
            return
        self._held = 0
        if self.full:
            self.full = False
            self._turned(False)

    def stopProducing(self) -> None:
        self._held = 1


def outlet_of(transport: Any, turned: Turned) -> StraightOutlet | BufferedOutlet:
    """The best way there is over this transport."""
    plain = ITCPTransport.providedBy(transport) and ISystemHandle.providedBy(transport)
    if plain and not ISSLTransport.providedBy(transport) and not isinstance(transport, ProtocolWrapper):
        handle = transport.getHandle()
        if isinstance(handle, socket.socket):
            return StraightOutlet(transport, handle, turned)
    return BufferedOutlet(transport, turned)
