"""W04, W05, W10: into a server's folder and out of it again, whatever links its tenant has made."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import PathForbidden, StellarError, TooLarge
from stellarstack.servers.folders import prepare_root, remove_own, write_private
from stellarstack.servers.rooted import enter, folder_below, read_file, replace_file
from stellarstack.servers.trees import Trees
from tests.fakes import at_once
from tests.household import done

ME = (os.getuid(), os.getgid())


class _FolderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.outside = self.place / "outside"
        self.outside.mkdir(parents=True)
        self.secret = self.outside / "f"
        self.secret.write_text("secret")
        self.secret.chmod(0o600)
        self.root = self.place / "servers" / "srv_1"
        self.trees = Trees(threads=at_once, clock=Clock())

    def prepare(self, *subfolders: str) -> None:
        prepare_root(self.root, *ME, subfolders)

    def untouched(self) -> None:
        self.assertEqual((self.secret.read_text(), self.secret.stat().st_mode & 0o777), ("secret", 0o600))
        self.assertEqual([path.name for path in self.outside.iterdir()], ["f"])


class FoldersTests(_FolderCase):
    def test_prepare(self) -> None:
        """The root and its volumes' folders are made with 0750; what is there keeps its mode."""
        self.prepare("logs", "saves/old")
        self.assertEqual((self.root / "saves" / "old").stat().st_mode & 0o777, 0o750)
        self.root.chmod(0o700)
        self.prepare()
        self.assertEqual(self.root.stat().st_mode & 0o777, 0o700)

    def test_w10_links(self) -> None:
        """W10: a root or a subfolder that is a link is refused, its target untouched."""
        self.root.parent.mkdir(parents=True)
        self.root.symlink_to(self.outside)
        self.assertRaises(StellarError, self.prepare)
        self.root.unlink()
        self.root.mkdir()
        (self.root / "logs").symlink_to(self.outside)
        self.assertRaises(PathForbidden, self.prepare, "logs")
        self.untouched()

    def test_no_place(self) -> None:
        """A folder that cannot be made is one clear error."""
        self.root.parent.parent.joinpath("servers").write_text("")
        self.assertIn("cannot make", str(self.assertRaises(StellarError, self.prepare)))

    def test_w05_remove(self) -> None:
        """W05: links in a removed tree are removed, their targets intact; a root that is a link too."""
        self.prepare()
        (self.root / "esc").symlink_to(self.outside)
        (self.root / "dir").mkdir()
        (self.root / "dir" / "link").symlink_to(self.secret)
        done(self.trees.remove(self.root))
        self.assertFalse(self.root.exists())
        self.root.symlink_to(self.outside)
        done(self.trees.remove(self.root))
        self.assertFalse(self.root.is_symlink())
        done(self.trees.remove(self.root))
        self.untouched()

    def test_remove_refused(self) -> None:
        """What cannot be removed is one clear error."""
        self.prepare()
        refused = self.assertRaises(StellarError, done, self.trees.remove(self.root / ".."))
        self.assertIn("refusing to remove", str(refused))
        self.assertTrue(self.root.is_dir())

    def test_hand_over(self) -> None:
        """W10: a tree handed over keeps its links' targets as they are."""
        self.prepare("a")
        (self.root / "a" / "link").symlink_to(self.secret)
        (self.root / "a" / "file").write_text("")
        before = self.secret.stat()
        done(self.trees.hand_over(self.root, *ME))
        self.assertEqual(self.secret.stat().st_ctime_ns, before.st_ctime_ns)

    def test_remove_own(self) -> None:
        """A folder of the daemon's own goes with all in it; none there is no error."""
        self.prepare("a")
        for _ in range(2):
            remove_own(self.root)
        self.assertFalse(self.root.exists())
        self.untouched()

    def test_write_private(self) -> None:
        """A file of the daemon's own has its mode whatever was there; a link at its place is refused."""
        path = self.place / "mine" / "install.sh"
        write_private(path, "one")
        write_private(path, "two", 0o755)
        self.assertEqual((path.read_text(), path.stat().st_mode & 0o777), ("two", 0o755))
        path.unlink()
        path.symlink_to(self.secret)
        self.assertIn("cannot write", str(self.assertRaises(StellarError, write_private, path, "three")))
        self.untouched()


class RootedTests(_FolderCase):
    def setUp(self) -> None:
        super().setUp()
        self.prepare()

    def replace(self, *parts: str, content: bytes = b"new") -> None:
        with folder_below(self.root, parts[:-1], ME, make=True) as folder:
            replace_file(folder, parts[-1], content, ME)

    def read(self, *parts: str, limit: int = 100) -> bytes | None:
        with folder_below(self.root, parts[:-1], ME, make=False) as folder:
            return read_file(folder, parts[-1], limit)

    def test_round_trip(self) -> None:
        """What is written below the root is read there; a file that is not there is None."""
        self.replace("a", "b", "file")
        self.assertEqual((self.read("a", "b", "file"), self.read("a", "other")), (b"new", None))
        self.assertRaises(FileNotFoundError, self.read, "nowhere", "file")

    def test_mode_stays(self) -> None:
        """A replaced file keeps its mode without special bits; nothing temporary stays."""
        (self.root / "file").write_text("old")
        (self.root / "file").chmod(0o4640)
        self.replace("file")
        self.assertEqual((self.root / "file").stat().st_mode & 0o7777, 0o640)
        self.assertEqual([path.name for path in self.root.iterdir()], ["file"])

    def test_names(self) -> None:
        """Names that are no names of folders are refused."""
        with folder_below(self.root, (), ME, make=False) as folder:
            for name in ("", ".", "..", "a/b"):
                self.assertRaises(PathForbidden, enter, folder, name, ME, make=True)

    def test_w10_links(self) -> None:
        """W10: no link is followed, neither of a folder nor of a file, nor is a pipe waited for."""
        (self.root / "out").symlink_to(self.outside)
        (self.root / "link").symlink_to(self.secret)
        os.mkfifo(self.root / "pipe")
        for parts in [("out", "f"), ("link",), ("pipe",)]:
            self.assertRaises(PathForbidden, self.read, *parts)
        self.assertRaises(PathForbidden, self.replace, "out", "f")
        self.replace("link")
        self.assertFalse((self.root / "link").is_symlink())
        self.untouched()

    def test_too_large(self) -> None:
        """A file over the limit is not read."""
        (self.root / "big").write_bytes(b"x" * 101)
        self.assertRaises(TooLarge, self.read, "big")

    def test_replace_that_fails(self) -> None:
        """K15: where the new file cannot take the old one's place, the old one stays and nothing else is left."""
        (self.root / "folder").mkdir()
        (self.root / "folder" / "x").write_text("")
        self.assertRaises(OSError, self.replace, "folder")
        self.assertEqual([path.name for path in self.root.iterdir()], ["folder"])
