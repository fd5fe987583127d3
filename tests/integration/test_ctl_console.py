"""`stellarctl console` and `logs` in a real pseudo-terminal, on a real daemon that is killed under them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import CHECKOUT, NodeProcess
from tests.integration.test_ctl_daemon import CTL, docker_missing

DEADLINE = 60.0
# A shell of our own: runs vi, sleeps until Ctrl-C, tells its terminal's size, and counts without end.
SHELL = r"""trap : INT; echo Done
while read -r word rest; do
  case "$word" in
    vi) vi /data/note; echo "vi has ended";;
    cat) cat /data/note;;
    sleep) sleep 1000; echo "slept $?";;
    size) echo "size $(stty size)";;
    count) n=0; while :; do n=$((n+1)); echo "line $n of a game that goes on"; busybox usleep 3000; done;;
    stop) exit 0;;
  esac
done"""


class OnTerminal:
    """stellarctl in a pseudo-terminal of 100 x 30; its remarks go to a file, so that `shown` is the game's alone."""

    def __init__(self, node: NodeProcess, *words: str) -> None:
        self.near, self._far = pty.openpty()
        termios.tcsetwinsize(self._far, (30, 100))
        self.before = termios.tcgetattr(self._far)
        self.shown = b""
        self._remarks = node.folder / f"remarks-{self.near}"
        with self._remarks.open("wb") as remarks:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CTL, "-c", str(node.config), *words],
                stdin=self._far, stdout=self._far, stderr=remarks, preexec_fn=self._take_terminal, cwd=CHECKOUT,
            )  # fmt: skip

    def _take_terminal(self) -> None:
        """The terminal is its own, as a login shell's is: the kernel tells it of a new size and of Ctrl-C."""
        os.setsid()
        fcntl.ioctl(self._far, termios.TIOCSCTTY, 0)

    @property
    def said(self) -> str:
        return self._remarks.read_text()

    def until(self, met: Any, what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not met():
            if time.monotonic() > end:
                raise AssertionError(f"never: {what}; shown {self.shown[-2000:]!r}; said {self.said}")
            if select.select([self.near], [], [], 0.1)[0]:
                self.shown += os.read(self.near, 65536)

    def await_text(self, wanted: bytes) -> None:
        self.until(lambda: wanted in self.shown, repr(wanted))

    def type(self, keys: bytes) -> None:
        os.write(self.near, keys)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.near, (rows, columns))

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._far)

    def leave(self, keys: bytes = b"\x1d") -> int:
        """Types `keys`; the exit status, once all that was shown is read."""
        self.type(keys)
        self.until(lambda: self.process.poll() is not None, "stellarctl ends")
        while select.select([self.near], [], [], 0)[0]:
            self.shown += os.read(self.near, 65536)
        return self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.near)
        os.close(self._far)


