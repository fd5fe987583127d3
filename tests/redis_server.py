"""Throw-away Redis servers, sentinels and a TCP proxy with faults, for tests. Each stops what it started, by pid."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet import protocol
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol

from tests.ports import free_port

START_TIMEOUT = 10.0


def missing(program: str = "redis-server") -> str | None:
    """Why tests that need `program` cannot run, None where they can (trial's `skip`)."""
    return None if shutil.which(program) else f"{program} is not installed"


@dataclass
class Ask:
    """A tiny blocking RESP connection, for arranging and checking what a test needs. Knows nothing of txredisapi."""

    address: tuple[str, int] | str
    login: Sequence[str] = ()
    timeout: float = 5.0
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.settimeout(self.timeout)
        self._socket.connect(self.address)
        self._file = self._socket.makefile("rb")
        if self.login:
            self("AUTH", *self.login)

    def __call__(self, *arguments: str | bytes | int) -> Any:
        self.send(*arguments)
        return self.read()

    def send(self, *arguments: str | bytes | int) -> None:
        parts = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts))

    def pipeline(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        for command in commands:
            self.send(*command)
        return [self.read() for _ in commands]

    def read(self) -> Any:
        line = self._file.readline()
        if not line:
            raise ConnectionError("Redis hung up")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        return None if rest == b"-1" else [self.read() for _ in range(int(rest))]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class RedisServer:
    """One server process on a port of 127.0.0.1 (kept over restarts). `config` are lines of redis.conf."""

    def __init__(self, *config: str, port: int | None = None, program: str = "redis-server", tls: bool = False) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="stellar-redis-"))
        self._program = program
        self.config = config
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> RedisServer:
        plain = [f"port {self.port}"] if not self._tls else ["port 0", f"tls-port {self.port}"]
        lines = [*plain, "bind 127.0.0.1", f"dir {self.folder}", "save ''", *self.config]
        path = self.folder / "redis.conf"
        if not path.exists():
            path.write_text("\n".join(lines) + "\n")
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen([self._program, str(path)], stdout=log, stderr=log)
        log.close()
        self._await_answer()
        return self

    def ask(self, *login: str) -> Ask:
        return Ask(("127.0.0.1", self.port), login)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once, without a word to anyone. `start` brings it back on the same port and folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ends it for good."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _await_answer(self) -> None:
        """Right after its start it has a port and says LOADING to everything; that is not yet up."""
        until = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text(errors="replace"))
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as caller:
                if self._tls:
                    return True
                caller.sendall(b"PING\r\n")
                said = caller.recv(64)
        except OSError:
            return False
        return bool(said) and not said.startswith(b"-LOADING")


class FaultyProxy:
    """A TCP proxy in front of a Redis that can fall silent or cut its connections."""

    def __init__(self, reactor: Any, target: int) -> None:
        self._reactor = reactor
        self._target = target
        self.pairs: list[_Near] = []
        self.silent = False
        factory = protocol.Factory.forProtocol(_Near)
        factory.noisy = False
        factory.proxy = self  # type: ignore[attr-defined]
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    def blackhole(self) -> None:
        """From now on nothing passes, in either direction, and nobody is told; new connections are taken too."""
        self.silent = True

    def heal(self) -> None:
        """Passes again what comes from now on."""
        self.silent = False

    def reset(self) -> None:
        """Cuts every connection with RST."""
        for near in list(self.pairs):
            near.transport.abortConnection()

    async def stop(self) -> None:
        await self._listening.stopListening()
        self.reset()

    def connect(self, near: _Near) -> Any:
        far = _Far()
        far.near = near
        return connectProtocol(HostnameEndpoint(self._reactor, "127.0.0.1", self._target), far)


class _Near(protocol.Protocol):
    """The side towards who is tested."""

    factory: Any
    transport: Any

    def __init__(self) -> None:
        self.far: _Far | None = None
        self._early: list[bytes] = []

    def connectionMade(self) -> None:
        self.factory.proxy.pairs.append(self)
        if not self.factory.proxy.silent:
            self.factory.proxy.connect(self).addCallbacks(self._joined, lambda _: self.transport.abortConnection())

    def _joined(self, far: _Far) -> None:
        self.far = far
        for piece in self._early:
            far.transport.write(piece)

    def dataReceived(self, data: bytes) -> None:
        if self.factory.proxy.silent:
            return
        if self.far is None:
            self._early.append(data)
        else:
            self.far.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.proxy.pairs.remove(self)
        if self.far is not None:
            self.far.transport.abortConnection()


class _Far(protocol.Protocol):
    """The side towards Redis."""

    near: _Near
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        if not self.near.factory.proxy.silent:
            self.near.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.near.transport.abortConnection()
