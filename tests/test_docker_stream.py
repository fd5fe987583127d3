"""The connection to the engine's socket: every byte both ways, its ends, and a door where many wait."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from stellarstack.docker.stream import connect


class Ear(Protocol):
    """Hears a connection."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[type[BaseException]] = Deferred()
        self.heard: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if not self.heard.called:
            self.heard.callback(None)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  as Twisted's
        assert reason.type is not None
        self.ended.callback(reason.type)


class StreamTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listening.close)
        self.listening.bind(str(self.path))
        self.listening.listen(0)

    async def joined(self) -> tuple[Ear, socket.socket]:
        from twisted.internet import reactor

        ear = Ear()
        await connect(reactor, reactor, self.path, ear)
        other, _ = self.listening.accept()
        self.addCleanup(other.close)
        other.setblocking(False)
        return ear, other

    async def turn(self) -> None:
        from twisted.internet import reactor

        await deferLater(reactor, 0.001)

    async def test_one_piece(self) -> None:
        """What is there at once is one piece, also where it is more than a usual read; its end is not lost by that."""
        ear, other = await self.joined()
        pieces: list[int] = []
        ear.dataReceived = lambda data: pieces.append(len(data))  # type: ignore[method-assign]
        for size, end in ((ear.transport.bufferSize, False), (ear.transport.bufferSize * 2 + 7, True)):
            other.sendall(b"x" * size)
            if end:
                other.close()
            while sum(pieces) < size:
                await self.turn()
            self.assertEqual(pieces, [size])
            pieces.clear()
        self.assertIs(await ear.ended, ConnectionDone)

    async def test_both_ways(self) -> None:
        """What is said at one end comes at the other, whole, also where the kernel takes it in pieces."""
        ear, other = await self.joined()
        other.send(b"hello")
        await ear.heard
        self.assertEqual(ear.data, b"hello")
        whole = bytes(range(256)) * 8192
        ear.transport.write(whole)
        ear.transport.loseConnection()
        taken = b""
        while not ear.ended.called or len(taken) < len(whole):
            await self.turn()
            try:
                taken += other.recv(1 << 20)
            except BlockingIOError:
                continue
        self.assertEqual(taken, whole)
        self.assertEqual(await ear.ended, ConnectionDone)

    async def test_the_other_end_closes(self) -> None:
        """What was said before the end is heard, then the end, once."""
        ear, other = await self.joined()
        other.send(b"bye")
        other.close()
        self.assertEqual(await ear.ended, ConnectionDone)
        self.assertEqual(ear.data, b"bye")

    async def test_broken(self) -> None:
        """Writing to an end that is gone is a lost connection."""
        ear, other = await self.joined()
        ear.transport.pauseProducing()
        other.close()
        ear.transport.write(b"x")
        self.assertIn(await ear.ended, (ConnectionLost, ConnectionDone))

    async def test_abort(self) -> None:
        """An abort ends it at once, whatever waits, and once; nothing that comes meanwhile is heard."""
        ear, other = await self.joined()
        ear.transport.write(b"x" * (4 << 20))
        other.send(b"late")
        ear.transport.abortConnection()
        ear.transport.abortConnection()
        ear.transport.doRead()
        ear.transport.doWrite()
        self.assertEqual(await ear.ended, ConnectionAborted)
        self.assertEqual(ear.data, b"")
        ear.transport.abortConnection()
        await self.turn()
        self.assertEqual(ear.transport.fileno(), -1)

    async def test_pause(self) -> None:
        """Nothing is read while it is paused, and nothing is lost by it."""
        ear, other = await self.joined()
        ear.transport.pauseProducing()
        other.send(b"later")
        await self.turn()
        self.assertEqual(ear.data, b"")
        ear.transport.resumeProducing()
        await ear.heard
        self.assertEqual(ear.data, b"later")
        ear.transport.abortConnection()

    async def test_nobody_listens(self) -> None:
        """A socket without a listener, or none at all, is an OSError."""
        from twisted.internet import reactor

        self.listening.close()
        for path in (self.path, self.path.with_suffix(".none")):
            with self.assertRaises(OSError):
                await connect(reactor, reactor, path, Ear())

    async def test_a_crowded_door(self) -> None:
        """Where as many wait as may, it tries again until there is room; who gives up leaves nothing behind."""
        from twisted.internet import reactor

        clock = Clock()
        crowd = []
        while True:
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            self.addCleanup(one.close)
            try:
                one.connect(str(self.path))
            except BlockingIOError:
                break
            crowd.append(one)
        ear, late = Ear(), Ear()
        work = Deferred.fromCoroutine(connect(reactor, clock, self.path, ear))
        given_up = Deferred.fromCoroutine(connect(reactor, clock, self.path, late))
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        clock.advance(0.05)
        self.assertNoResult(work)
        for _ in crowd:
            self.listening.accept()[0].close()
        clock.advance(0.05)
        await work
        self.assertEqual((late.transport, clock.getDelayedCalls()), (None, []))
        ear.transport.abortConnection()
        await ear.ended
