"""The attach: head, pacing, bounds, ends."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stellarstack.docker.attach import (
    CLOSE_GRACE,
    FILLED,
    GROW,
    OVER,
    PACE,
    PACE_MOST,
    PACED_FROM,
    READ_MAX,
    READ_USUAL,
    AttachProtocol,
    Joined,
    detach_keys,
)
from stellarstack.docker.keys import UNWRITTEN_MAX
from stellarstack.errors import ContainerGone, DockerUnavailable, TimedOut
from tests.dockerd_case import TTY, DockerdCase
from tests.engine_ears import Recorder, deferred
from tests.fake_dockerd import Connection

SOCKET = 229_376  # bytes that an engine's socket takes which holds 212 992, in pieces of 32 KiB
MANY = 60  # pieces after which a rest is as long, or as short, as it gets
AGREED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


@dataclass
class Flooded:
    """How a flood was read. `waiting`: bytes that the engine could not write yet."""

    waiting: float = 0.0
    most_waiting: float = 0.0
    pieces: list[int] = field(default_factory=list)
    rests: list[float] = field(default_factory=list)


class Pipe(StringTransport):
    """A transport in memory that tells whether it reads, and that can be full."""

    reading = True
    aborted = False
    bufferSize = 65536
    holds = 212_992

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def abortConnection(self) -> None:
        self.aborted = True


@implementer(IReadDescriptor)
class FloodedPipe(Pipe):
    """A transport of the reactor's own that has these pieces waiting. `asked`: how often it was told to read now."""

    def __init__(self, attach: AttachProtocol, pieces: list[bytes]) -> None:
        super().__init__()
        self._attach = attach
        self._pieces = pieces
        self.asked = 0

    def doRead(self) -> None:
        self.asked += 1
        if self._pieces:
            self._attach.dataReceived(self._pieces.pop())

    def connectionLost(self, reason: Failure) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def logPrefix(self) -> str:
        return "-"


class Failing(Recorder):
    """Hears one piece; the second meets a bug."""

    def output_received(self, data: bytes) -> None:
        if self.data:
            raise RuntimeError("a bug")
        super().output_received(data)


class AttachCase(SynchronousTestCase):
    """An attach on a transport in memory, with the engine's agreement already in."""

    tty = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.sink = Recorder()
        joined = Joined(container="c", tty=self.tty, request=b"POST\r\n\r\n", sink=self.sink)
        self.attach = AttachProtocol(clock=self.clock, joined=joined)
        self.pipe = Pipe()
        self.attach.makeConnection(self.pipe)

    def agree(self, first: bytes = b"") -> None:
        self.attach.dataReceived(AGREED + first)
        self.successResultOf(self.attach.agreed)
        self.pipe.clear()

    def lose(self) -> None:
        self.attach.connectionLost(Failure(ConnectionLost("gone")))


class HeadTests(AttachCase):
    """What comes before the terminal."""

    def test_request_first(self) -> None:
        """The request goes out at once, and nothing before it."""
        self.assertEqual(self.pipe.value(), b"POST\r\n\r\n")

    def test_any_cut(self) -> None:
        """Byte by byte the head is understood, and what follows it is output."""
        for byte in AGREED + b"ab":
            self.attach.dataReceived(bytes([byte]))
        self.successResultOf(self.attach.agreed)
        self.assertEqual(self.sink.data, b"ab")

    def test_refused(self) -> None:
        """A refusal fails the attach, drops the connection, and the sink never hears of it."""
        self.attach.dataReceived(b'HTTP/1.1 404 X\r\nContent-Length: 23\r\n\r\n{"message":"no such one"}')
        self.failureResultOf(self.attach.agreed, ContainerGone)
        self.attach.dataReceived(b"more")
        self.lose()
        self.assertEqual((self.pipe.aborted, self.sink.data, self.sink.ends), (True, b"", 0))

    def test_nonsense(self) -> None:
        """What is no HTTP fails the attach."""
        self.attach.dataReceived(b"\0" * 20_000)
        self.failureResultOf(self.attach.agreed, DockerUnavailable)
        self.assertTrue(self.pipe.aborted)

    def test_lost(self) -> None:
        """A connection that breaks before the answer fails the attach and ends nothing."""
        self.lose()
        self.failureResultOf(self.attach.agreed, DockerUnavailable)
        self.assertEqual(self.sink.ends, 0)


