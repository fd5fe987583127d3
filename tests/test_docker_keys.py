"""Keys on their way to the engine: at once, in order, bounded."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from stellarstack.docker.keys import UNWRITTEN_MAX, Keys
from stellarstack.docker.stream import connect


class KeyTests(TestCase):
    """A key on its way through a transport of the reactor's own."""

    async def joined(self) -> tuple[socket.socket, Protocol]:
        """The other end, and a protocol on this one."""
        from twisted.internet import reactor

        path = self.mktemp()
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(path)
        listening.listen()
        protocol: Any = Protocol()
        await connect(reactor, reactor, Path(path), protocol)
        other, _ = listening.accept()
        self.addCleanup(other.close)
        other.setblocking(False)
        self.addCleanup(protocol.transport.abortConnection)
        return other, protocol

    async def test_at_once(self) -> None:
        """A key leaves with the call that types it, not a turn of the reactor later."""
        other, protocol = await self.joined()
        keys = Keys(protocol.transport)
        keys.begin()
        keys.write(b"a")
        self.assertEqual(other.recv(9), b"a")

    async def test_order(self) -> None:
        """Where the other end does not read, what waits is bounded; all that was taken comes, in order."""
        from twisted.internet import reactor

        other, protocol = await self.joined()
        keys = Keys(protocol.transport)
        keys.begin()
        pieces, taken = (b"%7d" % number * 1000 for number in range(1000)), []
        for piece in pieces:
            if keys.write(piece):
                break
            taken.append(piece)
        self.assertGreaterEqual(len(taken) * 7000, UNWRITTEN_MAX - 7000)
        expected, found = b"".join(taken), bytearray()
        while len(found) < len(expected):
            await deferLater(reactor, 0)
            with contextlib.suppress(BlockingIOError):
                found += other.recv(1 << 20)
        self.assertEqual(bytes(found), expected)
        await deferLater(reactor, 0)
        self.assertFalse(keys.write(b"again"))
        self.assertEqual(other.recv(9), b"again")

    async def test_gone(self) -> None:
        """A key for an end that is gone is no error here: the transport tells of it."""
        from twisted.internet import reactor

        other, protocol = await self.joined()
        lost: Deferred[None] = Deferred()
        protocol.connectionLost = lambda *_: lost.callback(None)  # type: ignore[method-assign]
        keys = Keys(protocol.transport)
        keys.begin()
        other.close()
        self.assertFalse(keys.write(b"a"))
        keys.finish()
        await lost.addTimeout(10, reactor)
