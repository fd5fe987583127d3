"""HTTP over memory for the tests of the doors: a peer that sends bytes and reads answers, a clock, and no port."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from stellarstack.api.http import DaemonSite


class Wire(StringTransportWithDisconnection):
    """The transport of one connection. `stuck`: the peer reads nothing, so nothing that is written gets away."""

    def __init__(self, peer: Any) -> None:
        super().__init__(peerAddress=peer)
        self.aborted = False
        self.closed = False
        self.stuck = False

    def loseConnection(self) -> None:
        self.disconnecting = True
        if not self.stuck:
            self._end()

    def abortConnection(self) -> None:
        self.aborted = True
        self._end()

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            super().loseConnection()


@dataclass
class Got:
    """One answer as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Peer:
    """One connection to a site."""

    def __init__(self, site: DaemonSite, address: str = "127.0.0.1") -> None:
        self.wire = Wire(IPv4Address("TCP", address, 50000))
        self.channel: Any = site.buildProtocol(self.wire.getPeer())
        self.wire.protocol = self.channel
        self.channel.makeConnection(self.wire)

    def send(self, raw: bytes) -> None:
        if not self.wire.closed:
            self.channel.dataReceived(raw)

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> None:
        """A whole request. Underscores in `headers` stand for hyphens."""
        lines = [f"{method} {target} HTTP/1.1", "Host: node"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def stop_reading(self) -> None:
        """The peer's window is full: the transport asks for a pause."""
        producer: Any = self.wire.producer
        producer.pauseProducing()

    def read_again(self) -> None:
        producer: Any = self.wire.producer
        producer.resumeProducing()

    def leave(self) -> None:
        self.wire._end()

    @property
    def raw(self) -> bytes:
        found: bytes = self.wire.value()
        return found

    def answers(self, *, to_head: bool = False) -> list[Got]:
        """The answers so far; the last one may be unfinished where it comes in chunks."""
        rest, found = self.raw, []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            if to_head:
                body = b""
            elif headers.get("transfer-encoding") == "chunked":
                body, rest = unchunk(rest)
            else:
                size = int(headers.get("content-length", "0"))
                body, rest = rest[:size], rest[size:]
            found.append(Got(int(status.split()[1]), headers, body))
        return found

    @property
    def answer(self) -> Got:
        """The one answer."""
        (found,) = self.answers()
        return found


def unchunk(raw: bytes) -> tuple[bytes, bytes]:
    """The body as far as it is there, and what comes after it."""
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, raw[2:]
        body, raw = body + raw[:length], raw[length + 2 :]
    return body, b""


def pass_time(clock: Clock, seconds: float, step: float = 0.5) -> None:
    """Time passes in steps, so that what is armed on the way fires too."""
    clock.pump([step] * int(seconds / step))
