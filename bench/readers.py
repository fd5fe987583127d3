"""The readers' side of the console benchmarks: plain sockets, read with large buffers, counted and thrown away.

Both ways to a console are read by the same code, so that what it costs is the same for both. WebSocket framing is not
taken apart: output is counted with its frame headers (4 to 10 bytes a frame), and the end of a flood is looked for in
the newest bytes.
"""

from __future__ import annotations

import base64
import multiprocessing
import os
import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

RAW = "stellarstack.console.v1.raw"
JSON = "stellarstack.console.v1"
ENGINE = "/var/run/docker.sock"
TIMEOUT = 300.0
_QUERY = "stream=1&stdin=1&stdout=1&stderr=1&detachKeys=%FF"
_BUFFER = 1 << 20
_NEWEST = 512  # bytes in which the end is looked for: no frame of ours that follows it is longer


@dataclass
class Line:
    """One connection to a console. `frames`: what is typed goes as WebSocket frames, `json` as text ones."""

    socket: Any
    frames: bool
    json: bool = False

    def type(self, keys: bytes) -> None:
        if not self.frames:
            self.socket.sendall(keys)
            return
        opcode, payload = 2, keys
        if self.json:
            opcode, payload = 1, b'{"type":"input","data":"' + keys.replace(b"\r", b"\\r") + b'"}'
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)

    def settle(self, quiet: float = 0.2) -> None:
        """Takes what was there before."""
        self.socket.settimeout(quiet)
        try:
            while self.socket.recv(_BUFFER):
                pass
        except TimeoutError:
            self.socket.settimeout(TIMEOUT)

    def echo(self, key: bytes) -> float:
        """Types one key and waits for what comes back; seconds."""
        begun = time.perf_counter()
        self.type(key)
        if not self.socket.recv(4096):
            raise ConnectionError("the server closed")
        return time.perf_counter() - begun

    def close(self) -> None:
        self.socket.close()


def _shake_hands(found: socket.socket, head: str, *, frames: bool, json: bool = False) -> Line:
    found.settimeout(30)
    found.sendall(head.encode() + b"\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = found.recv(1)  # no byte of the stream itself
        if not piece:
            raise ConnectionError("the server closed")
        answer += piece
    if b" 101 " not in answer.split(b"\r\n")[0]:
        raise ConnectionError(answer.decode(errors="replace"))
    return Line(found, frames, json)


def _upgrade(path: str, more: str) -> str:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}"
    )


def _engine() -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.connect(ENGINE)
    return found


def raw_attach(container: str) -> Line:
    """Docker's own attach on its socket, nothing between."""
    head = f"POST /containers/{container}/attach?{_QUERY} HTTP/1.1\r\nHost: d\r\n"
    return _shake_hands(_engine(), f"{head}Connection: Upgrade\r\nUpgrade: tcp\r\n", frames=False)


def docker_ws(container: str) -> Line:
    """Docker's own attach by WebSocket."""
    path = f"/containers/{container}/attach/ws?{_QUERY}"
    return _shake_hands(_engine(), _upgrade(path, "Origin: http://localhost\r\n"), frames=True)


def console(port: int, token: str, *, protocol: str = RAW, tls: bool = False) -> Line:
    """A viewer of the daemon's console, from now on."""
    found = socket.create_connection(("127.0.0.1", port))
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        found = context.wrap_socket(found)
    more = f"Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: {protocol}\r\n"
    return _shake_hands(found, _upgrade("/console?scrollback=0", more), frames=True, json=protocol == JSON)


@dataclass
class Drunk:
    """What one connection has taken. `pause`: the longest time without a byte, in seconds."""

    size: int = 0
    ended: float = 0.0
    newest: bytes = b""
    last: float = 0.0
    pause: float = 0.0


def drink(lines: Sequence[Line], end: bytes, begun: float) -> list[Drunk]:
    """Reads all connections until `end` came on each; times are of time.perf_counter."""
    poll = select.epoll()
    taken: dict[int, tuple[Any, Drunk]] = {}
    for line in lines:
        line.socket.setblocking(False)
        taken[line.socket.fileno()] = (line.socket, Drunk(last=begun))
        poll.register(line.socket.fileno(), select.EPOLLIN)
    found = [one for _, one in taken.values()]
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    left = len(taken)
    while left:
        ready = poll.poll(TIMEOUT)
        if not ready:
            raise TimeoutError(f"{left} viewers of {len(lines)} never saw the end")
        for number, _ in ready:
            source, one = taken[number]
            size = _gulp(source, buffer, view)
            if not size:
                continue
            now = time.perf_counter()
            one.size += size
            one.pause = max(one.pause, now - one.last)
            one.last = now
            one.newest = (one.newest + buffer[max(0, size - _NEWEST) : size])[-_NEWEST:]
            if end in one.newest:
                one.ended = now
                poll.unregister(number)
                left -= 1
    poll.close()
    return found


def _gulp(source: Any, buffer: bytearray, view: memoryview) -> int:
    """What one wake-up brings: as much as fits into the buffer; of TLS, whose records are 16 KiB, several."""
    size: int = 0
    try:
        size = source.recv_into(buffer)
        if not size:
            raise ConnectionError("the server closed")
        if isinstance(source, ssl.SSLSocket):
            while size < _BUFFER - 32768 and (more := source.recv_into(view[size:])):
                size += more
    except (ssl.SSLWantReadError, BlockingIOError):
        pass
    return size


class Background:
    """Reads connections in a process of its own, to their end, so that it takes nothing from whoever measures."""

    def __init__(self, lines: Sequence[Line]) -> None:
        fork = multiprocessing.get_context("fork")
        self._near, far = fork.Pipe()
        self._process = fork.Process(target=_swallow, args=(lines, far), daemon=True)
        self._process.start()

    def taken(self) -> tuple[int, float]:
        """Bytes so far and the moment, for rates between two such answers."""
        self._near.send(None)
        size: int = self._near.recv()
        return size, time.perf_counter()

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


def _swallow(lines: Sequence[Line], asked: Pipe) -> None:
    poll = select.epoll()
    sources = {line.socket.fileno(): line.socket for line in lines}
    for number, source in sources.items():
        source.setblocking(False)
        poll.register(number, select.EPOLLIN)
    poll.register(asked.fileno(), select.EPOLLIN)
    buffer = bytearray(_BUFFER)
    view, size = memoryview(buffer), 0
    while True:
        for number, _ in poll.poll():
            if number == asked.fileno():
                asked.recv()
                asked.send(size)
            else:
                size += _gulp(sources[number], buffer, view)
