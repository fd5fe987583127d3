"""The SSH console as people use it: a real daemon, a real container, OpenSSH's own client in a terminal of its own."""

from __future__ import annotations

import atexit
import base64
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import NodeProcess
from tests.ports import free_port

KINDS = ("ed25519", "rsa", "ecdsa")  # of alice's keys
SERVER = "srv.ssh-1"  # a dot, as ids may have
# `watch` tells of each new size at once; Ctrl-C is heard, and the game goes on.
GAME = """
trap 'echo interrupted' INT; trap 'echo size $(stty size)' WINCH
echo loading; echo Done
while :; do
  if read -r line; then
    case "$line" in
      stop) echo bye; exit 0;;
      size) echo size $(stty size);;
      flood) n=0; while [ $n -lt 300 ]; do n=$((n+1)); printf '%065000d\\n' $n; done; echo flooded;;
      *) echo "you said $line";;
    esac
  fi
done
"""


class Screen:
    """OpenSSH's client on a terminal of its own (or, without one, on pipes)."""

    def __init__(
        self, command: Sequence[str], environ: dict[str, str], *, tty: bool, rows: int = 24, cols: int = 80
    ) -> None:
        self.output = b""
        self._master, slave = pty.openpty()
        self.resize(rows, cols)
        reading, writing = (slave, slave) if tty else os.pipe()
        self._keys = self._master if tty else writing
        self.process = subprocess.Popen(
            command, stdin=reading, stdout=slave, stderr=slave, env=environ, start_new_session=True, close_fds=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        if not tty:
            os.close(reading)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, rows: int, cols: int) -> None:
        """As a person who pulls at the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self._keys, text)

    def _read(self) -> None:
        """In a thread: a client whose terminal nobody reads stands still."""
        while True:
            try:
                found = os.read(self._master, 1 << 20)
            except OSError:  # the client is gone
                return
            self.output += found

    def until(self, text: bytes, timeout: float = 20.0) -> bytes:
        """Reads until `text` was seen; answers all output so far."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            if time.monotonic() > deadline or not self._reader.is_alive():
                raise AssertionError(f"{text!r} never came; the screen ends {self.output[-800:]!r}")
            time.sleep(0.02)
        return self.output

    def ended(self, timeout: float = 20.0) -> int:
        """Reads on to the end; answers the exit status."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end; the screen ends {self.output[-800:]!r}") from None
        self._reader.join(timeout)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        os.close(self._master)
        if self._keys != self._master:
            os.close(self._keys)


class SshNode:
    """A daemon with an SSH console and one running server."""

    def __init__(self) -> None:
        self.port = free_port()
        self.node = NodeProcess()
        atexit.register(self.node.close)
        self.folder = self.node.folder
        lines = []
        for kind in KINDS:
            words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "alice@home", "-f", str(self.folder / kind)]
            subprocess.run(words, check=True)
            lines.append((self.folder / f"{kind}.pub").read_text().strip())
        with self.node.config.open("a") as config:
            config.write(
                f'[ssh]\nenabled = true\nhost = "127.0.0.1"\nport = {self.port}\n'
                f'[ssh.users.alice]\nkeys = {json.dumps(lines)}\nservers = ["*"]\n'
            )
        self.node.start()
        self.node.create(SERVER, GAME)
        words = ["ssh-keygen", "-y", "-f", str(self.node.state / "ssh_host_ed25519_key")]
        key = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}")
        askpass = self.folder / "askpass"
        askpass.write_text('#!/bin/sh\necho "$CONSOLE_TOKEN"\n')
        askpass.chmod(0o700)


@cache
def ssh_node() -> SshNode:
    """One for all tests."""
    return SshNode()


class SshNodeCase(SynchronousTestCase):
    def setUp(self) -> None:
        shared = ssh_node()
        self.node, self.folder, self.port = shared.node, shared.folder, shared.port

    def command(self, *more: str, login: str = f"user_1.{SERVER}", key: str = "") -> list[str]:
        """`ssh` with nothing of this machine's own in it; the host key is checked."""
        options = {
            "UserKnownHostsFile": str(self.folder / "known"), "StrictHostKeyChecking": "yes",
            "NumberOfPasswordPrompts": "1",
            "PreferredAuthentications": "publickey" if key else "password", "IdentitiesOnly": "yes",
            "PubkeyAuthentication": "yes" if key else "no", "LogLevel": "INFO",
        }  # fmt: skip
        command = [
            "ssh",
            "-F",
            "/dev/null",
            "-p",
            str(self.port),
            "-l",
            login,
            "-i",
            str(self.folder / (key or "none")),
        ]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        return [*command, *more]

    def environ(self, token: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "TERM": "xterm", "HOME": str(self.folder),
            "SSH_ASKPASS": str(self.folder / "askpass"),
            "SSH_ASKPASS_REQUIRE": "force", "CONSOLE_TOKEN": token,
        }  # fmt: skip

    def ssh(
        self, *more: str, token: str | None = None, tty: bool = True, size: tuple[int, int] = (24, 80), **login: Any
    ) -> Screen:
        if token is None:
            token = self.node.token(SERVER)
        words = [*more] if "127.0.0.1" in more else [*more, "127.0.0.1"]
        screen = Screen(self.command(*words, **login), self.environ(token), tty=tty, rows=size[0], cols=size[1])
        self.addCleanup(screen.close)
        return screen

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        return self.node.until(holds, 20, what)

    def audits(self, action: str) -> list[dict[str, Any]]:
        return self.node.events("console.audit", action=action)