class TestConsoleOnTerminal(SynchronousTestCase):
    """What an operator sees and does, while all around it breaks."""

    skip = docker_missing()

    def setUp(self) -> None:
        self.node = NodeProcess()
        self.addCleanup(self.node.close)
        self.node.start()
        self.node.create("s", SHELL)

    def terminal(self, *words: str) -> OnTerminal:
        found = OnTerminal(self.node, *words)
        self.addCleanup(found.close)
        found.until(lambda: found.process.poll() is not None or "is running" in found.said, "attached")
        return found

    def ctl(self, *words: str, status: int = 0) -> str:
        command = [sys.executable, "-c", CTL, "-c", str(self.node.config), *words]
        done = subprocess.run(command, capture_output=True, timeout=DEADLINE, cwd=CHECKOUT, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout.decode()

    def test_full_screen_program(self) -> None:
        """vi works: it draws to the window's size and follows it, takes Ctrl-C, and what it wrote is there."""
        console = self.terminal("console", "s")
        self.await_size(console, 30, 100)
        console.type(b"vi\r")
        console.await_text(b"\x1b[30;1H")  # its last line
        console.resize(17, 60)
        console.await_text(b"\x1b[17;1H")
        console.type(b"ihello")
        console.await_text(b"hello")
        console.type(b"\x03")  # ends vi's insert mode, and not stellarctl
        console.type(b":wq\r")
        console.await_text(b"vi has ended")
        console.type(b"cat\r")
        console.await_text(b"\r\nhello")
        console.type(b"sleep\r")
        console.await_text(b"sleep\r\n")
        time.sleep(0.2)  # the shell has begun it: nothing tells so
        console.type(b"\x03")
        console.await_text(b"slept 130")
        self.assertEqual(console.leave(), 0)
        self.assertEqual(console.modes(), console.before)
        self.assertTrue(console.shown.endswith(b"\x1b[0m\x1b[?25h"))

    def await_size(self, console: OnTerminal, rows: int, columns: int) -> None:
        """A size travels beside the keys, by way of the engine: asks until it has come."""
        wanted = b"size %d %d\r" % (rows, columns)
        end = time.monotonic() + DEADLINE
        while wanted not in console.shown:
            self.assertLess(time.monotonic(), end, console.shown[-500:])
            console.shown = b""
            console.type(b"size\r")
            console.until(lambda: re.search(rb"size \d+ \d+\r\n", console.shown), "its size")

    def test_killed_daemon(self) -> None:
        """kill -9 of the daemon under a console that watches a busy game: no line is lost, none comes twice.

        The recording made meanwhile is the same stream, with times that only grow and the new size of the window.
        """
        path = self.node.folder / "run.cast"
        console = self.terminal("console", "s", "--record", str(path))
        console.type(b"count\r")
        console.await_text(b"line 100 ")
        for _ in range(2):
            self.node.kill()
            console.until(lambda: console.said.count("trying again") > console.said.count("connected again"), "lost")
            self.node.start()
            console.until(lambda: console.said.count("trying again") == console.said.count("connected again"), "back")
        console.resize(50, 90)
        console.until(lambda: '"90x50"' in path.read_text(), "the new size stands in the recording")
        newest = int(re.findall(rb"line (\d+) of", console.shown)[-1])
        console.await_text(b"line %d " % (newest + 100))
        self.assertEqual(console.leave(), 0)
        lines = [int(number) for number in re.findall(rb"line (\d+) of a game that goes on\r\n", console.shown)]
        self.assertEqual(lines, list(range(1, len(lines) + 1)))
        self.assertNotIn("not shown", console.said)
        self.check_recording(path, console.shown)

    def check_recording(self, path: Path, shown: bytes) -> None:
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        header, *events = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual((header["version"], header["width"], header["height"]), (2, 100, 30))
        times = [event[0] for event in events]
        self.assertEqual(times, sorted(times))
        played = "".join(event[2] for event in events if event[1] == "o")
        self.assertEqual(played, shown.removesuffix(b"\x1b[0m\x1b[?25h").decode())
        self.assertEqual([event[2] for event in events if event[1] == "r"], ["90x50"])
        self.assertEqual(len([event for event in events if event[1] == "m" and "trying again" in event[2]]), 2)
        self.assertIn("--force", self.refused("console", "s", "--record", str(path)))

    def refused(self, *words: str) -> str:
        command = [sys.executable, "-c", CTL, "-c", str(self.node.config), *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 1)
        return done.stderr.decode()

    def test_watching(self) -> None:
        """A read-only console shows, sends no key and no size, and Ctrl-C leaves it with the terminal as it was."""
        console = self.terminal("console", "s", "--read-only")
        console.type(b"size\r")
        self.ctl("send", "server.command", "serverId=s", "command=size")
        console.await_text(b"size 24 80")
        self.assertEqual(console.leave(b"\x03"), 0)
        self.assertEqual(console.shown.count(b"size 24 80"), 1)
        self.assertEqual(console.modes(), console.before)

    def test_logs(self) -> None:
        """The newest lines, all lines, the lines that follow; a pipe's reader that goes ends it."""
        console = self.terminal("console", "s")
        console.type(b"count\r")
        console.await_text(b"line 20 ")
        told = self.ctl("logs", "s", "-n", "5").splitlines()
        self.assertEqual(len(told), 5)
        whole = self.ctl("logs", "s", "--since", "0").splitlines()
        self.assertIn("line 1 of a game that goes on", whole)
        command = [sys.executable, "-c", CTL, "-c", str(self.node.config), "logs", "s", "-f", "-n", "3"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
            assert following.stdout is not None and following.stderr is not None
            numbers = [int(following.stdout.readline().split()[1]) for _ in range(200)]
            self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 200)))
            following.stdout.close()
            self.assertEqual(following.wait(DEADLINE), 0)
            self.assertEqual(following.stderr.read(), b"")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
            assert following.stdout is not None
            following.stdout.readline()
            following.send_signal(signal.SIGINT)
            self.assertEqual(following.communicate(timeout=DEADLINE)[1], b"")
            self.assertEqual(following.returncode, 0)
