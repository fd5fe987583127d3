"""The daemon's reactor does what Twisted's does."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReactorTCP, IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stellarstack.reactor import QuietReactor, install

# In a process of its own: which reactor there is.
WHICH = "from twisted.internet import reactor; print(type(reactor).__name__)"


class Ear(FileDescriptor):
    """Reads a pipe."""

    def __init__(self, reactor: Any, descriptor: int, then: Any = None) -> None:
        super().__init__(reactor)
        self.connected = 1
        self.descriptor = descriptor
        self.data = b""
        self.lost: list[str] = []
        self._then = then
        self.startReading()

    def fileno(self) -> int:
        return self.descriptor

    def doRead(self) -> None:
        self.data += os.read(self.descriptor, 4096)
        if self._then is not None:
            self._then()

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        self.lost.append(reason.type.__name__)


class QuietReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = QuietReactor()
        self.addCleanup(self.reactor._poller.close)

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends

    def test_interfaces(self) -> None:
        """It is a reactor."""
        for interface in (IReactorFDSet, IReactorTCP, IReactorTime):
            verifyObject(interface, self.reactor)

    def test_reads(self) -> None:
        """An event is told to its descriptor; without one the turn ends in time."""
        read, write = self.pipe()
        ear = Ear(self.reactor, read)
        os.write(write, b"key")
        self.reactor.doIteration(1)
        self.reactor.doIteration(0.01)
        self.assertEqual(ear.data, b"key")

    def test_an_error(self) -> None:
        """A descriptor that raises loses its connection, is logged, and the others are told all the same."""

        def fail() -> None:
            raise RuntimeError("a bug")

        (first, to_first), (second, to_second) = self.pipe(), self.pipe()
        broken, sound = Ear(self.reactor, first, fail), Ear(self.reactor, second)
        os.write(to_first, b"x")
        os.write(to_second, b"y")
        self.reactor.doIteration(1)
        self.reactor.doIteration(0)
        self.assertEqual((broken.lost, sound.data, sound.lost), (["RuntimeError"], b"y", []))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_an_error_of_the_end(self) -> None:
        """One whose end fails as well stops neither the loop nor the others of its turn."""

        class Worse(Ear):
            def connectionLost(self, reason: Any) -> None:
                super().connectionLost(reason)
                raise ValueError("another bug")

        def fail() -> None:
            raise RuntimeError("a bug")

        pipes = [self.pipe() for _ in range(3)]
        ears = [Worse(self.reactor, pipes[0][0], fail), Ear(self.reactor, pipes[1][0]), Ear(self.reactor, pipes[2][0])]
        for _, write in pipes:
            os.write(write, b"x")
        self.reactor.doIteration(1)
        self.assertEqual([ear.data for ear in ears], [b"x"] * 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError, ValueError)), 2)

    def test_an_end(self) -> None:
        """One that read the end of its stream loses its connection; it is not asked again."""

        class Ended(Ear):
            def doRead(self) -> Any:
                return ConnectionDone()

        read, write = self.pipe()
        ear = Ended(self.reactor, read)
        os.write(write, b"x")
        self.reactor.doIteration(1)
        self.reactor.doIteration(0)
        self.assertEqual(ear.lost, ["ConnectionDone"])
        self.assertNotIn(ear, self.reactor.getReaders())

    def test_turns(self) -> None:
        """The loop goes on over a turn that fails, and ends when it is told to."""

        class Turning(QuietReactor):
            turns = 0

            def doPoll(self, timeout: float | None) -> None:
                self.turns += 1
                if self.turns == 2:
                    raise RuntimeError("a bug")
                if self.turns == 3:
                    raise SystemExit("another")
                self._started = self.turns < 5

        reactor = Turning()
        self.addCleanup(reactor._poller.close)
        reactor._started = True
        reactor.mainLoop()
        self.assertEqual(reactor.turns, 5)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError, SystemExit)), 2)

    def test_closed_in_the_same_turn(self) -> None:
        """A descriptor that another's event takes away is not told of its own any more."""
        (first, to_first), (second, to_second) = self.pipe(), self.pipe()
        ears: list[Ear] = []

        def take_away() -> None:
            for ear in ears:
                ear.stopReading()

        ears += [Ear(self.reactor, first, take_away), Ear(self.reactor, second, take_away)]
        os.write(to_first, b"x")
        os.write(to_second, b"x")
        self.reactor.doIteration(1)
        self.assertEqual(sorted(ear.data for ear in ears), [b"", b"x"])


class InstallTests(SynchronousTestCase):
    def test_here(self) -> None:
        """Where there is a reactor already it stays."""
        from twisted.internet import reactor

        install()
        self.assertNotIsInstance(reactor, QuietReactor)

    def test_elsewhere(self) -> None:
        """A process without one gets ours; one that chose another keeps it."""
        ours = "from stellarstack.reactor import install; install(); "
        chosen = "from twisted.internet import selectreactor; selectreactor.install(); "
        found = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
            for code in (ours + WHICH, chosen + ours + WHICH)
        ]
        self.assertEqual(found, ["QuietReactor", "SelectReactor"])
