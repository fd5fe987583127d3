"""stellarctl against a real daemon with a real container: servers, console in a terminal, doctor, tokens, events."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.images import ensure_busybox_image
from tests.ports import free_port

NODE = f"node_ctltest{os.getpid()}"
DEADLINE = 60.0
CTL = "import sys; from stellarstack.ctl.main import main; sys.exit(main())"
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
SHELL = 'stty -echo; echo ready; while read line; do echo "[$line] $(stty size)"; done'


def docker_missing() -> str | None:
    done = subprocess.run(["docker", "version"], capture_output=True, check=False) if shutil.which("docker") else None
    return None if done and done.returncode == 0 else "no Docker Engine answers"


class Daemon:
    """A daemon process with a Redis of its own, in a folder of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ctl-"))
        self.config = self.folder / "daemon.toml"
        self.port, self.redis = free_port(), free_port()
        self.config.write_text(
            f'[node]\nid = "{NODE}"\napi_token = "strk_node_ctl_test"\n'
            f'[redis]\nurl = "embedded"\nembedded_port = {self.redis}\n[server]\nport = {self.port}\n'
            '[paths]\nstate = "state"\ncontrol_socket = "daemon.sock"\n'
        )
        self.config.chmod(0o600)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-c", TWISTD, "-n", "--pidfile=", "stellarstack", "-c", self.config],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
        )  # fmt: skip
        log.close()
        until(lambda: "ONLINE" in self.ctl("node", "info", status=None), "the node is ONLINE", self.log)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def ctl(self, *words: str, status: int | None = 0, typed: str = "") -> str:
        """What stellarctl printed; of one that is to fail, what it printed on standard error."""
        done = subprocess.run(
            [sys.executable, "-c", CTL, "-c", str(self.config), *words], input=typed, text=True, capture_output=True,
            timeout=DEADLINE,
        )  # fmt: skip
        if status is not None and done.returncode != status:
            raise AssertionError(f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}\n{self.log()}")
        return done.stderr if status else done.stdout

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.ctl("server", "delete", "s", status=None)
            self.stop()
        listing = ["docker", "ps", "-aq", "--filter", f"label=stellarstack.node={NODE}"]
        found = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()
        if found:
            subprocess.run(["docker", "rm", "-f", *found], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def until(met: Any, what: str, log: Any) -> None:
    end = time.monotonic() + DEADLINE
    while not met():
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE:.0f} s: {what}\n{log()}")
        time.sleep(0.05)


@cache
def daemon() -> Daemon:
    """One for all tests, with a server `s` that echoes lines and tells its terminal's size."""
    image = ensure_busybox_image()
    found = Daemon()
    atexit.register(found.remove)
    found.start()
    blueprint = found.folder / "echo.json"
    blueprint.write_text(
        json.dumps(
            {
                "id": "echo", "name": "Echo", "docker": {"image": image, "stop_command": "^C", "stop_timeout": 5},
                "resources": {"memory": 64, "cpu": 1.0, "pids": 32, "disk": 64},
                "ports": [{"container": 7777, "protocol": "tcp"}],
                "startup": {"command": ["/bin/sh", "-c", SHELL], "readyCheck": {"type": "log", "pattern": "ready"}},
            }
        )
    )  # fmt: skip
    told = found.ctl("server", "create", "s", "-b", str(blueprint), "-p", str(free_port()), "--name", "Echo server")
    assert "running" in told, told
    return found


class OnTerminal:
    """stellarctl in a pseudo-terminal of 100 x 30."""

    def __init__(self, found: Daemon, *words: str) -> None:
        self.near, far = pty.openpty()
        termios.tcsetwinsize(far, (30, 100))
        self.before = termios.tcgetattr(far)
        self._far = far
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CTL, "-c", str(found.config), *words], stdin=far, stdout=far, stderr=far,
            preexec_fn=self._take_terminal,
        )  # fmt: skip

    def _take_terminal(self) -> None:
        """The terminal is its own, as a login shell's is: Ctrl-C is a signal where it is not raw."""
        os.setsid()
        fcntl.ioctl(self._far, termios.TIOCSCTTY, 0)

    def await_text(self, wanted: bytes) -> None:
        end = time.monotonic() + DEADLINE
        while wanted not in self.shown:
            if not select.select([self.near], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{wanted!r} is not in {self.shown[-2000:]!r}")
            self.shown += os.read(self.near, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self.near, keys)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._far, (rows, columns))
        self.process.send_signal(signal.SIGWINCH)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._far)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.near)
        os.close(self._far)


