"""One HTTP connection with deadlines and caps: who sends slowly, too much or nonsense is answered once and closed.

Twisted's own channel parses; this one bounds it (SECURITY H01, H04).
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request

from stellarstack.api.http_answers import Answer, error_answer, send

# Twisted gives these no types.
_Channel: Any = HTTPChannel
_Request: Any = Request


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Sizes in bytes, deadlines in seconds.

    `ahead`: what may be sent behind an upgrade before its answer, until reading is paused (one read may pass it).
    `waiting`: connections between requests; beyond it the oldest gives way.
    """

    body: int = 64 * 1024
    headers: int = 100
    header_deadline: float = 10.0
    body_deadline: float = 30.0
    idle_deadline: float = 15.0
    flush_deadline: float = 30.0
    linger: float = 1.0
    ahead: int = 16384
    waiting: int = 1000


class WaitingRoom:
    """The connections that are between requests or slow in sending one, oldest first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._channels: OrderedDict[LimitedChannel, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._channels)

    def enter(self, channel: LimitedChannel) -> None:
        self._channels[channel] = None
        self._channels.move_to_end(channel)
        if len(self._channels) > self._size:
            oldest, _ = self._channels.popitem(last=False)
            oldest.abort()

    def leave(self, channel: LimitedChannel) -> None:
        self._channels.pop(channel, None)

    def clear(self) -> None:
        """Closes them all."""
        while self._channels:
            channel, _ = self._channels.popitem()
            channel.abort()


class LimitedChannel(_Channel):
    """A connection of a `DaemonSite`. States: waiting for a request, reading one, serving one, refused, handed over.

    A request with an Upgrade header is the last one of its connection: what is sent behind it may be no HTTP, so it
    goes to who takes the connection over, or is thrown away unread; it never is another request (H01).
    """

    transport: Any
    abortTimeout = 5

    def __init__(self, limits: HttpLimits, room: WaitingRoom, accepted: Callable[[Any], None]) -> None:
        super().__init__()
        self.limits = limits
        self.maxHeaders = limits.headers
        self._room = room
        self._accepted = accepted
        self._deadline: IDelayedCall | None = None
        self._serving = False
        self._next: Any = None  # the request that is answered, while the one behind it waits its turn
        self._full = False
        self._ahead: bytearray | None = None  # what came behind a request that asks for an upgrade
        self.refused = False

    # ---------------------------------------------------------------- what Twisted calls

    def connectionMade(self) -> None:
        super().connectionMade()
        self._accepted(self.transport)
        self._room.enter(self)

    def dataReceived(self, data: bytes) -> None:
        if self.refused:
            return
        self._begin_request()
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if self.refused:
            return
        self._begin_request()
        super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if self._serving and self._ahead is not None:
            self._keep(data)
        elif not self.refused:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(error_answer(431, "too_large", "the request's head is too large"))

    def headerReceived(self, line: bytes) -> bool:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > 15:
            self._respondToBadRequestAndDisconnect()
            return False
        good: bool = super().headerReceived(line)
        return good

    def allHeadersReceived(self) -> None:
        if self.length is not None and self.length > self.limits.body:
            self.too_large()
            return
        self._arm(self.limits.body_deadline, self._too_slow)
        super().allHeadersReceived()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        if not request.requestHeaders.hasHeader(b"upgrade"):
            persistent: bool = super().checkPersistence(request, version)
            return persistent
        self._ahead = bytearray()
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    def allContentReceived(self) -> None:
        if self.refused:
            return
        self._disarm()
        self._serving = True
        self._room.leave(self)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._serving = False
        if self._ahead is not None:
            self._linger(self._flush)
        elif self.persistent:
            self._room.enter(self)
            self._next = request
            self.callLater(0, self._go_on)
        else:
            self._arm(self.limits.flush_deadline, self.abort)
            super().requestDone(request)

    def _go_on(self) -> None:
        """One request a reactor turn, and none while the answers before it are not taken: pipelining is no way in."""
        if self._next is not None and not self._full and self.transport is not None:
            request, self._next = self._next, None
            super().requestDone(request)

    def pauseProducing(self) -> None:
        self._full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._full = False
        super().resumeProducing()
        self._go_on()

    def timeoutConnection(self) -> None:
        self._close()

    def connectionLost(self, reason: Any) -> None:
        self._disarm()
        self._room.leave(self)
        super().connectionLost(reason)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Twisted's own word for a request that it cannot parse: answered in JSON, and nothing after it is read."""
        self.refuse(error_answer(400, "invalid_request", "this is no valid HTTP/1.1 request"))

    # ---------------------------------------------------------------- what we do

    def too_large(self) -> None:
        self.refuse(error_answer(413, "too_large", f"the body is over {self.limits.body} bytes"))

    def refuse(self, answer: Answer) -> None:
        """Answers before the request is whole; what still comes is read away for a moment, so that the answer lands."""
        if self.refused or self.transport is None:
            return
        self.transport.write(_raw(answer))
        self._linger(self._close)

    def _linger(self, then: Any) -> None:
        self.refused = True
        self._ahead = None
        self._room.leave(self)
        self.setTimeout(None)
        self.transport.resumeProducing()
        self._arm(self.limits.linger, then)

    def hand_over(self) -> tuple[Any, bytes]:
        """Ends HTTP here: the transport, None where it is gone, and what came behind the request."""
        transport, self.transport = self.transport, None
        ahead, self._ahead = bytes(self._ahead or b""), None
        return transport, ahead + bytes(self.clearLineBuffer())

    def _keep(self, data: bytes) -> None:
        assert self._ahead is not None
        self._ahead += data
        if len(self._ahead) > self.limits.ahead:
            self.transport.pauseProducing()

    def abort(self) -> None:
        """Drops the connection with whatever is in it."""
        if self.transport is not None:
            self.transport.abortConnection()

    def _begin_request(self) -> None:
        if self._deadline is None and not self._serving:
            self._arm(self.limits.header_deadline, self._too_slow)

    def _too_slow(self) -> None:
        self.refuse(error_answer(408, "timeout", "the request did not come in time"))

    def _close(self) -> None:
        self._end_within(self.abortTimeout)

    def _flush(self) -> None:
        self._end_within(self.limits.flush_deadline)

    def _end_within(self, seconds: float) -> None:
        if self.transport is not None:
            self._arm(seconds, self.abort)
            self.loseConnection()

    def _arm(self, seconds: float, late: Any) -> None:
        self._disarm()
        self._deadline = self.callLater(seconds, self._late, late)

    def _late(self, late: Any) -> None:
        self._deadline = None
        late()

    def _disarm(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()


class LimitedRequest(_Request):
    """A request whose body stays in memory and under its cap, and whose answer says nothing of our software."""

    _log = Logger()

    def gotLength(self, length: int | None) -> None:
        self.content = io.BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        channel: LimitedChannel = self.channel
        if channel.refused:
            return
        if self.content.tell() + len(data) > channel.limits.body:
            channel.too_large()
        else:
            self.content.write(data)

    def process(self) -> None:
        hosts = self.requestHeaders.getRawHeaders(b"host") or []
        if not self.uri.startswith(b"/") or len(hosts) > 1 or (self.clientproto == b"HTTP/1.1" and not hosts):
            self._whole(error_answer(400, "invalid_request", "an address from `/` on and one Host header are needed"))
            return
        super().process()

    def render(self, resrc: IResource) -> None:
        self._set_headers()
        body = resrc.render(self)
        if body is NOT_DONE_YET:
            return
        self.setHeader(b"content-length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def processingFailed(self, reason: Failure) -> Failure:
        self._log.failure("answering {method} {path} failed", failure=reason, method=self.method, path=self.path)
        if not self.startedWriting and self.channel is not None:
            self._whole(error_answer(500, "internal", "a fault of the daemon's own; its log tells more"))
        return reason

    def _whole(self, answer: Answer) -> None:
        self._set_headers()
        send(self, answer)

    def _set_headers(self) -> None:
        self.responseHeaders.removeHeader(b"server")
        for name, value in SECURITY_HEADERS.items():
            self.setHeader(name, value)


SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}

_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
}


def _raw(answer: Answer) -> bytes:
    """An answer where there is no request to answer to."""
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}".encode(),
        b"content-type: " + answer.content_type.encode(),
        b"content-length: %d" % len(answer.body),
        b"connection: close",
        *(name + b": " + value for name, value in SECURITY_HEADERS.items()),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + answer.body