class OpenSshTests(SshNodeCase):
    def test_watch_type_leave(self) -> None:
        """A line and its answer, the scrollback, the audit, and status 0 for who leaves by Ctrl-]."""
        before = len(self.audits("session_end"))
        screen = self.ssh()
        screen.until(b"Ctrl-] leaves]\r\n")
        screen.type(b"hello\r")
        screen.until(b"you said hello\r\n")
        self.ssh().until(b"you said hello\r\n")
        screen.type(b"\x1d")
        self.assertEqual(screen.ended(), 0)
        self.until(lambda: len(self.audits("session_end")) > before, "the audit of the end")
        told = [event["data"].get("command") for event in self.audits("command_sent")]
        self.assertIn("hello", told)
        self.assertTrue(self.audits("session_start")[-1]["userAgent"].startswith("SSH-2.0-OpenSSH"))

    def test_window_and_control_keys(self) -> None:
        """The program in the container has the terminal's size, hears of a new one, and gets Ctrl-C."""
        screen = self.ssh(size=(33, 101))
        screen.until(b"Ctrl-] leaves]\r\n")
        screen.type(b"size\r")
        screen.until(b"size 33 101\r\n")
        screen.resize(44, 120)
        screen.until(b"size 44 120\r\n")
        screen.type(b"\x03")
        screen.until(b"interrupted\r\n")

    def test_bytes(self) -> None:
        """What is shown is what the container wrote, byte for byte: as the raw WebSocket has it."""
        screen = self.ssh()
        greeting = screen.until(b"Ctrl-] leaves]\r\n")
        screen.type("flüssig\r".encode())
        screen.until("you said flüssig\r\n".encode())
        viewer = self.node.console(SERVER, "?scrollback=65536")
        shown = viewer.until("you said flüssig\r\n".encode())
        viewer.close()
        self.assertIn(screen.output[len(greeting) :], shown)

    def test_read_only(self) -> None:
        """Without console.write one watches; typing is told of once."""
        screen = self.ssh(token=self.node.token(SERVER, ["console.read"]))
        screen.until(b"read-only; Ctrl-] leaves]\r\n")
        screen.type(b"secret words\r")
        screen.until(b"may watch, not type")
        other = self.ssh()
        other.until(b"Ctrl-] leaves]\r\n")
        other.type(b"seen by all\r")
        screen.until(b"you said seen by all\r\n")
        self.assertNotIn(b"secret words", other.output)

    def test_without_a_terminal(self) -> None:
        """`ssh -T` with pipes is the plain console."""
        screen = self.ssh("-T", tty=False)
        screen.until(b"Ctrl-] leaves]")
        screen.type(b"piped\n")
        screen.until(b"you said piped")
        screen.type(b"\x1d")
        self.assertEqual(screen.ended(), 0)

    def test_by_key(self) -> None:
        """A key of daemon.toml instead of a token, of each kind that OpenSSH makes."""
        for kind in KINDS:
            screen = self.ssh(login=f"alice.{SERVER}", key=kind, token="none")
            screen.until(b"Ctrl-] leaves]\r\n")
            screen.type(f"from alice by {kind}\r".encode())
            screen.until(f"you said from alice by {kind}\r\n".encode())
        self.until(lambda: "alice" in [e["userId"] for e in self.audits("command_sent")], "alice's line")

    def test_wrong(self) -> None:
        """S04, C03: a token that is none, another user's, another server's: denied, in the same words."""
        rows = [
            ("bad", f"user_1.{SERVER}"), ("", f"user_1.{SERVER}"), (self.node.token(SERVER), f"user_2.{SERVER}"),
            (self.node.token("srv_2"), f"user_1.{SERVER}"), (self.node.token(SERVER), "user_1.srv_2"),
        ]  # fmt: skip
        for token, login in rows:
            screen = self.ssh(token=token, login=login)
            self.assertEqual(screen.ended(), 255)
            self.assertIn(b"Permission denied (publickey,password)", screen.output)
        screen = self.ssh(login=f"bob.{SERVER}", key="ed25519")
        self.assertEqual(screen.ended(), 255)

    def test_expiry(self) -> None:
        """K23: the session ends with its token; an expired one does not let in, and says so."""
        short = self.node.token(SERVER, lifetime=4)
        screen = self.ssh(token=short)
        screen.until(b"this login ends in")
        self.assertEqual(screen.ended(), 1)
        self.assertIn(b"the login has expired", screen.output)
        late = self.ssh(token=short)
        self.assertEqual(late.ended(), 255)
        self.assertIn(b"the token has expired", late.output)

    def test_several_and_a_revoke(self) -> None:
        """Several at once, each sees all; a revoke ends all of a user's at once, W11, W12."""
        old = self.node.token(SERVER)
        screens = [self.ssh(token=old) for _ in range(3)]
        for screen in screens:
            screen.until(b"Ctrl-] leaves]\r\n")
        screens[0].type(b"to all\r")
        for screen in screens:
            screen.until(b"you said to all\r\n")
        self.assertGreaterEqual(self.node.run("console.revoke", userId="user_1")["closed"], 3)
        for screen in screens:
            self.assertEqual(screen.ended(), 1)
            self.assertIn(b"[stellarstack: revoked]", screen.output)
        self.assertEqual(self.ssh(token=old).ended(), 255)
        time.sleep(1.1)  # a token of the same second is revoked, too

    def test_a_revoke_before_the_first_terminal(self) -> None:
        """W11: a connection that has logged in and opened nothing yet ends, too, and says why."""
        control = Path(tempfile.mkdtemp()) / "control"
        self.addCleanup(shutil.rmtree, control.parent)
        token = self.node.token(SERVER)
        master = self.ssh("-M", "-N", "-S", str(control), tty=False, token=token)
        self.until(control.exists, "a connection without a terminal")
        jti = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["jti"]
        self.assertEqual(self.node.run("console.revoke", jti=jti)["closed"], 0)
        self.assertEqual(master.ended(), 255)
        self.assertIn(b"revoked", master.output)

    def test_nothing_but_the_console(self) -> None:
        """S07: no command, subsystem, forwarding to here or from here."""
        screen = self.ssh("127.0.0.1", "id", tty=False)
        self.assertNotEqual(screen.ended(), 0)
        self.assertIn(b"exec request failed", screen.output)
        screen = self.ssh("-s", "127.0.0.1", "sftp", tty=False)
        self.assertNotEqual(screen.ended(), 0)
        self.assertIn(b"subsystem request failed", screen.output)
        screen = self.ssh("-o", "ExitOnForwardFailure=yes", "-R", f"{free_port()}:127.0.0.1:{self.node.port}")
        self.assertEqual(screen.ended(), 255)
        self.assertIn(b"remote port forwarding failed", screen.output)
        here = free_port()
        screen = self.ssh("-L", f"127.0.0.1:{here}:127.0.0.1:{self.node.port}")
        screen.until(b"Ctrl-] leaves]\r\n")
        with socket.create_connection(("127.0.0.1", here), 10) as line:
            line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(line.recv(1000), b"")
        screen.until(b"administratively prohibited")

    def test_weak_algorithms(self) -> None:
        """W21: a client that offers only weak ones finds no match."""
        for option in ("Ciphers=3des-cbc", "Ciphers=aes128-cbc", "MACs=hmac-md5", "MACs=hmac-sha1",
                       "KexAlgorithms=diffie-hellman-group14-sha1", "KexAlgorithms=ecdh-sha2-nistp256"):  # fmt: skip
            screen = self.ssh("-o", option)
            self.assertEqual(screen.ended(), 255)
            self.assertIn(b"no matching", screen.output, option)

    def test_a_suspended_client(self) -> None:
        """A client that reads nothing for a while stalls nobody, and is told what it missed when it goes on."""
        slow, fast = self.ssh(), self.ssh()
        for screen in (slow, fast):
            screen.until(b"Ctrl-] leaves]\r\n")
        before = self.node.rss()
        slow.process.send_signal(signal.SIGSTOP)
        fast.type(b"flood\r")
        fast.until(b"\r\nflooded\r\n", 60)
        self.assertLess(self.node.rss() - before, 40 << 20)
        slow.process.send_signal(signal.SIGCONT)
        slow.until(b"\r\nflooded\r\n", 60)
        self.assertIsNotNone(re.search(rb"\[stellarstack: [0-9]+ bytes are missing here\]", slow.output))

    def test_secrets(self) -> None:
        """P07: no token in the log, at debug; the host key is a private file."""
        token = self.node.token(SERVER)
        for login in (f"user_1.{SERVER}", "user_1.other"):
            screen = self.ssh(token=token, login=login)
            screen.type(b"\x1d")
            screen.ended()
        self.assertNotIn(token[-40:], self.node.log)
        self.assertNotIn("Traceback", self.node.log)
        self.assertEqual((self.node.state / "ssh_host_ed25519_key").stat().st_mode & 0o777, 0o600)


