"""Walks over whole trees: few at a time, bounded, broken off at the stop, and in nobody's way."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from stellarstack.errors import InvalidState, StellarError, TimedOut
from stellarstack.servers import threads as threads_module
from stellarstack.servers.threads import FewThreads, ReactorThreads
from stellarstack.servers.trees import WALKS, Trees
from stellarstack.tasks import within
from tests.fakes import at_once
from tests.household import done

reactor: Any = _reactor
ME = (os.getuid(), os.getgid())


def endless_chown(case: SynchronousTestCase) -> Path:
    """Puts a `chown` first in the path that never ends; answers a folder to hand over."""
    place = Path(case.mktemp()).absolute()
    place.mkdir()
    os.mkfifo(place / "pipe")
    program = place / "chown"
    program.write_text(f"#!/bin/sh\nexec cat {place}/pipe\n")
    program.chmod(0o755)
    case.patch(os, "environ", {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"})
    return place


class WalkTests(SynchronousTestCase):
    def test_too_long(self) -> None:
        """A walk that does not end in its time is one clear error, and its child is gone."""
        place = endless_chown(self)
        trees = Trees(threads=at_once, clock=Clock(), most=0.05)
        error = self.assertRaises(TimedOut, done, trees.hand_over(place, *ME))
        self.assertIn("chown", str(error))

    def test_ended(self) -> None:
        """After the end none begins."""
        trees = Trees(threads=at_once, clock=Clock())
        trees.end()
        self.assertRaises(InvalidState, done, trees.remove(Path(self.mktemp())))


class EndTests(TestCase):
    async def test_end_breaks_off(self) -> None:
        """K30: a walk under way at the stop is ended: its child is killed, nobody waits half an hour."""
        place = endless_chown(self)
        few = FewThreads(reactor, WALKS, "trees of a test")
        self.addCleanup(few.stop)
        trees = Trees(threads=few, clock=reactor)
        walk = Deferred.fromCoroutine(trees.hand_over(place, *ME))
        while not trees.walking:
            await within(reactor, 5, "a moment", _turn())
        trees.end()
        error: Any = await within(reactor, 10, "the walk", self.assertFailure(walk, StellarError))
        self.assertIn("-9", str(error))


class FewThreadsTests(TestCase):
    async def test_others_do_not_wait(self) -> None:
        """A hundred walks that hang take few threads, and none of those that scrollback and heartbeats use."""
        few, free = FewThreads(reactor, WALKS, "trees of a test"), Event()
        self.addCleanup(few.stop)
        self.addCleanup(free.set)
        begun: list[int] = []

        def walk(number: int) -> int:
            begun.append(number)
            free.wait(30)
            return number

        walks = [few(walk, number) for number in range(100)]
        answer = await within(reactor, 10, "work of others", ReactorThreads(reactor)(lambda: "here"))
        self.assertEqual(answer, "here")
        self.assertLessEqual(len(begun), WALKS)
        free.set()
        self.assertEqual(await gatherResults(walks), list(range(100)))

    async def test_queue_is_bounded(self) -> None:
        """Beyond so many that wait, and after the stop, the rest are refused."""
        self.patch(threads_module, "QUEUE_MOST", 2)
        few, free = FewThreads(reactor, 1, "trees of a test"), Event()
        self.addCleanup(free.set)
        walks = [few(free.wait, 30) for _ in range(2)]
        await self.assertFailure(few(free.wait, 30), InvalidState)
        free.set()
        await gatherResults(walks)
        await few(lambda: None)
        few.stop()
        await self.assertFailure(few(lambda: None), InvalidState)


def _turn() -> Deferred[None]:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    return turn
