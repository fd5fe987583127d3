"""The state folder: made, held, and written without half files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import stellarstack
from stellarstack.atomic import make_once, remove_leftovers, write_atomically
from stellarstack.errors import ConfigError
from stellarstack.statefolder import (
    TRAVERSABLE,
    StateFolder,
    StateFolderTaken,
    installation_id,
    make_folder,
)

KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from stellarstack import atomic
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
atomic.write_atomically(Path(sys.argv[1]), b"new" * 100_000)
"""
HOLD = """
import sys
from pathlib import Path
from stellarstack.statefolder import StateFolder
folder = StateFolder.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(stellarstack.__file__).parents[1])}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class FolderCase(SynchronousTestCase):
    """A folder of the test's own."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()


class InstallationTests(FolderCase):
    def test_made_once(self) -> None:
        """A state folder has one id for ever, its own and private."""
        other = self.base / "other"
        other.mkdir()
        found = installation_id(self.base)
        self.assertRegex(found, "^[0-9a-f]{32}$")
        self.assertEqual(installation_id(self.base), found)
        self.assertNotEqual(installation_id(other), found)
        self.assertEqual(_mode(self.base / "installation"), 0o600)

    def test_refused(self) -> None:
        """A file that is no id, or cannot be read, is not made anew: what runs would be given up."""
        for content in ("", "x" * 32, "0" * 33):
            (self.base / "installation").write_text(content)
            error = self.assertRaises(ConfigError, installation_id, self.base)
            self.assertIn("installation", str(error))
        (self.base / "installation").unlink()
        (self.base / "installation").mkdir()
        self.assertRaises(ConfigError, installation_id, self.base)


class MakeTests(FolderCase):
    """Folders that are made."""

    def test_modes(self) -> None:
        """A missing folder has exactly its mode, whatever the umask; its missing parents can be passed through."""
        old = os.umask(0o077)
        self.addCleanup(os.umask, old)
        make_folder(self.base / "state")
        make_folder(self.base / "servers", TRAVERSABLE)
        self.assertEqual((_mode(self.base / "state"), _mode(self.base / "servers")), (0o700, 0o711))

    def test_left_as_it_is(self) -> None:
        """A folder that is there keeps its mode and what is in it."""
        (self.base / "mine").mkdir(mode=0o750)
        (self.base / "mine/file").write_text("x")
        make_folder(self.base / "mine")
        self.assertEqual(_mode(self.base / "mine"), 0o750)
        self.assertEqual((self.base / "mine/file").read_text(), "x")

    def test_in_the_way(self) -> None:
        """A file where a folder should be is one line that names the key and the path."""
        (self.base / "file").write_text("x")
        for path in (self.base / "file", self.base / "file/below"):
            error = self.assertRaises(ConfigError, make_folder, path, 0o700, "[paths] backups")
            self.assertIn("[paths] backups", str(error))
            self.assertIn(str(path), str(error))


class TakeTests(FolderCase):
    """Who holds the folder."""

    def test_second_is_refused(self) -> None:
        """A second daemon on the same folder is refused, by name of the first, with exit status 75 (K31)."""
        with StateFolder.take(self.base / "state"):
            error = self.assertRaises(StateFolderTaken, StateFolder.take, self.base / "state")
        self.assertEqual(error.exit_status, 75)
        self.assertIn(f"process {os.getpid()}", str(error))
        self.assertEqual(_mode(self.base / "state"), 0o700)

    def test_free_again(self) -> None:
        """A folder that was released can be taken; releasing twice is no error."""
        folder = StateFolder.take(self.base)
        folder.release()
        folder.release()
        StateFolder.take(self.base).release()

    def test_kill_frees(self) -> None:
        """A holder that is killed leaves no lock behind, and while it lives it holds against other processes (K31)."""
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.base)],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        self.assertEqual(holder.stdout.readline(), b"held\n")
        error = self.assertRaises(StateFolderTaken, StateFolder.take, self.base)
        self.assertIn(str(holder.pid), str(error))
        holder.kill()
        holder.communicate()
        StateFolder.take(self.base).release()

    def test_child_does_not_hold(self) -> None:
        """A process that the daemon starts does not inherit the hold: an embedded Redis outlives a kill -9 (K31)."""
        folder = StateFolder.take(self.base)
        child = subprocess.Popen(["/bin/cat"], close_fds=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"runs\n")
        child.stdin.flush()
        self.assertEqual(child.stdout.readline(), b"runs\n")
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        folder.release()
        StateFolder.take(self.base).release()

    def test_unusable(self) -> None:
        """A folder where the lock cannot be made is a config error; a link in its place is not followed."""
        (self.base / "daemon.lock").symlink_to(self.base / "elsewhere")
        error = self.assertRaises(ConfigError, StateFolder.take, self.base)
        self.assertIn(str(self.base), str(error))
        self.assertFalse((self.base / "elsewhere").exists())


class WriteTests(FolderCase):
    """Files that are whole."""

    def test_replaces(self) -> None:
        """The new content is there, with its mode, and nothing else in the folder."""
        path = self.base / "secret"
        write_atomically(path, b"old")
        write_atomically(path, b"new", 0o640)
        self.assertEqual(path.read_bytes(), b"new")
        self.assertEqual(_mode(path), 0o640)
        self.assertEqual([entry.name for entry in self.base.iterdir()], ["secret"])

    def test_private_by_default(self) -> None:
        """Nobody else can read what is written without a mode."""
        write_atomically(self.base / "secret", b"x")
        self.assertEqual(_mode(self.base / "secret"), 0o600)

    def test_failure_keeps_the_old(self) -> None:
        """Where the write fails the old file is untouched and no part of the new one stays (K14, K15)."""
        target = self.base / "folder"
        target.mkdir()
        (target / "inside").write_text("x")
        self.assertRaises(OSError, write_atomically, target, b"new")
        self.assertEqual([entry.name for entry in self.base.iterdir()], ["folder"])

    def test_make_once(self) -> None:
        """A file that is there is left as it is, and nothing else stays."""
        path = self.base / "secret"
        for content in (b"first", b"second"):
            make_once(path, content)
            self.assertEqual(path.read_bytes(), b"first")
        self.assertEqual([entry.name for entry in self.base.iterdir()], ["secret"])

    def test_kill_in_the_middle(self) -> None:
        """A kill -9 while it is written leaves the old file; only the leftover goes at the next start (K15)."""
        path = self.base / "daemon.toml"
        path.write_bytes(b"old")
        (self.base / ".mine.tmp").write_text("kept")
        ended = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], env=ENVIRONMENT, check=False)
        self.assertEqual(ended.returncode, -9)
        self.assertEqual(path.read_bytes(), b"old")
        self.assertEqual(len(list(self.base.iterdir())), 3)
        removed = remove_leftovers([self.base, self.base / "not there"])
        self.assertEqual(len(removed), 1)
        self.assertEqual(sorted(entry.name for entry in self.base.iterdir()), [".mine.tmp", "daemon.toml"])
