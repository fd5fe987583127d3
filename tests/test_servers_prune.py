"""Images are fetched by servers that come, and go some time after the last server that needed them."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import DockerUnavailable, StoreFailed
from stellarstack.interfaces import PullProgress
from stellarstack.servers.prune import FIRST_CHECK, HOUR, KEY, PulledImages, images_of
from stellarstack.tasks import Tasks
from tests.fake_container import Program
from tests.fake_engine import FakeEngine
from tests.fakes import MemoryStore
from tests.household import GAME, HouseholdCase, done

DAY = 24 * HOUR
IMAGE = "registry.test/game:1"


class StumblingStore(MemoryStore):
    """A database that cannot commit for as long as `broken`."""

    broken = False

    async def put_value(self, key: str, value: object) -> None:
        if self.broken:
            raise StoreFailed("the disk is full")
        await super().put_value(key, value)  # type: ignore[arg-type]


class PruneTests(SynchronousTestCase):
    """PulledImages, with a set of names for the servers."""

    def setUp(self) -> None:
        self.clock, self.tasks = Clock(), Tasks()
        self.clock.advance(1_700_000_000)
        self.engine = FakeEngine(clock=self.clock)
        self.engine.registry = {IMAGE: Program(), "registry.test/other:2": Program()}
        self.store = StumblingStore("node_test", self.clock.seconds)
        self.needed: set[str] = set()
        self.images = self.begin(7 * DAY)
        self.addCleanup(lambda: done(self.tasks.cancel_all()))

    def begin(self, after: float) -> PulledImages:
        """A daemon with the same engine and store."""
        done(self.tasks.cancel_all())
        images = PulledImages(
            engine=self.engine, store=self.store, clock=self.clock, now=self.clock.seconds, tasks=self.tasks,
            after=after, needed=lambda: self.needed,
        )  # fmt: skip
        done(images.load())
        images.start()
        return images

    def pull(self, image: str = IMAGE) -> None:
        done(self.engine.pull(image, None, _nothing))
        done(self.images.fetched(image))

    def here(self, image: str = IMAGE) -> bool:
        return bool(done(self.engine.has_image(image)))

    def days(self, number: float) -> None:
        """Time passes, hour by hour."""
        for _ in range(round(number * 24)):
            self.clock.advance(HOUR)

    def test_removed_when_long_idle(self) -> None:
        """An image that nobody has needed for a week is removed, by the first daily check after that."""
        self.needed = {IMAGE}
        self.pull()
        self.days(30)
        self.assertTrue(self.here())
        self.needed = set()
        self.days(7)
        self.assertTrue(self.here())
        self.days(2)
        self.assertFalse(self.here())
        self.assertEqual(done(self.store.get_value(KEY)), {})

    def test_needed_again(self) -> None:
        """A server that comes starts the count anew, whatever spelling it uses."""
        self.engine.registry["registry.test/bare:latest"] = Program()
        self.pull("registry.test/bare")
        self.days(6)
        self.needed = {"registry.test/bare"}
        self.days(2)
        self.needed = set()
        self.days(7)
        self.assertTrue(self.here("registry.test/bare"))
        self.days(2)
        self.assertFalse(self.here("registry.test/bare"))

    def test_what_it_did_not_pull(self) -> None:
        """D04: an image that somebody else put there is never touched, however idle."""
        self.engine.add_image("local/built:1", Program())
        self.pull()
        self.days(20)
        self.assertTrue(self.here("local/built:1"))
        self.assertEqual([what for name, what in self.engine.faults.made if name == "remove_image"], [IMAGE])

    def test_another_under_the_same_name(self) -> None:
        """What somebody built or pulled under that name since is not ours; nor is one that is gone already."""
        self.pull()
        self.pull("registry.test/other:2")
        self.engine.add_image(IMAGE, Program())
        done(self.engine.remove_image("registry.test/other:2"))
        self.engine.faults.made.clear()
        self.days(20)
        self.assertTrue(self.here())
        self.assertNotIn("remove_image", [name for name, _ in self.engine.faults.made])
        self.assertEqual(done(self.store.get_value(KEY)), {})

    def test_in_use_by_a_container(self) -> None:
        """An image that some container has stays, and goes once the container is gone."""
        self.pull()
        made = done(self.engine.create_container("by-hand", {"Image": IMAGE}))
        self.days(20)
        self.assertTrue(self.here())
        done(self.engine.remove(made))
        self.days(2)
        self.assertFalse(self.here())

    def test_never(self) -> None:
        """With 0 nothing is ever removed, and no timer runs."""
        self.images = self.begin(0)
        self.pull()
        self.days(100)
        self.assertTrue(self.here())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_shorter_than_a_day(self) -> None:
        """A shorter time is checked more often."""
        self.images = self.begin(2 * HOUR)
        self.pull()
        self.days(0.25)
        self.assertFalse(self.here())

    def test_over_restarts(self) -> None:
        """K20: what an earlier daemon fetched, and since when it is idle, outlives the daemon."""
        self.pull()
        for _ in range(9):
            self.images = self.begin(7 * DAY)
            self.clock.advance(FIRST_CHECK)
            self.days(1)
        self.assertFalse(self.here())

    def test_rubbish_in_the_store(self) -> None:
        """What is no such record is passed over."""
        done(self.store.put_value(KEY, {"a": 4, "b": {}, IMAGE: {"id": "sha256:x", "idleSince": "never"}}))
        self.images = self.begin(7 * DAY)
        self.days(20)
        done(self.store.put_value(KEY, [4]))
        self.begin(7 * DAY)

    def test_clock_set_back(self) -> None:
        """An idle time in the future is not believed."""
        self.pull()
        self.days(1)
        done(self.store.put_value(KEY, {IMAGE: {"id": done(self.engine.image_id(IMAGE)), "idleSince": 4e9}}))
        self.images = self.begin(7 * DAY)
        self.days(9)
        self.assertFalse(self.here())

    def test_engine_and_store_stumble(self) -> None:
        """K16: an engine that is away and a full disk are waited out; what was not remembered is not removed."""
        self.pull()
        self.days(6)
        self.engine.faults.down = True
        self.days(3)
        self.engine.faults.down = False
        self.store.broken = True
        self.days(1)
        self.store.broken = False
        self.days(2)
        self.assertFalse(self.here())
        self.engine.faults.fail("image_id", DockerUnavailable("Docker does not answer"))
        self.pull("registry.test/other:2")
        self.days(20)
        self.assertTrue(self.here("registry.test/other:2"))

    def test_a_server_that_comes_during_the_removal(self) -> None:
        """Who needs an image that is being removed waits until it is gone, and fetches it anew."""
        self.pull()
        self.days(7)
        self.engine.faults.latency = lambda name: 10.0 if name == "remove_image" else 0.0
        while ("remove_image", IMAGE) not in self.engine.faults.made:
            self.clock.advance(60)
        done(self.images.settled("registry.test/other:2"))
        waiting = Deferred.fromCoroutine(self.images.settled(IMAGE))
        self.assertNoResult(waiting)
        self.clock.advance(10)
        self.clock.advance(10)
        self.successResultOf(waiting)
        self.assertFalse(self.here())

    def test_a_server_that_comes_just_before(self) -> None:
        """A server that came while the engine was asked keeps the image."""
        self.pull()
        self.days(7)
        self.engine.faults.latency = lambda name: 10.0 if name == "image_id" else 0.0
        self.engine.faults.made.clear()
        while ("image_id", IMAGE) not in self.engine.faults.made:
            self.clock.advance(60)
        self.needed = {IMAGE}
        self.clock.advance(10)
        self.clock.advance(10)
        self.assertTrue(self.here())
        self.assertNotIn("remove_image", [name for name, _ in self.engine.faults.made])

    def test_engine_breaks_during_the_removal(self) -> None:
        """A removal that broke off is tried again at the next check."""
        self.pull()
        self.days(7)
        self.engine.faults.fail("remove_image", DockerUnavailable("Docker does not answer"), times=100)
        self.days(2)
        self.assertTrue(self.here())
        self.engine.faults.mend()
        self.days(2)
        self.assertFalse(self.here())

    def test_bounded(self) -> None:
        """Ten thousand images are remembered; beyond, the oldest is not ours any more."""
        many = {f"x/{number}:1": {"id": "sha256:x", "idleSince": None} for number in range(10_000)}
        done(self.store.put_value(KEY, many))
        self.images = self.begin(7 * DAY)
        self.pull()
        kept = done(self.store.get_value(KEY))
        self.assertEqual((len(kept), "x/0:1" in kept, IMAGE in kept), (10_000, False, True))


class ImagesOfTests(HouseholdCase):
    """images_of"""

    def test_both(self) -> None:
        """A server needs the image it runs and the one it is installed with."""
        self.world.engine.add_image("test/installer:1", Program(exit_after=0.1))
        install = {"install": {"image": "test/installer:1", "script": "true"}}
        self.world.create(blueprint={**GAME, **install})
        self.world.settle(2)
        self.world.create("srv_2")
        self.world.settle(1)
        self.assertEqual(images_of(self.world.household.all()), {"test/game:1", "test/installer:1"})


def _nothing(_progress: PullProgress) -> None:
    """Nobody watches the pull."""
