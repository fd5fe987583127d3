"""How much disk a server takes: what counts, what does not, and that the walk ends when it should."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.metrics import disk
from stellarstack.metrics.disk import NEAR_REST, WALK_EVERY, DiskMeter, disk_used
from tests.inline_threads import InlinePool, InlineReactor


class WalkCase(SynchronousTestCase):
    """A folder of the test's own, and a walk in a thread of its own: it takes its thread's priority down."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.root = self.base / "root"
        self.root.mkdir(parents=True)

    def used(self, ended: Event | None = None) -> int:
        found: list[int] = []
        thread = Thread(target=lambda: found.append(disk_used(self.root, ended or Event(), lambda _: None)))
        thread.start()
        thread.join()
        return found[0]

    def blocks(self, *paths: Path) -> int:
        return sum(path.lstat().st_blocks * 512 for path in paths)


class WalkTests(WalkCase):
    """What counts."""

    def test_files(self) -> None:
        """All files and folders below count with the blocks that they take."""
        folder = self.root / "a/b"
        folder.mkdir(parents=True)
        paths = [self.root / "a", folder, folder / "one", self.root / "two"]
        paths[2].write_bytes(b"x" * 10_000)
        paths[3].write_bytes(b"x" * 50_000)
        self.assertEqual(self.used(), self.blocks(*paths))

    def test_links(self) -> None:
        """What a symbolic link points to does not count, and a hard link counts once (W04)."""
        outside = self.base / "outside"
        outside.mkdir()
        (outside / "big").write_bytes(b"x" * 1_000_000)
        (self.root / "esc").symlink_to(outside)
        (self.root / "file").write_bytes(b"x" * 10_000)
        os.link(self.root / "file", self.root / "again")
        self.assertEqual(self.used(), self.blocks(self.root / "file", self.root / "esc"))

    def test_root_is_a_link(self) -> None:
        """A root that is a link is not followed."""
        (self.base / "link").symlink_to(self.root)
        self.assertRaises(OSError, disk._Walk(Event(), lambda _: None).run, self.base / "link")

    def test_sparse(self) -> None:
        """A file with holes counts what it takes, not how long it is (W20)."""
        with open(self.root / "sparse", "wb") as file:
            file.truncate(2**40)
        self.assertLess(self.used(), 2**20)

    def test_too_deep(self) -> None:
        """Folders deeper than the limit do not count, use no more descriptors, and are no error (K28)."""
        descriptor = os.open(self.root, os.O_RDONLY)
        for _ in range(disk.DEEPEST + 50):
            os.mkdir("d", dir_fd=descriptor)
            below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        os.close(descriptor)
        one = self.blocks(self.root / "d")
        self.assertEqual(self.used(), one * disk.DEEPEST)

    def test_ends_early(self) -> None:
        """A walk that was ended returns at the next entry, and leaves no descriptor open (K28, K29)."""
        for number in range(50):
            (self.root / f"d{number}").mkdir()
            (self.root / f"d{number}/f").write_bytes(b"x")
        before = len(os.listdir("/proc/self/fd"))
        ended = Event()
        ended.set()
        self.assertEqual(self.used(ended), 0)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_pauses(self) -> None:
        """A long walk pauses every 256 entries."""
        for number in range(1000):
            (self.root / str(number)).touch()
        pauses: list[Event] = []
        disk._Walk(Event(), pauses.append).run(self.root)
        self.assertEqual(len(pauses), 3)

    def test_unreadable_entry(self) -> None:
        """A folder that goes between being seen and being opened is left out."""
        walk = disk._Walk(Event(), lambda _: None)
        descriptor = os.open(self.root, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        levels: list[tuple[int, list[str]]] = []
        walk._descend(levels, descriptor, "gone")
        self.assertEqual(levels, [])


class MeterTests(WalkCase):
    """When it walks."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.pool = InlinePool()
        self.meter = DiskMeter(clock=self.clock, reactor=cast(Any, InlineReactor()), pool=cast(Any, self.pool))
        self.meter.start()
        self.addCleanup(self._stop)

    def _stop(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.meter.stop()))
        self.assertFalse(self.pool.started)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def work(self) -> None:
        """In a thread, as the pool would: a walk takes its thread's priority down for good."""
        thread = Thread(target=self.pool.work)
        thread.start()
        thread.join()

    def test_rhythm(self) -> None:
        """The first walk comes at once, the next a minute later."""
        self.pool.held = True
        self.meter.add("srv_1", self.root)
        self.assertEqual(self.meter.used("srv_1"), 0)
        self.clock.advance(1)
        (self.root / "file").write_bytes(b"x" * 10_000)
        self.work()
        self.assertGreaterEqual(self.meter.used("srv_1"), 10_000)
        self.clock.pump([1.0] * 59)
        self.assertEqual(self.pool.jobs, [])
        self.clock.advance(1)
        self.assertEqual(len(self.pool.jobs), 1)
        self.work()

    def test_long_walks_rest_longer(self) -> None:
        """A walk that took 10 s is followed by 200 s of rest."""
        self.pool.held = True
        self.meter.add("srv_1", self.root)
        self.clock.advance(1)
        self.clock.advance(10)
        self.work()
        self.clock.pump([1.0] * 199)
        self.assertEqual(self.pool.jobs, [])
        self.clock.advance(1)
        self.assertEqual(len(self.pool.jobs), 1)
        self.work()

    def test_one_at_a_time(self) -> None:
        """However many servers there are, one walk is under way at a time."""
        self.pool.held = True
        for number in range(5):
            self.meter.add(f"srv_{number}", self.root)
        self.clock.pump([1.0] * 5)
        self.assertEqual(len(self.pool.jobs), 1)
        self.work()
        self.assertEqual(len(self.pool.calls), 5)

    def test_known_after_the_end(self) -> None:
        """The last figure outlives the run, and a walk that was ended does not change it; `forget` takes it away."""
        self.pool.held = True
        (self.root / "file").write_bytes(b"x" * 10_000)
        self.meter.add("srv_1", self.root)
        self.clock.advance(1)
        self.work()
        known = self.meter.used("srv_1")
        self.meter.add("srv_1", self.root)
        self.clock.pump([1.0] * 61)
        self.meter.remove("srv_1")
        self.work()
        self.assertEqual(self.meter.used("srv_1"), known)
        self.meter.forget("srv_1")
        self.assertEqual(self.meter.used("srv_1"), 0)

    def test_missing_folder(self) -> None:
        """A folder that is not there is tried again later, without noise."""
        self.pool.held = True
        self.meter.add("srv_1", self.base / "missing")
        self.clock.advance(1)
        self.work()
        self.clock.pump([1.0] * 60)
        self.assertEqual(len(self.pool.jobs), 1)
        self.work()

    def test_stop_ends_a_walk(self) -> None:
        """The stop waits for the walk under way, which it has told to end."""
        self.pool.held = True
        self.meter.add("srv_1", self.root)
        self.clock.advance(1)
        stopped = Deferred.fromCoroutine(self.meter.stop())
        self.assertNoResult(stopped)
        self.work()
        self.successResultOf(stopped)


class Books:
    """Meets Warden: what a test says."""

    def __init__(self) -> None:
        self.counted: int | None = None
        self.near = False
        self.left: int | None = None
        self.figures: list[int] = []

    def count(self, server_id: str) -> int | None:
        return self.counted

    def measured(self, server_id: str, used: int) -> bool:
        self.figures.append(used)
        return self.near

    def room(self, server_id: str) -> int | None:
        return self.left


class WardenTests(WalkCase):
    """When and how it measures where servers have limits."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.pool = InlinePool()
        self.books = Books()
        self.filled = 1000
        self.patch(disk, "_filled", lambda _: self.filled)
        self.walks = 0
        self.patch(disk, "disk_used", self._walked)
        self.meter = DiskMeter(
            clock=self.clock, reactor=cast(Any, InlineReactor()), pool=cast(Any, self.pool), warden=self.books, rest=30
        )
        self.meter.start()
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(self.meter.stop())))
        self.meter.add("srv_1", self.root)

    def _walked(self, path: Path, ended: Event) -> int:
        self.walks += 1
        return 77

    def test_interval(self) -> None:
        """Without hurry it measures once an interval, and tells each figure."""
        self.clock.pump([1.0] * 91)
        self.assertEqual(self.books.figures, [77] * 4)

    def test_near(self) -> None:
        """Near its limit a server is measured every two seconds."""
        self.books.near = True
        self.clock.pump([1.0] * 11)
        self.assertEqual(len(self.books.figures), 6)
        self.assertEqual(NEAR_REST, 2.0)

    def test_books(self) -> None:
        """Where the file system keeps books nothing is walked, but each twentieth time all the same."""
        self.books.counted = 5
        self.clock.pump([30.0] * WALK_EVERY)
        self.assertEqual(self.books.figures, [5] * (WALK_EVERY - 1) + [77])
        self.assertEqual((self.walks, self.meter.used("srv_1")), (1, 77))

    def test_growth(self) -> None:
        """When the file system grew by all the room that was left, the server is measured at once, and then rests."""
        self.books.left = 500
        self.clock.pump([1.0] * 5)
        self.filled += 499
        self.clock.pump([1.0] * 3)
        self.assertEqual(len(self.books.figures), 1)
        self.filled += 1
        self.clock.advance(1)
        self.assertEqual(len(self.books.figures), 2)
        self.clock.pump([1.0] * 20)
        self.assertEqual(len(self.books.figures), 2)

    def test_growth_soon_after(self) -> None:
        """However fast it grows, two seconds lie between two measurements."""
        self.books.left = 0
        for _ in range(11):
            self.filled += 1_000_000
            self.clock.advance(1)
        self.assertEqual(len(self.books.figures), 6)

    def test_warden_fails(self) -> None:
        """A fault of the warden's does not end the measuring."""
        told = self.books.figures

        def fail(server_id: str, used: int) -> bool:
            told.append(used)
            raise ValueError("a fault")

        self.patch(self.books, "measured", fail)
        self.clock.pump([1.0] * 62)
        self.assertEqual(len(told), 3)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)

    def test_file_system_does_not_tell(self) -> None:
        """A file system that does not say how full it is leaves the interval as it is."""
        self.books.left = 0
        self.patch(disk, "_filled", lambda _: None)
        self.clock.pump([1.0] * 29)
        self.assertEqual(len(self.books.figures), 1)
        calls = len(self.pool.calls)
        self.clock.pump([1.0] * 1)
        self.assertEqual(len(self.pool.calls), calls)

    def test_started_again(self) -> None:
        """A server with a limit is measured at once at each start, whatever is known of its last run."""
        self.clock.advance(1)
        self.books.left = 500
        self.meter.add("srv_1", self.root)
        self.clock.advance(1)
        self.assertEqual(len(self.books.figures), 2)


class FillingTests(WalkCase):
    def test_filling(self) -> None:
        """How full a file system is comes in bytes; of a folder that is not there nothing is said."""
        filled = disk._filled(self.root)
        self.assertTrue(filled is not None and filled >= 0)
        self.assertIsNone(disk._filled(self.base / "missing"))
