"""Putting a server's tree into a project: all of it, nothing else, whatever the tenant does meanwhile."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import StellarError
from stellarstack.files import labels
from stellarstack.files.labels import is_labelled, label_tree
from tests.fake_quota import FakeQuota


class MeddlingQuota(FakeQuota):
    """Does something whenever a file or folder is labelled, or fails at it."""

    def __init__(self, meddle: Callable[[int], None]) -> None:
        super().__init__()
        self._meddle = meddle

    def put_into(self, descriptor: int, project: int, *, folder: bool) -> None:
        super().put_into(descriptor, project, folder=folder)
        self._meddle(descriptor)


class LabelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.root = self.base / "srv_1"
        (self.root / "a/b").mkdir(parents=True)
        for name in ("one", "a/two", "a/b/three"):
            (self.root / name).write_text(name)
        self.outside = self.base / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("x")
        self.quota = FakeQuota()

    def label(self, quota: FakeQuota | None = None, ended: Event | None = None) -> bool:
        """Labels the root with 77; no descriptor stays open (K29)."""
        before = len(os.listdir("/proc/self/fd"))
        try:
            return label_tree(self.root, 77, quota or self.quota, ended or Event())
        finally:
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def labelled(self, quota: FakeQuota | None = None) -> set[str]:
        """Which paths of the test's folder carry the label."""
        found = (quota or self.quota).labels
        return {str(path.relative_to(self.base)) for path in self.base.rglob("*") if path.lstat().st_ino in found}

    def test_whole_tree(self) -> None:
        """Every folder and file is labelled, the root too."""
        self.assertFalse(is_labelled(self.root, 77, self.quota))
        self.assertTrue(self.label())
        self.assertTrue(is_labelled(self.root, 77, self.quota))
        names = ("", "/a", "/a/b", "/one", "/a/two", "/a/b/three")
        self.assertEqual(self.labelled(), {f"srv_1{name}" for name in names})

    def test_links_and_pipes(self) -> None:
        """W10: links lead nowhere, and a pipe does not hold the thread up."""
        (self.root / "escape").symlink_to(self.outside)
        (self.root / "file").symlink_to(self.outside / "secret")
        os.mkfifo(self.root / "pipe")
        self.assertTrue(self.label())
        self.assertEqual([name for name in self.labelled() if not name.startswith("srv_1")], [])

    def test_root_is_a_link(self) -> None:
        """A root that is a link, or is not there, is refused."""
        (self.base / "link").symlink_to(self.outside)
        for name in ("link", "missing"):
            self.assertRaises(StellarError, label_tree, self.base / name, 77, self.quota, Event())
            self.assertRaises(StellarError, is_labelled, self.base / name, 77, self.quota)

    def test_swapped_meanwhile(self) -> None:
        """W07: a folder or file that becomes a link, or goes, between being seen and being opened is passed over."""

        def swap(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if path == self.root / "a" and (path / "b").is_dir() and not (path / "b").is_symlink():
                (path / "b").rename(self.base / "away")
                (path / "b").symlink_to(self.outside)

        quota = MeddlingQuota(swap)
        self.label(quota)
        self.assertFalse({name for name in self.labelled(quota) if name.startswith("outside")})
        rounds = labels._Round(77, quota, Event())
        descriptor = os.open(self.root, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        (self.root / "sly").symlink_to(self.outside / "secret")
        rounds._file(descriptor, "sly")
        rounds._file(descriptor, "gone")
        rounds._descend([], descriptor, "sly")
        self.assertFalse({name for name in self.labelled(quota) if name.startswith("outside")})

    def test_deep(self) -> None:
        """Folders below the deepest are left out, and it says so (K28)."""
        self.patch(labels, "DEEPEST", 2)
        self.assertFalse(self.label())
        self.assertIn("srv_1/a", self.labelled())
        self.assertNotIn("srv_1/a/b", self.labelled())

    def test_ended(self) -> None:
        """It ends at the next entry once it is told to, and says that not all was done (K06)."""
        ended = Event()
        quota = MeddlingQuota(lambda _: ended.set())
        self.assertFalse(self.label(quota, ended))
        self.assertEqual(len(quota.labels), 1)

    def test_other_file_system(self) -> None:
        """What is mounted in the tree is left alone."""
        rounds = labels._Round(77, self.quota, Event())
        rounds._device = -1
        levels: list[tuple[int, list[str]]] = []
        descriptor = os.open(self.root, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        rounds._descend(levels, descriptor, "a")
        rounds._file(descriptor, "one")
        os.close(levels[0][0])
        self.assertEqual(self.quota.labels, {})

    def test_faults(self) -> None:
        """A file that nobody may change is passed over; a file system that fails is an error."""
        for number, passes in ((errno.EPERM, True), (errno.EIO, False), (errno.ENOSPC, False)):

            def fail(descriptor: int, number: int = number) -> None:
                if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/three"):
                    raise OSError(number, os.strerror(number))

            quota = MeddlingQuota(fail)
            if passes:
                self.assertTrue(self.label(quota))
            else:
                self.assertRaises(StellarError, self.label, quota)

    def test_unreadable(self) -> None:
        """A folder or file that cannot be opened for want of descriptors is an error, not passed over."""
        rounds = labels._Round(77, self.quota, Event())
        long = "x" * 300
        descriptor = os.open(self.root, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        self.assertRaises(OSError, rounds._file, descriptor, long)
        self.assertRaises(OSError, rounds._descend, [], descriptor, long)
