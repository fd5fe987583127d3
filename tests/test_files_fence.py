"""The fence around each server's share of the disk: held by the kernel where it can, measured where not."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.files import fence as fence_module
from stellarstack.files.fence import REPEAT, DiskFence
from stellarstack.files.projects import FIRST, KEY
from tests.fake_quota import FakeQuota, FakeValues
from tests.inline_threads import InlineReactor

T = TypeVar("T")
MB = 1 << 20


class FenceCase(SynchronousTestCase):
    lacking = ""

    def setUp(self) -> None:
        self.servers = Path(self.mktemp()).absolute()
        self.servers.mkdir(parents=True)
        self.clock = Clock()
        self.reactor = InlineReactor()
        self.store = FakeValues()
        self.quota = FakeQuota(self.lacking)
        self.told: list[tuple[str, int, int]] = []
        self.fence = self.make()
        self.done(self.fence.start())

    def make(self) -> DiskFence:
        return DiskFence(
            servers=self.servers, store=self.store, reactor=cast(Any, self.reactor), clock=self.clock,
            over=lambda *found: self.told.append(found), quota=lambda _: self.quota,
        )  # fmt: skip

    def done(self, work: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def root(self, server_id: str) -> Path:
        root = self.servers / server_id
        root.mkdir(exist_ok=True)
        (root / "file").write_text("x")
        return root

    def limit(self, server_id: str, limit: int, fence: DiskFence | None = None) -> Path:
        root = self.root(server_id)
        self.done((fence or self.fence).limit(server_id, root, limit))
        return root

    def number(self, server_id: str) -> int:
        return int(cast(Any, self.store.values[KEY])[server_id][0])


class MeasuringTests(FenceCase):
    """Where the file system keeps no project quota."""

    lacking = "no project quota here"

    def test_not_exact(self) -> None:
        """It says that it measures, asks no more of the quota, and lets go of it."""
        self.assertFalse(self.fence.exact)
        self.assertTrue(self.quota.closed)
        self.limit("srv_1", 10 * MB)
        self.assertEqual(self.quota.limits, {})
        self.assertIsNone(self.fence.count("srv_1"))

    def test_used(self) -> None:
        """Nothing is known before the first figure; then the last one is."""
        self.limit("srv_1", 10 * MB)
        self.assertIsNone(self.fence.used("srv_1"))
        self.assertIsNone(self.fence.room("srv_1"))
        self.assertFalse(self.fence.measured("srv_1", 3 * MB))
        self.assertEqual((self.fence.used("srv_1"), self.fence.room("srv_1")), (3 * MB, 7 * MB))

    def test_near(self) -> None:
        """Over four fifths of its limit a server is near; at its limit exactly it is not over."""
        self.limit("srv_1", 10 * MB)
        self.assertEqual([self.fence.measured("srv_1", used * MB) for used in (8, 9, 10)], [False, True, True])
        self.assertEqual(self.told, [])

    def test_over(self) -> None:
        """Over it is told once, again after five minutes, and at once when it comes back after having been below."""
        self.limit("srv_1", 10 * MB)
        for _ in range(3):
            self.assertTrue(self.fence.measured("srv_1", 11 * MB))
        self.assertEqual(self.told, [("srv_1", 11 * MB, 10 * MB)])
        self.assertEqual(self.fence.room("srv_1"), 0)
        self.clock.advance(REPEAT)
        self.fence.measured("srv_1", 12 * MB)
        self.fence.measured("srv_1", 1 * MB)
        self.fence.measured("srv_1", 13 * MB)
        self.assertEqual([used for _, used, _ in self.told], [11 * MB, 12 * MB, 13 * MB])

    def test_nobody_can_be_told(self) -> None:
        """Where telling fails it is logged, the figure stands, and it is told again when it is due."""

        def fail(*_: object) -> None:
            raise ValueError("nobody there")

        self.fence._over = fail
        self.limit("srv_1", 10 * MB)
        self.assertTrue(self.fence.measured("srv_1", 11 * MB))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.fence.used("srv_1"), 11 * MB)

    def test_new_start(self) -> None:
        """A server that is started again over its limit is told again."""
        for _ in range(2):
            self.limit("srv_1", 10 * MB)
            self.fence.measured("srv_1", 11 * MB)
        self.assertEqual(len(self.told), 2)

    def test_no_limit(self) -> None:
        """Without a limit it is measured and never near."""
        self.limit("srv_1", 0)
        self.assertFalse(self.fence.measured("srv_1", 2**50))
        self.assertIsNone(self.fence.room("srv_1"))
        self.assertEqual((self.told, self.fence.used("srv_1")), ([], 2**50))

    def test_forgotten(self) -> None:
        """Of a deleted server nothing is known, and a late figure is nobody's."""
        root = self.limit("srv_1", 10 * MB)
        self.done(self.fence.forget("srv_1", root))
        self.assertFalse(self.fence.measured("srv_1", 11 * MB))
        self.assertIsNone(self.fence.used("srv_1"))
        self.assertIsNone(self.fence.room("srv_1"))
        self.assertEqual(self.told, [])

    def test_no_folder(self) -> None:
        """A servers folder that cannot be opened is no reason not to start."""

        def missing(_: Path) -> FakeQuota:
            raise FileNotFoundError(2, "no such folder")

        fence = DiskFence(servers=self.servers, store=self.store, reactor=cast(Any, self.reactor), clock=self.clock,
                          over=lambda *_: None, quota=missing)  # fmt: skip
        self.done(fence.start())
        self.assertFalse(fence.exact)
        self.done(fence.stop())

    def test_real_file_system(self) -> None:
        """With the kernel's own answer about this test's folder it starts, whichever that is."""
        fence = DiskFence(servers=self.servers, store=self.store, reactor=cast(Any, self.reactor), clock=self.clock,
                          over=lambda *_: None)  # fmt: skip
        self.done(fence.start())
        self.done(fence.limit("srv_1", self.root("srv_1"), 10 * MB))
        self.done(fence.stop())


