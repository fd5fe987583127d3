"""What is typed at a terminal, on its way to the engine: straight into the socket while nothing waits before it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IPullProducer, ISystemHandle
from zope.interface import implementer

UNWRITTEN_MAX = 1 << 20


@implementer(IPullProducer)
class Keys:
    """For a PTY that may not read: what the kernel does not take waits in the transport, at most 1 MiB of it.

    A transport writes a turn of the reactor later than it is told to, so a key is sent on the socket that it tells by
    `ISystemHandle`. As its pull producer we hear when all that waited has left.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._waiting = 0  # bytes in the transport
        self._dropped = False
        handle = pipe.getHandle() if ISystemHandle.providedBy(pipe) else None
        self._handle = handle if isinstance(handle, socket.socket) else None

    def begin(self) -> None:
        self._pipe.registerProducer(self, False)

    def finish(self) -> None:
        """Nothing more comes; what waits goes out as far as the PTY takes it."""
        self._pipe.unregisterProducer()

    def write(self, data: bytes) -> bool:
        """Answers whether this is the first write of this attach that had to be dropped."""
        if not self._waiting and self._handle is not None:
            try:
                sent = self._handle.send(data)
            except OSError:  # it takes nothing now, or never again: the transport finds that out
                sent = 0
            if sent == len(data):
                return False
            data = data[sent:]
        if self._waiting + len(data) > UNWRITTEN_MAX:
            first, self._dropped = not self._dropped, True
            return first
        self._waiting += len(data)
        self._pipe.write(data)
        return False

    def resumeProducing(self) -> None:
        """All that waited has left."""
        self._waiting = 0

    def stopProducing(self) -> None:
        """The transport is done."""
        self._waiting = UNWRITTEN_MAX
        self._handle = None
