"""The terminal's size as its viewers ask for it: paced, merged, and never stranded."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.console.sizes import Sizes
from stellarstack.core.records import PtySize
from stellarstack.errors import DockerUnavailable
from stellarstack.tasks import Tasks
from tests.test_websocket import DoorCase
from tests.ws_client import settle


class SizesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.tasks = Clock(), Tasks()
        self.taken: list[tuple[float, int]] = []
        self.fault: Exception | None = None
        self.slow: Deferred[None] | None = None
        self.sizes = Sizes(server_id="srv_1", take=self.take, clock=self.clock, tasks=self.tasks)

    async def take(self, size: PtySize) -> None:
        self.taken.append((self.clock.seconds(), size.cols))
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        if self.slow is not None:
            await self.slow

    def want(self, *columns: int) -> None:
        for cols in columns:
            self.sizes.want(PtySize(cols, 24))

    def test_one_at_a_time(self) -> None:
        """The first at once, then one each 0.1 s; of those that come meanwhile the last counts."""
        self.want(1, 2, 3, 4)
        settle(self.clock, 0.05)
        self.want(5)
        self.assertEqual(self.taken, [(0.0, 1)])
        settle(self.clock, 0.05)
        self.assertEqual(self.taken, [(0.0, 1), (0.1, 5)])
        for _ in range(3):
            settle(self.clock, 0.1)
        self.assertEqual((len(self.taken), self.tasks.names()), (2, []))
        self.want(6)
        self.assertEqual(self.taken[-1][1], 6)

    def test_one_that_takes_long(self) -> None:
        """The next waits for it."""
        self.slow = Deferred()
        self.want(1, 2, 3)
        settle(self.clock, 5)
        self.assertEqual(len(self.taken), 1)
        slow, self.slow = self.slow, None
        slow.callback(None)
        settle(self.clock, 0.1)
        self.assertEqual([cols for _, cols in self.taken], [1, 3])

    def test_one_that_fails(self) -> None:
        """It is logged, and the newer one is not stranded by it."""
        for fault in (DockerUnavailable("away"), RuntimeError("a bug")):
            self.taken.clear()
            self.fault = fault
            self.want(1, 2)
            settle(self.clock, 0.1)
            self.assertEqual([cols for _, cols in self.taken], [1, 2])
            settle(self.clock, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_cancelled(self) -> None:
        """At the stop nothing goes on."""
        self.want(1, 2)
        done = Deferred.fromCoroutine(self.tasks.cancel_all())
        settle(self.clock, 1)
        self.successResultOf(done)
        self.assertEqual(([cols for _, cols in self.taken], self.clock.getDelayedCalls()), ([1], []))


class FloodTests(DoorCase):
    """W13: who pulls at the window all the time costs no more than ten sizes a second."""

    def test_a_hundred_a_second(self) -> None:
        viewer = self.join()
        viewer.messages()
        asked: list[PtySize] = []
        resize = self.engine.resize

        async def counted(container: str, size: PtySize) -> None:
            asked.append(size)
            await resize(container, size)

        self.patch(self.engine, "resize", counted)
        for cols in range(1, 91):
            viewer.send_json(type="resize", cols=cols, rows=40)
            settle(self.clock, 0.01)
        settle(self.clock, 0.1)
        settle(self.clock, 0.1)
        self.assertEqual(asked[-1], PtySize(90, 40))
        self.assertLessEqual(len(asked), 11)
        self.assertEqual(viewer.messages(), [])
