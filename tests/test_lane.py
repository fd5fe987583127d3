"""One server's queue: order, overtaking, slots, the end of waits, and works that break."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Json
from stellarstack.errors import InvalidState, StoreFailed
from stellarstack.servers.lane import Lane, Outcome, Step, Work
from stellarstack.tasks import Tasks


class LaneTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.tasks = Tasks()
        self.slots = DeferredSemaphore(1)
        self.lane = self.new_lane()
        self.story: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self.gates: dict[str, Deferred[None]] = {}

    def new_lane(self) -> Lane:
        return Lane(slots=self.slots, now=lambda: self.now, tasks=self.tasks, limit=3)

    def work(self, name: str, *, only_waits: bool = False, fails: bool = False, **how: bool) -> Work:
        async def perform(step: Step) -> Mapping[str, Json]:
            self.story.append(f"{name} began")
            await step.begin()
            if only_waits:
                step.only_waits()
            try:
                self.gates[name] = Deferred()
                await self.gates[name]
            except CancelledError:
                self.gates[name] = Deferred()
                await self.gates[name]  # puts things right
                raise
            finally:
                self.story.append(f"{name} ended")
            return {}

        async def settle(outcome: Outcome) -> None:
            self.outcomes[name] = outcome
            if fails:
                raise RuntimeError("cannot be told (test)")

        async def note_begin() -> None:
            if name == "unwritten":
                raise StoreFailed("full (test)")

        work = Work(name, perform, settle, note_begin)
        for key, value in how.items():
            setattr(work, key, value)
        return work

    def add(self, name: str, **how: bool) -> Work:
        work = self.work(name, **how)
        self.lane.add(work)
        return work

    def open(self, name: str) -> None:
        self.gates[name].callback(None)

    def code(self, name: str) -> str | None:
        error = self.outcomes[name].error
        return error.code if error is not None else None

    def test_one_at_a_time(self) -> None:
        """Works run one after the other in the order of their arrival."""
        self.add("a")
        self.add("b")
        self.open("a")
        self.open("b")
        self.assertEqual(self.story, ["a began", "a ended", "b began", "b ended"])
        self.assertTrue(self.lane.idle)

    def test_full(self) -> None:
        """A lane takes so many and no more; a kill finds room always."""
        for name in "abcd":
            self.add(name)
        self.assertRaises(InvalidState, self.add, "e")
        self.add("kill", overtakes=True)

    def test_overtaken_once(self) -> None:
        """A second kill does not disturb the work that puts things right after the first one."""
        self.add("start", yields=True)
        self.add("later", yields=True)
        self.add("line")
        self.add("kill", overtakes=True)
        self.assertEqual(self.code("later"), "cancelled")
        self.add("kill too", overtakes=True)
        self.assertNotIn("start", self.outcomes)
        self.open("start")
        for name in ("kill", "kill too", "line"):
            self.open(name)
        self.assertEqual(self.code("start"), "cancelled")
        self.assertEqual(
            [one for one in self.story if "began" in one][1:], ["kill began", "kill too began", "line began"]
        )

    def test_what_does_not_yield(self) -> None:
        """Files and backups are left alone by a kill."""
        self.add("backup")
        self.add("kill", overtakes=True)
        self.open("backup")
        self.assertIsNone(self.outcomes["backup"].error)

    def test_expired(self) -> None:
        """A work whose time is over when its turn comes is not run; a kill ends nothing then."""
        self.add("start", yields=True)
        late = self.work("kill", overtakes=True)
        late.expires_at = 0.0
        self.lane.add(late)
        self.open("start")
        self.assertIsNone(self.outcomes["start"].error)
        self.assertEqual(self.code("kill"), "expired")

    def test_waits_give_their_slot(self) -> None:
        """A work that only waits lets other lanes' works run; one that does not keeps its slot."""
        other = self.new_lane()
        self.add("start", only_waits=True)
        other.add(self.work("other"))
        self.assertIn("other began", self.story)
        third = self.new_lane()
        third.add(self.work("third"))
        self.assertNotIn("third began", self.story)
        third.add(self.work("kill", overtakes=True, heavy=False))
        self.open("other")
        self.assertIn("third began", self.story)

    def test_light(self) -> None:
        """Ends do not need a slot."""
        self.add("install")
        other = self.new_lane()
        other.add(self.work("stop", heavy=False))
        self.assertIn("stop began", self.story)

    def test_unwritten(self) -> None:
        """A work that cannot be marked as begun has failed before it did anything."""
        self.add("unwritten")
        self.assertFalse(self.outcomes["unwritten"].begun)
        self.assertEqual(self.code("unwritten"), "internal")

    def test_breaks(self) -> None:
        """A fault of the daemon's own in a work is its result, in one clear line; the lane goes on."""

        async def broken(_step: Step) -> Mapping[str, Json]:
            raise RuntimeError("oops")

        work = self.work("broken")
        work.perform = broken
        self.lane.add(work)
        self.assertEqual(self.code("broken"), "internal")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.add("next")
        self.assertIn("next began", self.story)

    def test_result_that_cannot_be_told(self) -> None:
        """A result that cannot be told is logged; the lane goes on."""
        self.add("a", fails=True)
        self.add("b")
        self.open("a")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertIn("b began", self.story)

    def test_closed(self) -> None:
        """After the close nothing is settled, nothing is begun, nothing is taken."""
        self.add("a")
        self.add("b")
        self.lane.close()
        self.lane.add(self.work("c"))
        self.open("a")
        self.assertEqual((self.outcomes, self.story), ({}, ["a began", "a ended"]))

    def test_outside_a_lane(self) -> None:
        """A work without a lane may say that it waits: nobody minds."""
        self.work("node.info").only_waits()