class TestWithDaemon(SynchronousTestCase):
    """What an operator does on the node."""

    skip = docker_missing()

    def setUp(self) -> None:
        self.daemon = daemon()

    def terminal(self, *words: str) -> OnTerminal:
        found = OnTerminal(self.daemon, *words)
        self.addCleanup(found.close)
        return found

    def test_list(self) -> None:
        """The server is listed with its state and port, for people and for programs."""
        lines = self.daemon.ctl("server", "list").splitlines()
        self.assertEqual(lines[1].split()[:2], ["s", "running"])
        (row,) = json.loads(self.daemon.ctl("server", "list", "--json"))
        self.assertEqual((row["serverId"], row["name"]), ("s", "Echo server"))

    def test_power(self) -> None:
        """stop, start, restart and kill do what they say."""
        self.assertIn("stopped", self.daemon.ctl("server", "stop", "s"))
        self.assertIn("running", self.daemon.ctl("server", "start", "s"))
        self.assertIn("running", self.daemon.ctl("server", "restart", "s"))
        self.assertIn("stopped", self.daemon.ctl("server", "kill", "s"))
        self.assertIn("running", self.daemon.ctl("server", "start", "s"))
        self.assertIn("server_not_found", self.daemon.ctl("server", "start", "nobody", status=1))

    def test_console(self) -> None:
        """Keys reach the game, its PTY has the window's size and follows it, Ctrl-] gives the terminal back."""
        console = self.terminal("console", "s")
        console.await_text(b"s is running")
        self.await_size(console, b"30 100")
        console.resize(40, 120)
        self.await_size(console, b"40 120")
        self.assertNotEqual(console.modes(), console.before)
        console.type(b"\x1d")
        self.assertEqual(console.process.wait(DEADLINE), 0)
        self.assertEqual(console.modes(), console.before)

    def await_size(self, console: OnTerminal, size: bytes) -> None:
        """A size travels beside the keys, by way of the engine: asks the game until it has come."""
        end = time.monotonic() + DEADLINE
        while b"[size?] " + size not in console.shown:
            self.assertLess(time.monotonic(), end, console.shown[-500:])
            console.shown = b""
            console.type(b"size?\r")
            console.await_text(b"[size?]")
            console.await_text(b"\n")
            time.sleep(0.05)

    def test_read_only_console(self) -> None:
        """A watching console shows and types nothing."""
        console = self.terminal("console", "s", "--read-only")
        console.await_text(b"s is running")
        console.type(b"forbidden\r")
        self.daemon.ctl("send", "server.command", "serverId=s", "command=allowed")
        console.await_text(b"[allowed]")
        self.assertNotIn(b"[forbidden]", console.shown)
        console.type(b"\x03")
        self.assertEqual(console.process.wait(DEADLINE), 0)

    def test_killed_console(self) -> None:
        """SIGTERM ends a console, too, with the terminal given back."""
        console = self.terminal("console", "s")
        console.await_text(b"s is running")
        console.process.terminate()
        self.assertEqual(console.process.wait(DEADLINE), 128 + signal.SIGTERM)
        self.assertEqual(console.modes(), console.before)

    def test_piped_console(self) -> None:
        """A line piped in is typed, and the answer comes out before the console is left."""
        self.assertIn("[piped]", self.daemon.ctl("console", "s", typed="piped\n"))

    def test_no_such_console(self) -> None:
        """The console of a server that is not there is one line."""
        self.assertEqual(len(self.daemon.ctl("console", "nobody", status=1).splitlines()), 1)

    def test_console_outlives_the_daemon(self) -> None:
        """While the daemon restarts, the console waits, and goes on with the same run of the game."""
        console = self.terminal("console", "s")
        console.await_text(b"s is running")
        console.type(b"before\r")
        console.await_text(b"[before]")
        self.assertEqual(self.daemon.stop(), 0)
        console.await_text(b"trying again")
        self.daemon.start()
        end = time.monotonic() + DEADLINE
        while b"[after]" not in console.shown and time.monotonic() < end:
            console.type(b"after\r")
            if select.select([console.near], [], [], 0.5)[0]:
                console.shown += os.read(console.near, 65536)
        self.assertIn(b"[after]", console.shown)
        self.assertEqual(console.shown.count(b"[before]"), 1)
        self.assertNotIn(b"not shown here", console.shown)

    def test_token(self) -> None:
        """A minted token is for the one server, and only with permissions that there are."""
        self.assertTrue(self.daemon.ctl("token", "mint", "s").startswith("strk_console_"))
        self.assertIn("server_not_found", self.daemon.ctl("token", "mint", "nobody", status=1))
        self.assertIn("permissions", self.daemon.ctl("token", "mint", "s", "--permission", "all", status=1))

    def test_events(self) -> None:
        """New events are followed on the socket, past ones are read from the node's log in Redis."""
        events = self.terminal("events", "-f", "--json")
        end = time.monotonic() + DEADLINE
        while b"console_marker" not in events.shown and time.monotonic() < end:
            self.daemon.ctl(
                "send", "server.command", "serverId=s", "command=x", "--id", f"console_marker_{time.time()}"
            )
            if select.select([events.near], [], [], 0.2)[0]:
                events.shown += os.read(events.near, 65536)
        self.assertIn(b"console_marker", events.shown)
        redis = ("--redis", f"redis://127.0.0.1:{self.daemon.redis}", "--node", NODE)
        past = [json.loads(line) for line in self.daemon.ctl("events", "--json", "-n", "5", *redis).splitlines()]
        self.assertEqual(len(past), 5)
        self.assertEqual([event["seq"] for event in past], list(range(past[0]["seq"], past[0]["seq"] + 5)))

    def test_through_redis(self) -> None:
        """The same words reach the node through Redis."""
        redis = ("--redis", f"redis://127.0.0.1:{self.daemon.redis}", "--node", NODE)
        self.assertIn("running", self.daemon.ctl("server", "list", *redis))
        self.assertIn(NODE, self.daemon.ctl("node", "info", *redis))

    def test_doctor(self) -> None:
        """On a node that is well nothing fails."""
        found = json.loads(self.daemon.ctl("doctor", "--json"))
        self.assertEqual([check for check in found if check["verdict"] == "fail"], [])
        self.assertIn("ONLINE", next(check for check in found if check["name"] == "daemon")["found"])
