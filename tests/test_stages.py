"""The daemon's ordered start and stop."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import ConfigError, StellarError
from stellarstack.stages import Stage, StagedService


class StagesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.story: list[str] = []
        self.failures: list[StellarError] = []
        self.gates: dict[str, Deferred[None]] = {}
        self.left: list[tuple[str, float]] = []
        self.service = StagedService(self.clock, lambda: self.story.append("up"), self.failures.append, 8.0)

    def stage(
        self, name: str, begin: Exception | None = None, end: Exception | None = None, slow: bool = False,
        patience: float = 2.0,
    ) -> None:  # fmt: skip
        async def begins() -> None:
            self.story.append(f"{name} begins")
            if begin is not None:
                raise begin
            if slow:
                self.gates[name] = Deferred()
                await self.gates[name]

        async def ends() -> None:
            self.story.append(f"{name} ends")
            if end is not None:
                raise end
            if slow:
                try:
                    await Deferred()
                finally:
                    self.left.append((name, self.clock.seconds()))

        Stage(name, begins, ends, patience).setServiceParent(self.service)

    def test_order(self) -> None:
        """Stages begin in order, each after the one before has begun, and end the other way round."""
        self.stage("a", slow=True)
        self.stage("b")
        self.service.startService()
        self.assertEqual(self.story, ["a begins"])
        self.gates["a"].callback(None)
        self.assertEqual(self.story, ["a begins", "b begins", "up"])
        stopped = self.service.stopService()
        self.clock.advance(3)
        self.successResultOf(stopped)
        self.assertEqual(self.story[3:], ["b ends", "a ends"])

    def test_slow_end(self) -> None:
        """A stage that does not end in its time is left behind, and the ones below end all the same."""
        self.stage("a")
        self.stage("b", slow=True)
        self.service.startService()
        self.gates["b"].callback(None)
        stopped = self.service.stopService()
        self.assertNotIn("a ends", self.story)
        self.clock.advance(2.1)
        self.successResultOf(stopped)
        self.assertIn("a ends", self.story)

    def stopped_all_slow(self, *patiences: float) -> list[tuple[str, float]]:
        """Stages of which none ends by itself; answers when each was left behind, as the stop goes."""
        for number, patience in enumerate(patiences):
            self.stage(f"{number}", slow=True, patience=patience)
        self.service.startService()
        for number in range(len(patiences)):
            self.gates[f"{number}"].callback(None)
        stopped = self.service.stopService()
        while not stopped.called:
            self.clock.pump([0.0625] * 4)
            self.assertLess(self.clock.seconds(), 100)
        self.assertEqual(self.flushLoggedErrors(), [])
        return self.left

    def test_k30_one_deadline(self) -> None:
        """K30: the stop as a whole keeps its deadline, whatever the stages would like, and each gets a moment."""
        left = self.stopped_all_slow(3, 6, 2, 3, 8, 4, 2, 2)
        times = [when for _, when in left]
        self.assertEqual([name for name, _ in left], list("76543210"))
        self.assertLessEqual(times[-1], 8.0 + 0.0625 * len(times))
        for before, after in pairwise(times):
            self.assertGreaterEqual(after - before, 0.25)

    def test_deadline_that_is_not_needed(self) -> None:
        """Where there is time for all, each stage has its own patience."""
        self.assertEqual(self.stopped_all_slow(1, 2, 3), [("2", 3.0), ("1", 5.0), ("0", 6.0)])

    def test_ends_that_break(self) -> None:
        """A stage whose end breaks is logged, and the others end."""
        self.stage("a")
        self.stage("b", end=RuntimeError("bug"))
        self.stage("c", end=StellarError("known"))
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.story[-3:], ["c ends", "b ends", "a ends"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_start_that_fails(self) -> None:
        """A stage that cannot begin is told with its reason; what had begun can be ended."""
        self.stage("a")
        self.stage("b", begin=ConfigError("no port"))
        self.stage("c")
        self.service.startService()
        self.assertEqual([str(error) for error in self.failures], ["no port"])
        self.assertNotIn("c begins", self.story)
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.story[-2:], ["b ends", "a ends"])

    def test_bug_in_a_start(self) -> None:
        """A bug in a start is logged and told as a fault of the daemon's own."""
        self.stage("a", begin=RuntimeError("bug"))
        self.service.startService()
        self.assertIn("a fault of the daemon's own", str(self.failures[0]))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stop_during_the_start(self) -> None:
        """A stop in the middle of the start breaks it off without a word."""
        self.stage("a", slow=True)
        self.service.startService()
        stopped = self.service.stopService()
        self.clock.advance(3)
        self.successResultOf(stopped)
        self.assertEqual((self.failures, self.story), ([], ["a begins", "a ends"]))

    def test_stop_before_any_start(self) -> None:
        """A service that never started stops at once."""
        self.successResultOf(self.service.stopService())
