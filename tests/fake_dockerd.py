"""A scripted dockerd on a UNIX socket: it records what is asked, and answers, hangs or breaks as a test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

# Holes in moby (SECURITY D02) and a door into hostile containers (D03): nothing in the daemon may call these.
FORBIDDEN = ("/archive", "/copy", "/build", "/exec", "/commit", "/export")


@dataclass(frozen=True)
class Asked:
    """One request. `path` without the API version; `params` with the last value of each."""

    method: str
    path: str
    version: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any
    line: str


Script = Callable[["Connection", Asked], object]


class Connection(Protocol):
    """One connection to the fake dockerd."""

    def __init__(self, dockerd: FakeDockerd) -> None:
        self.dockerd = dockerd
        self.received = b""  # after an upgrade: what was typed
        self.upgraded = False
        self.closed: Deferred[None] = Deferred()
        self._buffer = b""

    def reply(self, status: int, body: object = None) -> None:
        """A whole answer; `body` is a JSON value, or bytes as they are."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(raw))
        )
        self.write(raw)

    def begin(self, status: int = 200) -> None:
        """The head of a streamed answer; `chunk` and `finish` go on."""
        self.write(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status)

    def chunk(self, data: bytes) -> None:
        self.write(b"%x\r\n%s\r\n" % (len(data), data))

    def finish(self) -> None:
        self.write(b"0\r\n\r\n")

    def upgrade(self, first: bytes = b"") -> None:
        """The 101 of an attach and its first output; from now on `write` and `received` are the terminal."""
        self.upgraded = True
        self.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + first)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def drop(self) -> None:
        """dockerd dies."""
        pipe: Any = self.transport
        pipe.abortConnection()

    def connectionMade(self) -> None:
        self.dockerd.connections.append(self)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.dockerd.connections.remove(self)
        self.closed.callback(None)

    def dataReceived(self, data: bytes) -> None:
        if self.upgraded:
            self.received += data
            return
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._asked(lines[0], headers, rest[:length])

    def _asked(self, line: str, headers: dict[str, str], body: bytes) -> None:
        method, target, _ = line.split(" ")
        parts = urlsplit(target)
        version, path = "", parts.path
        if path.startswith("/v1."):
            version, _, path = path[1:].partition("/")
            path = "/" + path
        params = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.dockerd.take(self, Asked(method, path, version, params, headers, json.loads(body or b"null"), line))


class FakeDockerd:
    """Listens on `socket`. `scripts`: (method, path) -> what to do; what has no script is never answered."""

    def __init__(self, reactor: Any, socket: Path) -> None:
        self.socket = socket
        self.asked: list[Asked] = []
        self.forbidden: list[str] = []
        self.connections: list[Connection] = []
        self.scripts: dict[tuple[str, str], Script] = {}
        self.replies("GET", "/version", 200, {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})
        self._reactor = reactor
        self._port: IListeningPort | None = None
        self._waiting: list[tuple[str, Deferred[Connection]]] = []

    def listen(self) -> None:
        factory = Factory.forProtocol(lambda: Connection(self))
        self._port = self._reactor.listenUNIX(str(self.socket), factory)

    async def stop(self) -> None:
        """Closes the socket and every connection."""
        if self._port is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)
        for connection in list(self.connections):
            connection.drop()
            await connection.closed

    def script(self, method: str, path: str, script: Script) -> None:
        self.scripts[method, path] = script

    def replies(self, method: str, path: str, status: int, body: object = None) -> None:
        """Each such request is answered like this."""
        self.script(method, path, lambda connection, _: connection.reply(status, body))

    def streams(self, method: str, path: str, *chunks: bytes, finish: bool = True) -> None:
        """Each such request is answered by a stream of these pieces; without `finish` it stays open."""

        def script(connection: Connection, _: Asked) -> None:
            connection.begin()
            for chunk in chunks:
                connection.chunk(chunk)
            if finish:
                connection.finish()

        self.script(method, path, script)

    def request(self, path: str) -> Deferred[Connection]:
        """Fires with the connection of the next request for `path`."""
        waiter: Deferred[Connection] = Deferred()
        self._waiting.append((path, waiter))
        return waiter

    def take(self, connection: Connection, asked: Asked) -> None:
        self.asked.append(asked)
        if any(word in asked.path for word in FORBIDDEN):
            self.forbidden.append(asked.line)
        script = self.scripts.get((asked.method, asked.path))
        if script is not None:
            script(connection, asked)
        for path, waiter in [one for one in self._waiting if one[0] == asked.path]:
            self._waiting.remove((path, waiter))
            waiter.callback(connection)
