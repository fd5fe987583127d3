"""The way of a viewer's frames to its socket: in order and whole, whatever the kernel takes at once."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IPullProducer, IPushProducer, ISSLTransport, ISystemHandle, ITCPTransport
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides
from zope.interface.verify import verifyObject

from stellarstack.api.websocket_outlet import BufferedOutlet, StraightOutlet, outlet_of


class Handle(socket.socket):
    """A socket whose kernel takes as many bytes as it is told to."""

    takes = 1 << 30
    taken = b""

    def send(self, data: Any, flags: int = 0) -> int:
        if not self.takes:
            raise BlockingIOError
        size = min(self.takes, len(data))
        self.takes -= size
        self.taken += bytes(data[:size])
        return size


class Large:
    """An OutputFrame."""

    def __init__(self, whole: bytes) -> None:
        self._whole = whole

    def __len__(self) -> int:
        return len(self._whole)

    def __bytes__(self) -> bytes:
        return self._whole

    def send(self, to: socket.socket) -> int:
        return len(self._whole) - to.send(self._whole)


class Tcp:
    """A transport as Twisted's own: it keeps what it is given until `drain`, on the same socket."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.kept = b""
        self.producer: Any = None
        self.streaming = True
        alsoProvides(self, ITCPTransport, ISystemHandle)

    def getHandle(self) -> Handle:
        return self.handle

    def write(self, data: bytes) -> None:
        assert data
        self.kept += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer, self.streaming = producer, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def drain(self, room: int = 1 << 30) -> None:
        """The kernel has room again: what is kept goes out, and an empty transport asks its producer for more."""
        self.handle.takes = room
        if self.kept and room:
            self.kept = self.kept[self.handle.send(self.kept) :]
            if not self.kept and self.producer is not None:
                self.producer.resumeProducing()


class OutletCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.handle = Handle()
        self.addCleanup(self.handle.close)
        self.turns: list[bool] = []

    def straight(self, first: bytes = b"101") -> tuple[Tcp, Any]:
        """One on a transport that still has the answer to the upgrade to send."""
        transport = Tcp(self.handle)
        transport.write(first)
        outlet = outlet_of(transport, self.turns.append)
        self.assertIsInstance(outlet, StraightOutlet)
        verifyObject(IPullProducer, outlet)
        return transport, outlet


class TestStraight(OutletCase):
    """A plain TCP connection."""

    def test_order(self) -> None:
        """What was written before is first; then frames go to the socket at once and the transport has no part."""
        transport, outlet = self.straight()
        outlet.write(b"a")
        self.assertEqual((self.handle.taken, transport.kept, outlet.full), (b"", b"101a", False))
        transport.drain()
        outlet.write(b"b")
        self.assertEqual((self.handle.taken, transport.kept, self.turns), (b"101ab", b"", []))

    def test_full(self) -> None:
        """A frame that the kernel does not take whole makes it full; it is free when all of it has left."""
        transport, outlet = self.straight()
        transport.drain(5)
        outlet.write(b"abcd")
        self.assertEqual((self.handle.taken, transport.kept, self.turns, outlet.full), (b"101ab", b"cd", [True], True))
        outlet.write(b"ef")
        transport.drain(3)
        self.assertEqual(self.turns, [True])
        transport.drain()
        self.assertEqual((self.handle.taken, self.turns, outlet.full), (b"101abcdef", [True, False], False))

    def test_takes_nothing(self) -> None:
        """A kernel that takes nothing, and a socket that is dead, leave the whole frame to the transport."""
        transport, outlet = self.straight()
        transport.drain(3)
        outlet.write(b"abc")
        self.assertEqual((transport.kept, self.turns), (b"abc", [True]))

    def test_bounded_from_the_start(self) -> None:
        """Before the first drain, too, it is full at 64 KiB."""
        transport, outlet = self.straight()
        outlet.write(b"x" * 65536)
        self.assertEqual(self.turns, [True])
        transport.drain()
        self.assertEqual(self.turns, [True, False])

    def test_let_go(self) -> None:
        """A connection that closes waits for no producer, and what follows still goes behind what is kept."""
        transport, outlet = self.straight()
        transport.drain(4)
        outlet.write(b"ab")
        outlet.release()
        outlet.write(b"c")
        self.assertEqual((transport.producer, transport.kept), (None, b"bc"))

    @given(
        st.lists(
            st.one_of(
                st.binary(min_size=1, max_size=9), st.binary(min_size=1, max_size=9).map(Large), st.integers(0, 12)
            ),
            max_size=25,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_any_pattern(self, steps: list[bytes | Large | int]) -> None:
        """Whatever the kernel takes and when, the bytes come in order, each once; full and free take turns."""
        self.handle.taken, self.turns[:] = b"", []
        transport, outlet = self.straight()
        expected = b"101"
        for step in steps:
            if not isinstance(step, int):
                outlet.write(step)
                expected += bytes(step)
            else:
                transport.drain(step)
            self.assertEqual(self.handle.taken + transport.kept, expected)
            self.assertEqual(outlet.full, bool(self.turns) and self.turns[-1])
        transport.drain()
        self.assertEqual((self.handle.taken, outlet.full), (expected, False))
        self.assertEqual(self.turns, [True, False] * (len(self.turns) // 2))


class TestBuffered(OutletCase):
    """TLS and whatever else has no socket of its own to write to."""

    def test_transports(self) -> None:
        """Only a plain TCP connection is written past."""
        tls = Tcp(self.handle)
        alsoProvides(tls, ISSLTransport)
        for transport in (tls, StringTransport()):
            outlet = outlet_of(transport, self.turns.append)
            self.assertIsInstance(outlet, BufferedOutlet)
            verifyObject(IPushProducer, outlet)

    def test_turns(self) -> None:
        """The transport's own marks are passed on."""
        transport = StringTransport()
        outlet = outlet_of(transport, self.turns.append)
        outlet.write(b"a")
        producer: Any = transport.producer
        producer.pauseProducing()
        self.assertTrue(outlet.full)
        producer.resumeProducing()
        producer.stopProducing()
        self.assertEqual((transport.value(), self.turns, outlet.full), (b"a", [True, False], False))
        outlet.release()
        self.assertIsNone(transport.producer)
