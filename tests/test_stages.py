"""The daemon's ordered start and stop."""

from __future__ import annotations

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
        self.service = StagedService(self.clock, lambda: self.story.append("up"), self.failures.append)

    def stage(
        self, name: str, begin: Exception | None = None, end: Exception | None = None, slow: bool = False
    ) -> None:
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
                await Deferred()

        Stage(name, begins, ends).setServiceParent(self.service)

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
