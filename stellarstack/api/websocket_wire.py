"""Autobahn's server protocol as the console uses it: every option set, prebuilt frames past it, one wire a viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.logger import Logger

from stellarstack.api.websocket_outlet import BufferedOutlet, StraightOutlet, outlet_of
from stellarstack.core.console_session import CloseCode
from stellarstack.core.frames import lone_message
from stellarstack.sockets import progress
from stellarstack.viewing import Frame

_OPEN = WebSocketServerProtocol.STATE_OPEN
_READ = 8192  # bytes: what is typed is small, and memory for more costs a key's way what the reading itself does
FRAME_MAX = 65536  # bytes of a frame and of a message from a viewer, PROTOCOL 8


class Received(Protocol):
    """Who is told what a viewer's socket says."""

    def opened(self, wire: ConsoleWire) -> None: ...

    def message(self, frame: str | bytes) -> None: ...

    def heard(self) -> None:
        """Anything at all came in."""

    def close(self, code: int, reason: str) -> None:
        """Ends the session: the wire has had enough of it."""

    def wire_full(self) -> None: ...

    def wire_free(self) -> None: ...

    def closing(self) -> None:
        """A close frame goes out, whoever began; no frame may follow it."""

    def lost(self) -> None:
        """The connection is gone; called once."""


class _QuietLog:
    """Autobahn's own words: what strangers send is no news (and could hold tokens); its bugs are."""

    _log = Logger(namespace="autobahn")

    def _nothing(self, *_args: object, **_fields: object) -> None:
        pass

    debug = info = warn = trace = _nothing

    def error(self, text: str = "", **fields: Any) -> None:
        self._log.error("{words}", words=text.format(**fields) if fields else text)

    def failure(self, text: str = "", **fields: Any) -> None:
        self._log.failure("{words}", words=text, **fields)


class ConsoleWire(WebSocketServerProtocol):
    """One WebSocket. Its outlet tells what its transport still holds.

    `may_come` answers whether one more frame may come now. Autobahn counts neither pings nor the fragments of a
    message that never ends, and each costs as much as a message: beyond it, 1008, and nothing more is looked at.
    """

    log = _QuietLog()

    def __init__(self, session: Received, protocol: str | None, may_come: Callable[[], bool]) -> None:
        super().__init__()
        self._session = session
        self._may_come = may_come
        self._deaf = False
        self._unanswered: bytes | None = None  # the newest ping while the wire was full
        self._subprotocol = protocol
        self._lost = False
        self._outlet: StraightOutlet | BufferedOutlet | None = None
        self._turns = 0

    # ---------------------------------------------------------------- called by Autobahn and Twisted

    def onConnect(self, request: object) -> str | None:
        return self._subprotocol

    def onOpen(self) -> None:
        self._outlet = outlet_of(self.transport, self._turned)
        self.transport.bufferSize = _READ
        self._session.opened(self)

    def dataReceived(self, data: bytes) -> None:
        # Autobahn waits for a new message: a key that comes whole need not go its long way.
        if self.state == _OPEN and not (self.data or self.inside_message or self.current_frame or self._deaf):
            message = lone_message(data)
            if message is not None:
                self._session.message(message)
                self._session.heard()
                return
        self._take(data)

    def _take(self, data: bytes) -> None:
        if self._deaf:
            self.transport.pauseProducing()
        elif self.state != self.STATE_CLOSED:  # where Autobahn would keep it for as long as we write
            self._session.heard()
            super().dataReceived(data)

    def onFrameBegin(self) -> None:
        super().onFrameBegin()
        if not self._may_come():
            self._deaf, self.data = True, b""
            self._session.close(CloseCode.POLICY, "too many frames")

    def onPing(self, payload: bytes) -> None:
        """RFC 6455, 5.5.3: of several pings the newest may be answered alone, so pongs never pile up."""
        if self.full:
            self._unanswered = payload
        else:
            self.sendPong(payload)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.state == self.STATE_OPEN:
            self._session.message(payload if isBinary else payload.decode())

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        super().sendCloseFrame(code=code, reasonUtf8=reasonUtf8, isReply=isReply)
        self._session.closing()

    def dropConnection(self, abort: bool = False) -> None:
        """Never by abort, which could overtake our close frame; who does not let go is dropped by the session."""
        if self._outlet is not None:
            self._outlet.release()
        super().dropConnection(abort=False)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Autobahn's own frames go the way of ours, in order with them."""
        if self._outlet is None:
            super().sendData(data, sync, chopsize)
        else:
            self._outlet.write(data)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self._lost:
            self._lost = True
            self._session.lost()

    # ---------------------------------------------------------------- ours

    def _turned(self, full: bool) -> None:
        self._turns += 1
        if self.state == self.STATE_OPEN:
            (self._session.wire_full if full else self._session.wire_free)()
            self._answer_ping()

    def _answer_ping(self) -> None:
        if self._unanswered is not None and not self.full:
            payload, self._unanswered = self._unanswered, None
            self.sendPong(payload)

    @property
    def full(self) -> bool:
        """Whether the transport holds more than it likes to."""
        return self._outlet is not None and self._outlet.full

    def write_frame(self, frame: Frame) -> None:
        """A whole frame of ours, as it is."""
        if self.state == self.STATE_OPEN and self._outlet is not None:
            self._outlet.write(frame)

    def straight(self) -> Callable[[Frame], None]:
        """`write_frame` without the question whether the WebSocket is open, for one who knows."""
        return self.write_frame if self._outlet is None else self._outlet.write

    def close_with(self, code: int, reason: str) -> None:
        """Sends the close frame; nothing of ours follows it."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:120].decode("utf-8", "ignore").encode())

    def ping(self) -> None:
        if self.state == self.STATE_OPEN:
            self.sendPing()

    def drop(self) -> None:
        """Ends the TCP connection at once."""
        self.transport.abortConnection()

    def read(self, wanted: bool) -> None:
        """Stops or goes on reading from the viewer."""
        (self.transport.resumeProducing if wanted else self.transport.pauseProducing)()

    def progress(self) -> tuple[bool, int]:
        """Whether bytes wait for the viewer's TCP, and a number that changes when it takes some."""
        known = progress(self.transport)
        return (self.full, self._turns) if known is None else (self.full or known[0], known[1])


def wire_factory(*, connections: int, reactor: Any) -> WebSocketServerFactory:
    """Autobahn's factory with every option set: its defaults are unlimited (SECURITY F2).

    Origin, connection limits, deadlines and pings are ours (they need our clock and our answers), so its own are off
    or wide.
    """
    factory = WebSocketServerFactory(server=None, reactor=reactor)
    factory.setProtocolOptions(
        versions=[13],
        webStatus=False,
        utf8validateIncoming=True,
        maskServerFrames=False,
        requireMaskedClientFrames=True,
        applyMask=True,
        maxFramePayloadSize=FRAME_MAX,
        maxMessagePayloadSize=FRAME_MAX,
        autoFragmentSize=0,
        failByDrop=False,
        echoCloseCodeReason=False,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
        tcpNoDelay=True,
        perMessageCompressionAccept=_no_compression,
        autoPingInterval=0,
        autoPingTimeout=0,
        serveFlashSocketPolicy=False,
        allowedOrigins=["*"],
        allowNullOrigin=False,
        maxConnections=connections,
        trustXForwardedFor=0,
    )
    return factory


def _no_compression(_offers: object) -> None:
    """No compression: a frame is built once for all, and there is nothing to bomb with."""
    return
