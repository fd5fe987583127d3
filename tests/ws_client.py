"""A WebSocket client of the tests' own (RFC 6455, by hand): over TCP, TLS, or in memory on a task.Clock."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class HandshakeRefused(Exception):
    """No 101: `status` and the JSON `body` (None where it is no JSON)."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(f"HTTP {status} {content[:200]!r}")
        self.status = status
        self.headers = headers
        try:
            self.body: Any = json.loads(content)
        except ValueError:
            self.body = None

    @property
    def code(self) -> str:
        """`error.code` of the body."""
        return str(self.body["error"]["code"])


class Closed(Exception):
    """The server closed: `code` of its close frame, None where it just dropped the connection."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"closed with {code}: {reason}")
        self.code = code
        self.reason = reason


class WsClient(Protocol):
    """One WebSocket. Messages come by `recv` in order (text: str, binary: bytes); `close_code` once it is closed."""

    def __init__(self, path: str, headers: Mapping[str, str], subprotocols: Sequence[str], answer_close: bool) -> None:
        self._request = (path, dict(headers), list(subprotocols))
        self._answer_close = answer_close
        self._bytes = b""
        self._messages: list[str | bytes] = []
        self._waiting: list[Deferred[None]] = []
        self._shaken = False
        self._lost = False
        self.opened: Deferred[WsClient] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.headers: dict[str, str] = {}
        self.pings = 0
        self.close_code: int | None = None
        self.close_reason = ""

    # ---------------------------------------------------------------- the wire

    def connectionMade(self) -> None:
        self.write(self.hello())

    def hello(self) -> bytes:
        """The upgrade request."""
        path, headers, subprotocols = self._request
        lines = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        lines["Sec-WebSocket-Key"] = base64.b64encode(os.urandom(16)).decode()
        if subprotocols:
            lines["Sec-WebSocket-Protocol"] = ", ".join(subprotocols)
        lines |= headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1")

    def write(self, data: bytes) -> None:
        """Raw bytes to the server."""
        assert self.transport is not None
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self._bytes += data
        if not self._shaken and not self._shake():
            return
        while self._frame():
            pass

    def _shake(self) -> bool:
        head, ended, rest = self._bytes.partition(b"\r\n\r\n")
        if not ended:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if status != 101:
            if len(rest) >= int(self.headers.get("content-length", 0)) and "chunked" not in str(self.headers):
                self._refuse(status, rest)
            elif rest.endswith(b"0\r\n\r\n"):
                self._refuse(status, _unchunked(rest))
            return False
        self._shaken, self._bytes = True, rest
        self.opened.callback(self)
        return True

    def _refuse(self, status: int, content: bytes) -> None:
        if not self.opened.called:
            self.opened.errback(HandshakeRefused(status, self.headers, content))
            self.drop()

    def _frame(self) -> bool:
        if len(self._bytes) < 2:
            return False
        first, size = self._bytes[0], self._bytes[1]
        at = 2
        if size >= 126:
            kind = "!H" if size == 126 else "!Q"
            at = 2 + struct.calcsize(kind)
            if len(self._bytes) < at:
                return False
            (size,) = struct.unpack_from(kind, self._bytes, 2)
        if len(self._bytes) < at + size:
            return False
        payload, self._bytes = self._bytes[at : at + size], self._bytes[at + size :]
        assert first & 0x80, "the daemon does not fragment"
        self._received(first & 0x0F, payload)
        return True

    def _received(self, opcode: int, payload: bytes) -> None:
        if opcode in (TEXT, BINARY):
            self._messages.append(payload.decode() if opcode == TEXT else payload)
        elif opcode == PING:
            self.pings += 1
            self.send_frame(PONG, payload)
        elif opcode == CLOSE:
            self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
            self.close_reason = payload[2:].decode()
            if self._answer_close:
                self.send_frame(CLOSE, payload)
        self._wake()

    def connectionLost(self, reason: Failure = Protocol.connectionLost) -> None:  # type: ignore[assignment]
        self._lost = True
        if not self.opened.called:
            self.opened.errback(HandshakeRefused(0, {}, self._bytes))
        self._wake()
        self.lost.callback(None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    # ---------------------------------------------------------------- sending

    def send_frame(self, opcode: int, payload: bytes, *, fin: bool = True, mask: bool = True, rsv: int = 0) -> None:
        """One frame, as wrong as wanted."""
        size = len(payload)
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        bit = 0x80 if mask else 0
        if size < 126:
            head += bytes([bit | size])
        elif size < 65536:
            head += bytes([bit | 126]) + struct.pack("!H", size)
        else:
            head += bytes([bit | 127]) + struct.pack("!Q", size)
        if mask:
            key = os.urandom(4)
            long_key = (key * (size // 4 + 1))[:size]
            masked = (int.from_bytes(payload, "big") ^ int.from_bytes(long_key, "big")).to_bytes(size, "big")
            payload = key + masked
        if not self._lost:
            self.write(head + payload)

    def send_json(self, **message: Any) -> None:
        """One text message: `type` and its fields."""
        self.send_frame(TEXT, json.dumps(message).encode())

    def send_text(self, text: str) -> None:
        self.send_frame(TEXT, text.encode())

    def send_bytes(self, data: bytes) -> None:
        self.send_frame(BINARY, data)

    def drop(self) -> None:
        """Lets go of the connection."""
        assert self.transport is not None
        self.transport.loseConnection()

    # ---------------------------------------------------------------- receiving

    def messages(self) -> list[Any]:
        """What is here and was not taken yet, JSON read."""
        found, self._messages = self._messages, []
        return [json.loads(message) if isinstance(message, str) else message for message in found]

    async def recv(self, timeout: float = 10.0, reactor: Any = None) -> str | bytes:
        """The next message. Closed: there is none any more. TimeoutError after `timeout` seconds."""
        while not self._messages:
            if self.close_code is not None or self._lost:
                raise Closed(self.close_code, self.close_reason)
            news: Deferred[None] = Deferred()
            self._waiting.append(news)
            news.addTimeout(timeout, reactor or _reactor())
            await news
        return self._messages.pop(0)

    async def recv_json(self, timeout: float = 10.0, *, until: str | None = None) -> Any:
        """The next text message, read; with `until`, the next of that type (what comes before it is dropped)."""
        while True:
            message = await self.recv(timeout)
            found = json.loads(message) if isinstance(message, str) else None
            if found is not None and until in (None, found["type"]):
                return found

    async def wait_closed(self, timeout: float = 10.0) -> int | None:
        """Reads to the end; the close code."""
        try:
            while True:
                await self.recv(timeout)
        except Closed as closed:
            return closed.code

    async def output(self, wanted: str, timeout: float = 10.0) -> str:
        """Reads `output` until `wanted` stands in it; all of it."""
        text = ""
        while wanted not in text:
            text += (await self.recv_json(timeout, until="output"))["data"]
        return text


def _unchunked(body: bytes) -> bytes:
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return content


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


async def connect(
    host: str, port: int, path: str = "/console", headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (), *, tls: Any = None, answer_close: bool = True, timeout: float = 10.0,
) -> WsClient:  # fmt: skip
    """Opens a WebSocket. HandshakeRefused: the HTTP answer was no 101. `tls`: client options for `wss`."""
    reactor = _reactor()
    endpoint: Any = HostnameEndpoint(reactor, host, port)
    if tls is not None:
        endpoint = wrapClientTLS(tls, endpoint)
    made = WsClient(path, {"Host": f"{host}:{port}", **(headers or {})}, subprotocols, answer_close)
    await endpoint.connect(Factory.forProtocol(lambda: made))
    made.opened.addTimeout(timeout, reactor)
    return await made.opened


def bearer(token: str) -> dict[str, str]:
    """The header that carries a console token."""
    return {"Authorization": f"Bearer {token}"}


# ------------------------------------------------------------------ in memory


@implementer(ITransport, IPushProducer)
class MemoryEnd:
    """One end of a connection in memory, delivering on a task.Clock. `taking` False: the other end reads nothing."""

    disconnecting = False
    HIGH_WATER = 65536

    def __init__(self, clock: Clock, address: IPv4Address) -> None:
        self._clock = clock
        self._address = address
        self.other: MemoryEnd = self
        self.protocol: Any = None
        self.taking = True
        self.buffer = b""
        self.producer: Any = None
        self._paused = False
        self._told_full = False
        self._gone = False
        self._scheduled = False

    def write(self, data: bytes) -> None:
        if self._gone:  # also of one that is about to close, as Twisted's transports do
            return
        self.buffer += data
        if self.producer is not None and len(self.buffer) > self.HIGH_WATER and not self._told_full:
            self._told_full = True
            self.producer.pauseProducing()
        self._later()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def _later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._gone or not self.taking or self.other._paused:
            return
        data, self.buffer = self.buffer, b""
        if data:
            self.other.protocol.dataReceived(data)
        if self.producer is not None and self._told_full and not self.buffer:
            self._told_full = False
            self.producer.resumeProducing()
        if self.buffer:
            self._later()
        elif self.disconnecting:
            self.abortConnection()

    def take(self, limit: int | None = None) -> None:
        """The other end reads again (`limit` bytes, then no more)."""
        if limit is not None:
            data, self.buffer = self.buffer[:limit], self.buffer[limit:]
            self.other.protocol.dataReceived(data)
            return
        self.taking = True
        self._later()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.other._later()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self, *_: object) -> None:
        self.disconnecting = True
        self._later()

    def abortConnection(self) -> None:
        for end in (self, self.other):
            if not end._gone:
                end._gone = True
                self._clock.callLater(0, end.protocol.connectionLost, Failure(_done()))

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def getPeer(self) -> IPv4Address:
        return self._address

    def getHost(self) -> IPv4Address:
        return self._address


def _done() -> Exception:
    from twisted.internet.error import ConnectionDone

    return ConnectionDone()


def connect_memory(
    clock: Clock, site: Any, path: str = "/console", headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (), *, answer_close: bool = True, peer: str = "192.0.2.7",
    kind: type[WsClient] = WsClient,
) -> tuple[WsClient, MemoryEnd]:  # fmt: skip
    """Opens a WebSocket to `site` in memory; also the server's end. `client.opened` tells how it went."""
    address = IPv4Address("TCP", peer, 40000)
    ours, theirs = MemoryEnd(clock, address), MemoryEnd(clock, address)
    ours.other, theirs.other = theirs, ours
    made = kind(path, headers or {}, subprotocols, answer_close)
    ours.protocol = made
    theirs.protocol = site.buildProtocol(address)
    theirs.protocol.makeConnection(theirs)
    made.makeConnection(ours)
    settle(clock)
    return made, theirs


def settle(clock: Clock, seconds: float = 0.0) -> None:
    """Lets everything happen that is due in `seconds`."""
    clock.advance(seconds)
    for _ in range(200):
        if not any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()):
            break
        clock.advance(0)