class AuditedTests(SshNodeCase):
    def test_ssh_audit(self) -> None:
        """W21, S06: ssh-audit finds no [fail], no Terrapin and no missing throttle."""
        tool = Path(sys.executable).with_name("ssh-audit")
        if not tool.exists():
            found = shutil.which("ssh-audit")
            self.assertIsNotNone(found, "ssh-audit is of the test extra")
            tool = Path(str(found))
        report = subprocess.run(
            [tool, "-p", str(self.port), "127.0.0.1"], capture_output=True, text=True, check=False
        ).stdout
        time.sleep(1)  # until this address may connect again
        self.assertIn("SSH-2.0-StellarStack", report)
        for bad in ("[fail]", "Terrapin", "CVE-", "insufficient connection throttling"):
            self.assertNotIn(bad, report)


class ThrottledTests(SshNodeCase):
    def test_a_flood_of_connections(self) -> None:
        """F5: of 300 connections of one address few are spoken to; a viewer that is in types on, and memory stays."""
        viewer = self.ssh()
        viewer.until(b"Ctrl-] leaves]\r\n")
        before = self.node.rss()
        spoken, lines = 0, []
        for _ in range(300):
            lines.append(socket.create_connection(("127.0.0.1", self.port), 10))
        for line in lines:
            line.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                spoken += line.recv(4) == b"SSH-"
        self.assertLessEqual(spoken, 10)
        viewer.type(b"still here\r")
        viewer.until(b"you said still here\r\n")
        self.assertLess(self.node.rss() - before, 16 << 20)
        for line in lines:
            line.close()
        time.sleep(1)  # until this address may connect again

    def test_an_ordered_stop(self) -> None:
        """The daemon stops: its viewers are told, and leave with a status of their own."""
        viewer = self.ssh()
        viewer.until(b"Ctrl-] leaves]\r\n")
        self.assertEqual(self.node.term(), 0)
        self.assertEqual(viewer.ended(), 1)
        self.assertIn(b"[stellarstack: the daemon stops]", viewer.output)
        self.node.start()
        self.node.forget_redis()
        self.ssh().until(b"Ctrl-] leaves]\r\n")