class PacingTests(AttachCase):
    """Reading rests after large pieces (DESIGN, fact 20)."""

    def setUp(self) -> None:
        super().setUp()
        self.agree()

    def test_large_pieces_rest(self) -> None:
        """After a large piece the transport rests for a millisecond; the piece itself is handed on at once."""
        self.attach.dataReceived(b"x" * PACED_FROM)
        self.assertEqual((self.pipe.reading, len(self.sink.data)), (False, PACED_FROM))
        self.clock.advance(PACE)
        self.assertTrue(self.pipe.reading)
        self.attach.dataReceived(b"x" * PACED_FROM)
        self.assertFalse(self.pipe.reading)

    def test_next_piece(self) -> None:
        """After a rest the next piece is read at once; only where none is there the reactor is asked to wait for it."""
        pipe = FloodedPipe(self.attach, [b"x" * PACED_FROM] * 3)
        self.attach.makeConnection(pipe)
        self.attach.dataReceived(b"x" * PACED_FROM)
        for number in range(2, 5):
            self.clock.advance(PACE_MOST)
            self.assertEqual((pipe.reading, len(self.sink.data)), (False, number * PACED_FROM))
        self.clock.advance(PACE_MOST)
        self.assertEqual((pipe.reading, pipe.asked), (True, 4))

    def test_who_hears_it_fails(self) -> None:
        """A bug of whoever hears a piece that was read after a rest ends the attach, as in a turn of the reactor."""
        attach = AttachProtocol(clock=self.clock, joined=Joined("c", tty=True, request=b"", sink=Failing()))
        pipe = FloodedPipe(attach, [b"x" * PACED_FROM])
        attach.makeConnection(pipe)
        attach.dataReceived(AGREED)
        attach.dataReceived(b"x" * PACED_FROM)
        self.assertRaises(RuntimeError, self.clock.advance, PACE)
        self.assertTrue(pipe.aborted)

    def test_large_reads_in_a_flood_only(self) -> None:
        """Memory for large pieces is taken while a flood goes on."""
        sizes = [self.pipe.bufferSize]
        self.attach.dataReceived(b"x" * PACED_FROM)
        sizes.append(self.pipe.bufferSize)
        self.clock.advance(PACE)
        self.assertEqual([*sizes, self.pipe.bufferSize], [READ_USUAL, READ_MAX, READ_USUAL])

    def test_small_pieces_do_not(self) -> None:
        """An echo never waits."""
        self.attach.dataReceived(b"x" * (PACED_FROM - 1))
        self.assertEqual((self.pipe.reading, self.clock.getDelayedCalls()), (True, []))

    def read(self, size: int) -> float:
        """A piece comes; how long the transport rests after it."""
        self.attach.dataReceived(b"x" * size)
        (rest,) = self.clock.getDelayedCalls()
        seconds = rest.getTime() - self.clock.seconds()
        self.clock.advance(seconds)
        return seconds

    def test_rests_grow_with_a_flood(self) -> None:
        """While a flood's pieces are small its rests grow, up to a bound; full ones make them shorter again."""
        rests = [self.read(PACED_FROM) for _ in range(MANY)]
        self.assertEqual([round(rest / PACE, 4) for rest in rests[:3]], [1, round(GROW, 4), round(GROW**2, 4)])
        self.assertAlmostEqual(rests[-1], PACE_MOST)
        shorter = self.read(self.pipe.holds)
        self.assertLess(shorter, PACE_MOST)
        enough = round(FILLED * self.pipe.holds)
        self.assertAlmostEqual(self.read(enough), shorter, 5)
        self.assertGreater(self.read(enough // 2), shorter)
        for _ in range(MANY):
            last = self.read(self.pipe.holds)
        self.assertAlmostEqual(last, PACE)

    def flood(self, rate: float, seconds: float, jitter: float = 0.0) -> Flooded:
        """A game writes `rate` bytes a second, more or less by that share, for a while."""
        chance, found, until = random.Random(1), Flooded(), self.clock.seconds() + seconds
        rest = PACE
        while self.clock.seconds() < until:
            found.waiting += rest * rate * chance.uniform(1 - jitter, 1 + jitter)
            size = min(int(found.waiting), SOCKET)
            found.waiting -= size
            found.most_waiting = max(found.most_waiting, found.waiting)
            rest = self.read(size)
            self.sink.data = b""
            found.pieces.append(size)
            found.rests.append(rest)
        return found

    def test_pieces_of_a_flood(self) -> None:
        """A flood of any speed comes in pieces that nearly fill the engine's socket; hardly anything waits longer."""
        for rate in (30e6, 40e6, 100e6):
            for jitter in (0.0, 0.1, 0.3, 0.6):
                found = self.flood(rate, 1, jitter)
                steady = found.pieces[len(found.pieces) // 2 :]
                self.assertGreater(sum(steady) / len(steady), 0.85 * self.pipe.holds, (rate, jitter))
                self.assertLess(found.most_waiting, 4 * SOCKET, (rate, jitter))

    def test_slow_then_fast(self) -> None:
        """A game that is suddenly thirty times as loud is not held back for long."""
        slow = self.flood(3e6, 0.5)
        self.assertAlmostEqual(slow.rests[-1], PACE_MOST)
        found = self.flood(100e6, 0.2)
        self.assertLess(found.most_waiting, 4e6)
        self.assertLess(found.waiting, SOCKET)

    def test_another_socket(self) -> None:
        """Where the engine's socket holds less or more than usual, a piece that fills it counts as full."""
        for holds in (16_384, 1 << 22):
            pipe = Pipe()
            pipe.holds = holds
            self.attach.makeConnection(pipe)
            for _ in range(MANY):
                self.read(PACED_FROM)
            for _ in range(MANY):
                last = self.read(min(holds, READ_MAX))
            self.assertAlmostEqual(last, PACE)

    def test_a_screen(self) -> None:
        """A program that draws its screen sixty times a second is no flood: a key's echo among it waits no longer."""
        for _ in range(20):
            self.assertAlmostEqual(self.read(2 * PACED_FROM), PACE)
            self.clock.advance(1 / 60 - PACE)

    def test_a_flood_with_pauses(self) -> None:
        """A flood that pauses for some milliseconds goes on where its rests were."""
        for _ in range(MANY):
            self.read(PACED_FROM)
        self.clock.advance(OVER / 2)
        self.assertAlmostEqual(self.read(PACED_FROM), PACE_MOST)

    def test_no_flood(self) -> None:
        """Large pieces now and then, such as a screen that is drawn anew, rest no longer than the first."""
        for _ in range(5):
            self.assertAlmostEqual(self.read(PACED_FROM), PACE)
            self.clock.advance(0.1)

    def test_end_while_resting(self) -> None:
        """An end within the rest leaves no timer."""
        self.attach.dataReceived(b"x" * PACED_FROM)
        self.lose()
        self.assertEqual((self.sink.ends, self.clock.getDelayedCalls()), (1, []))


class WriteTests(AttachCase):
    """Keystrokes."""

    def setUp(self) -> None:
        super().setUp()
        self.agree()
        self.logged: list[LogEvent] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def drain(self) -> None:
        producer: Any = self.pipe.producer
        producer.resumeProducing()

    def warnings(self) -> list[LogEvent]:
        return [event for event in self.logged if "does not read" in str(event.get("log_format"))]

    def test_written(self) -> None:
        """Keystrokes go out as they are; none is no write."""
        self.attach.write(b"a\r")
        self.attach.write(b"")
        self.assertEqual(self.pipe.value(), b"a\r")

    def test_bound(self) -> None:
        """A container that does not read costs at most 1 MiB: beyond it keys are dropped, and that is logged once."""
        self.attach.write(b"a" * (UNWRITTEN_MAX - 1))
        self.attach.write(b"bb")
        self.attach.write(b"c")
        self.attach.write(b"d")
        self.assertEqual(len(self.warnings()), 1)
        self.assertEqual(self.pipe.value(), b"a" * (UNWRITTEN_MAX - 1) + b"c")
        self.drain()
        self.attach.write(b"e")
        self.assertEqual(self.pipe.value()[-1:], b"e")

    def test_after_the_end(self) -> None:
        """After the end keystrokes go nowhere, and a close is content."""
        self.lose()
        self.attach.write(b"a")
        self.attach.close()
        self.assertEqual((self.pipe.value(), self.sink.ends, self.clock.getDelayedCalls()), (b"", 1, []))

    def test_stopped_producer(self) -> None:
        """A transport that is done takes no more, and nothing is kept for it."""
        producer: Any = self.pipe.producer
        producer.stopProducing()
        self.attach.write(b"a")
        self.assertEqual(self.pipe.value(), b"")


class CloseTests(AttachCase):
    """Letting go."""

    def setUp(self) -> None:
        super().setUp()
        self.agree()

    def test_close(self) -> None:
        """Close lets out what waits, hears no more, and ends once; a second close is nothing."""
        self.attach.write(b"bye\r")
        self.attach.close()
        self.attach.close()
        self.attach.write(b"late")
        self.attach.dataReceived(b"unheard" * PACED_FROM)
        self.assertEqual((self.pipe.value(), self.pipe.disconnecting, self.sink.data), (b"bye\r", True, b""))
        self.lose()
        self.assertEqual((self.sink.ends, self.pipe.aborted, self.clock.getDelayedCalls()), (1, False, []))

    def test_close_of_a_stuck_one(self) -> None:
        """Where the PTY takes nothing, the connection is dropped after a second."""
        self.attach.close()
        self.clock.advance(CLOSE_GRACE)
        self.assertTrue(self.pipe.aborted)


class FramedTests(AttachCase):
    """A container without a terminal."""

    tty = False

    def test_frames_are_taken_off(self) -> None:
        """Its output comes without the frames."""
        self.agree(b"\x01\0\0\0\0\0\0\x02o")
        self.attach.dataReceived(b"k\x02\0\0\0\0\0\0\x01!")
        self.assertEqual(self.sink.data, b"ok!")


class AttachOverSocketTests(DockerdCase):
    """The attach over a UNIX socket."""

    def setUp(self) -> None:
        super().setUp()
        self.dockerd.replies("GET", "/containers/c/json", 200, TTY)

    async def test_request(self) -> None:
        """The attach asks for all streams, with detach keys that nobody can type, and drops as dockerd does."""
        self.dockerd.script("POST", "/containers/c/attach", lambda c, _: c.upgrade(b"first"))
        asked = self.dockerd.request("/containers/c/attach")
        sink = Recorder()
        work = deferred(self.engine.attach("c", sink))
        connection = await asked
        attachment = await work
        await sink.has(b"first")
        line = self.dockerd.asked[-1].line
        self.assertRegex(line, "detachKeys=%FF(%2C[A-Za-z]){24}")
        self.assertIn("/v1.41/containers/c/attach?stream=1&stdin=1&stdout=1&stderr=1", line)
        self.assertNotEqual(detach_keys(), detach_keys())
        attachment.write(b"x\x10\x11")
        attachment.close()
        await connection.closed
        self.assertEqual(connection.received, b"x\x10\x11")
        await sink.ended

    async def test_dockerd_dies(self) -> None:
        """K01: when dockerd drops the attach, the sink hears of the end once."""
        self.dockerd.script("POST", "/containers/c/attach", lambda c, _: c.upgrade())
        asked = self.dockerd.request("/containers/c/attach")
        sink = Recorder()
        work = deferred(self.engine.attach("c", sink))
        connection = await asked
        await work
        connection.drop()
        await sink.ended
        self.assertEqual(sink.ends, 1)

    async def test_silence(self) -> None:
        """K02: an attach that is not answered ends by its timeout, with its connection; cancelling does the same."""
        for cancel in (True, False):
            asked: Deferred[Connection] = self.dockerd.request("/containers/c/attach")
            sink = Recorder()
            work = deferred(self.engine.attach("c", sink))
            connection = await asked
            if cancel:
                work.cancel()
                work.addErrback(lambda _: None)
                await work
            else:
                self.clock.advance(31)
                await self.refused(TimedOut, work)
            await connection.closed
            self.assertEqual(sink.ends, 0)

    async def test_socket_gone(self) -> None:
        """A socket that goes between the two requests of an attach is DockerUnavailable."""
        socket = self.dockerd.socket
        elsewhere = socket.with_suffix(".gone")

        def vanish(connection: Connection, _: object) -> None:
            connection.reply(200, TTY)
            socket.rename(elsewhere)

        self.dockerd.script("GET", "/containers/c/json", vanish)
        await self.refused(DockerUnavailable, self.engine.attach("c", Recorder()))
        elsewhere.rename(socket)
