"""The operator's end of a console WebSocket, on a plain blocking socket (PROTOCOL 8)."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from stellarstack.errors import StellarError

SUBPROTOCOL = "stellarstack.console.v1.raw"
RECEIVE_SIZE = 65536
SOCKET_TIMEOUT = 10.0
FRAME_LIMIT = 16 * 2**20
REFUSAL_LIMIT = 65536
_INPUT_CHUNK = 32768


class ConnectionLost(StellarError):
    """The daemon is away for now: another attempt can help."""

    retry = True


class ConsoleRefused(StellarError):
    """The daemon said no. `answer` is the wire's error code or the close code."""

    def __init__(self, message: str, answer: str) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Address:
    """Where the console of one node is. `tls` None: plain ws://."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def url(self, path: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ws' if self.tls is None else 'wss'}://{host}:{self.port}{path}"


class ConsoleSocket:
    """One WebSocket session: `bytes` are terminal output, a dict is any other frame."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._binary = bytearray()
        self._text: list[str] = []
        self._size = 0
        self._closed: StellarError | None = None

    @classmethod
    def open(cls, address: Address, path: str, token: str) -> ConsoleSocket:
        """Connects and shakes hands. ConnectionLost: nobody there. ConsoleRefused: the daemon's words."""
        try:
            connection = socket.create_connection((address.host, address.port), SOCKET_TIMEOUT)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls is not None:
                connection = address.tls.wrap_socket(connection, server_hostname=address.host)
        except (OSError, ssl.SSLError) as error:
            raise ConnectionLost(f"{address.url('')} does not answer: {error}") from None
        session = cls(connection)
        try:
            session._shake_hands(f"{address.host}:{address.port}", path, token)
        except BaseException:
            session.close()
            raise
        return session

    def fileno(self) -> int:
        return self._socket.fileno()

    def waiting(self) -> list[bytes | dict[str, Any]]:
        """Frames that came along with the daemon's answer to the handshake."""
        return list(self._frames())

    def raise_if_closed(self) -> None:
        """ConnectionLost or ConsoleRefused, once the daemon has said goodbye or nothing can be sent any more."""
        if self._closed is not None:
            raise self._closed

    def receive(self) -> list[bytes | dict[str, Any]]:
        """What has come. Blocks only where the socket was not readable. ConnectionLost where it broke."""
        found: list[bytes | dict[str, Any]] = []
        while True:
            self._read()
            found.extend(self._frames())
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                return found

    def send(self, frame: Mapping[str, Any]) -> None:
        """A control frame as JSON text."""
        self._say(ws.TextMessage(json.dumps(frame)))

    def type(self, keys: bytes) -> None:
        """Keystrokes to the PTY, as binary frames below the daemon's frame limit."""
        for start in range(0, len(keys), _INPUT_CHUNK):
            self._say(ws.BytesMessage(keys[start : start + _INPUT_CHUNK]))

    def leave(self) -> None:
        """Says goodbye, if that is still possible, and closes."""
        self._say(ws.CloseConnection(1000))
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _shake_hands(self, host: str, path: str, token: str) -> None:
        request = ws.Request(
            host=host,
            target=path,
            subprotocols=[SUBPROTOCOL],
            extra_headers=[(b"Authorization", b"Bearer " + token.encode())],
        )
        self._say(request)
        status, body = 0, b""
        while True:
            self._read()
            for event in self._ws.events():
                match event:
                    case ws.AcceptConnection():
                        return
                    case ws.RejectConnection(status_code=code, has_body=has_body):
                        status = code
                        if not has_body:
                            raise _refused(status, b"")
                    case ws.RejectData(data=part, body_finished=finished):
                        body += part
                        if finished or len(body) > REFUSAL_LIMIT:
                            raise _refused(status, body)

    def _read(self) -> None:
        try:
            received = self._socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            raise ConnectionLost("the daemon did not answer in time") from None
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error.strerror or error}") from None
        if not received:
            raise ConnectionLost("the daemon closed the connection")
        try:
            self._ws.receive_data(received)
        except RemoteProtocolError as error:
            raise ConnectionLost(f"no WebSocket answers there: {error}") from None

    def _frames(self) -> Iterator[bytes | dict[str, Any]]:
        for event in self._ws.events():
            match event:
                case ws.BytesMessage(data=part, message_finished=finished):
                    self._binary += part
                    self._bound(len(part), finished)
                    if finished:
                        yield bytes(self._binary)
                        self._binary.clear()
                case ws.TextMessage(data=text, message_finished=finished):
                    self._text.append(text)
                    self._bound(len(text), finished)
                    if finished:
                        yield _frame("".join(self._text))
                        self._text.clear()
                case ws.Ping():
                    self._say(event.response())
                case ws.CloseConnection(code=code, reason=reason):
                    # what came before it is still to be shown: `raise_if_closed` tells afterwards
                    self._closed = _closed(int(code), reason or "")
                    self._say(event.response())

    def _bound(self, size: int, finished: bool) -> None:
        self._size = 0 if finished else self._size + size
        if self._size > FRAME_LIMIT:
            raise ConnectionLost("the daemon sent a message without end")

    def _say(self, event: ws.Event) -> None:
        """Never raises: what was received before the break is still to be shown. `raise_if_closed` tells of it."""
        try:
            self._socket.sendall(self._ws.send(event))
        except (OSError, LocalProtocolError) as error:
            self._closed = self._closed or ConnectionLost(f"the connection broke: {error}")


def _frame(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"type": ""}


def _refused(status: int, body: bytes) -> StellarError:
    try:
        told = json.loads(body)["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        code, message = str(status), f"HTTP status {status}"
    if status in (429, 503) or status >= 500:
        return ConnectionLost(f"{code}: {message}")
    return ConsoleRefused(f"{code}: {message}", code)


# 1008 is not among them: it is also for a connection that took nothing for a while, as one does while we sleep
_CLOSES = {
    4401: "unauthorized: the token was refused",
    4403: "forbidden: the token does not allow this",
    4404: "server_not_found: the server is gone",
}


def _closed(code: int, reason: str) -> StellarError:
    if code in _CLOSES:
        return ConsoleRefused("forbidden: revoked" if reason == "revoked" else _CLOSES[code], str(code))
    return ConnectionLost(f"closed by the daemon ({code}{': ' + reason if reason else ''})")