class HoldingTests(FenceCase):
    """Where the kernel holds the limit."""

    def test_held(self) -> None:
        """The tree is labelled before the limit is set, a tree that is over it already comes in; the books tell."""
        root = self.limit("srv_1", 8 * MB)
        number = self.number("srv_1")
        self.assertTrue(self.fence.exact)
        self.assertEqual(self.quota.labels, {root.stat().st_ino: number, (root / "file").stat().st_ino: number})
        self.assertEqual(self.quota.history, [(number, 0), (number, 8 * MB)])
        self.quota.space[number] = 5 * MB
        self.assertEqual(self.fence.count("srv_1"), 5 * MB)
        self.assertIsNone(self.fence.room("srv_1"))

    def test_files(self) -> None:
        """W20: empty files are bounded too, 10 000 at least; no limit bounds nothing."""
        for limit, files in ((8 * MB, 10_000), (1024 * MB, 262_144), (0, 0)):
            self.limit("srv_1", limit)
            self.assertEqual(self.quota.limits[self.number("srv_1")], (limit, files))

    def test_second_start(self) -> None:
        """A tree that is in its project is not gone through again; a root made anew is."""
        root = self.limit("srv_1", 8 * MB)
        self.quota.labels.pop((root / "file").stat().st_ino)
        self.limit("srv_1", 9 * MB)
        self.assertNotIn((root / "file").stat().st_ino, self.quota.labels)
        self.quota.labels.clear()
        self.limit("srv_1", 9 * MB)
        self.assertEqual(len(self.quota.labels), 2)

    def test_one_each(self) -> None:
        """P03: starts at the same time get different numbers."""
        self.reactor.pool.held = True
        starts = [Deferred.fromCoroutine(self.fence.limit(f"srv_{n}", self.root(f"srv_{n}"), MB)) for n in range(5)]
        while not all(start.called for start in starts):
            self.reactor.pool.work()
        numbers = {self.number(f"srv_{number}") for number in range(5)}
        self.assertEqual(len(numbers), 5)

    def test_restart_of_the_daemon(self) -> None:
        """After a restart the server keeps its number and its tree is not gone through again."""
        self.limit("srv_1", 8 * MB)
        number = self.number("srv_1")
        self.done(self.fence.stop())
        self.assertTrue(self.quota.closed)
        again = self.make()
        self.done(again.start())
        before = len(self.quota.history)
        self.limit("srv_1", 8 * MB, again)
        self.assertEqual(self.quota.history[before:], [(number, 8 * MB)])

    def test_lost_database(self) -> None:
        """K16: without the database a server's own label tells its number, though the number is in use: by itself."""
        self.limit("srv_1", 8 * MB)
        number = self.number("srv_1")
        self.store.values.clear()
        again = self.make()
        self.done(again.start())
        self.limit("srv_1", 8 * MB, again)
        self.assertEqual(self.number("srv_1"), number)

    def test_number_of_others(self) -> None:
        """A number that files of somebody else carry is not taken."""
        self.limit("srv_1", 8 * MB)
        number = self.number("srv_1")
        self.store.values.clear()
        self.quota.labels.clear()
        self.quota.files[number] = 3
        again = self.make()
        self.done(again.start())
        self.limit("srv_1", 8 * MB, again)
        self.assertNotEqual(self.number("srv_1"), number)

    def test_forget(self) -> None:
        """A deleted server's limit and number go, and files that stay belong to no project."""
        root = self.limit("srv_1", 8 * MB)
        number = self.number("srv_1")
        self.done(self.fence.forget("srv_1", root))
        self.assertEqual(self.quota.limits[number], (0, 0))
        self.assertEqual(set(self.quota.labels.values()), {0})
        self.assertEqual(self.store.values[KEY], {})

    def test_forget_without_files(self) -> None:
        """Where the files are gone there is nothing to take out; one that was never here is no error."""
        root = self.limit("srv_1", 8 * MB)
        (root / "file").unlink()
        root.rmdir()
        self.done(self.fence.forget("srv_1", root))
        self.done(self.fence.forget("srv_2", root))
        self.assertEqual(self.store.values[KEY], {})

    def test_refused(self) -> None:
        """K14: where kernel or store refuse, the server is measured, and `limit` does not fail."""
        self.quota.refusing = "not permitted"
        self.limit("srv_1", 8 * MB)
        self.assertIsNone(self.fence.count("srv_1"))
        self.quota.refusing = ""
        self.store.full = True
        self.limit("srv_2", 8 * MB)
        self.assertIsNone(self.fence.count("srv_2"))
        self.fence.measured("srv_2", 9 * MB)
        self.assertEqual(self.told, [("srv_2", 9 * MB, 8 * MB)])

    def test_books_fail_later(self) -> None:
        """Where the books cannot be read the tree is walked; a deletion that is refused keeps the number taken."""
        root = self.limit("srv_1", 8 * MB)
        self.quota.refusing = "broken"
        self.assertIsNone(self.fence.count("srv_1"))
        self.done(self.fence.forget("srv_1", root))
        self.assertGreaterEqual(self.number("srv_1"), FIRST)

    def test_missing_root(self) -> None:
        """A root that is not there is no failure of `limit`."""
        self.done(self.fence.limit("srv_1", self.servers / "missing", MB))
        self.assertIsNone(self.fence.count("srv_1"))

    def test_other_file_system(self) -> None:
        """A root that is mounted from elsewhere is measured: this quota does not count it."""
        self.patch(fence_module, "_device_of", lambda _: -1)
        self.limit("srv_1", 8 * MB)
        self.assertIsNone(self.fence.count("srv_1"))
        self.assertEqual(self.quota.labels, {})

    def test_slipped_out(self) -> None:
        """One whose files left their project is found by a walk's figure, and told."""
        self.limit("srv_1", 8 * MB)
        self.fence.measured("srv_1", 9 * MB)
        self.assertEqual(self.told, [("srv_1", 9 * MB, 8 * MB)])

    def test_stop_ends_labelling(self) -> None:
        """K06: the stop ends a labelling under way; the tree is gone through anew at the next start."""
        self.reactor.pool.held = True
        root = self.root("srv_1")
        waiting = Deferred.fromCoroutine(self.fence.limit("srv_1", root, 8 * MB))
        while not self.fence._labelling:
            job = self.reactor.pool.jobs.pop(0)
            job()
        stopped = Deferred.fromCoroutine(self.fence.stop())
        while self.reactor.pool.jobs:
            self.reactor.pool.jobs.pop(0)()
        self.successResultOf(waiting)
        self.successResultOf(stopped)
        self.assertFalse(cast(Any, self.store.values[KEY])["srv_1"][1])

    def test_slow_file_system(self) -> None:
        """K02: a file system that does not answer holds a start up for half a minute, not for ever."""
        self.reactor.pool.held = True
        waiting = Deferred.fromCoroutine(self.fence.limit("srv_1", self.root("srv_1"), 8 * MB))
        self.clock.advance(29)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.successResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])
