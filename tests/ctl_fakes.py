"""What stellarctl talks to, for its tests: an HTTP server on a UNIX socket and the daemon's end of a console."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Coroutine
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws

# (status, body): bytes go out as they are, anything else as JSON, a list of several as JSON lines
Answer = tuple[int, Any]


class _Quiet(ThreadingUnixStreamServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked did not wait for the answer: tests do that on purpose."""


class UnixHttp:
    """Answers `METHOD /path` from a table; keeps what was asked."""

    def __init__(self, path: Path, answers: dict[str, Answer | Callable[[Any], Answer]]) -> None:
        self.asked: list[tuple[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def address_string(self) -> str:
                return "unix"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, body: Any) -> None:
                outer.asked.append((f"{self.command} {self.path}", body))
                found = answers.get(f"{self.command} {self.path}", (404, b""))
                status, content = found(body) if callable(found) else found
                self.send_response(status)
                self.end_headers()
                if isinstance(content, tuple):
                    self.wfile.write(b"".join(json.dumps(line).encode() + b"\n" for line in content))
                else:
                    self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

        self._server = _Quiet(str(path), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def finished(work: Coroutine[Any, Any, Any], clock: Clock | None = None) -> Any:
    """The result (or error) of a coroutine that ends without waiting, or once `clock` has gone on."""
    running: Deferred[Any] = Deferred.fromCoroutine(work)
    if clock is not None:
        clock.advance(1000)
    outcome: list[Any] = []
    running.addBoth(outcome.append)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


class ConsolePeer:
    """The daemon's end of one console connection, played by a script in a thread."""

    def __init__(self, script: Callable[[ConsolePeer], None]) -> None:
        self.near, self._socket = socket.socketpair()
        self._socket.settimeout(10)
        self.near.settimeout(10)
        self._ws = WSConnection(ConnectionType.SERVER)
        self.request: ws.Request | None = None
        self.received: list[Any] = []
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._play, args=(script,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits until the script has ended; raises what it raised."""
        self._thread.join(15)
        if self.failed is not None:
            raise self.failed

    # what scripts say

    def accept(self) -> None:
        self.until(lambda: self.request is not None)
        self.say(ws.AcceptConnection(subprotocol="stellarstack.console.v1.raw"))

    def refuse(self, status: int, body: Any) -> None:
        self.until(lambda: self.request is not None)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = [(b"Content-Length", str(len(raw)).encode())]
        self.say(ws.RejectConnection(status_code=status, headers=headers, has_body=True))
        self.say(ws.RejectData(data=raw))

    def ready(
        self, start: int = 0, status: str = "running", can_write: bool = True, end: int | None = None,
        expires_at: float | None = None,
    ) -> None:  # fmt: skip
        self.accept()
        told = {"serverId": "s", "status": status, "canWrite": can_write, "from": start}
        ends = {} if expires_at is None else {"expiresAt": expires_at}
        self.frame(type="ready", end=start if end is None else end, **told, **ends)

    def frame(self, **fields: Any) -> None:
        self.say(ws.TextMessage(json.dumps(fields)))

    def output(self, content: bytes) -> None:
        self.say(ws.BytesMessage(content))

    def close(self, code: int) -> None:
        self.say(ws.CloseConnection(code))

    def raw(self, content: bytes) -> None:
        self._socket.sendall(content)

    def say(self, event: ws.Event) -> None:
        self._socket.sendall(self._ws.send(event))

    def until(self, met: Callable[[], bool]) -> None:
        """Reads until `met`."""
        while not met():
            received = self._socket.recv(65536)
            if not received:
                raise AssertionError("the operator's end has gone")
            self._ws.receive_data(received)
            for event in self._ws.events():
                match event:
                    case ws.Request():
                        self.request = event
                    case ws.TextMessage():
                        self.received.append(json.loads(event.data))
                    case ws.BytesMessage():
                        self.received.append(bytes(event.data))
                    case _:
                        self.received.append(event)

    def until_received(self, wanted: Any) -> None:
        self.until(lambda: wanted in self.received)

    def until_closed(self) -> None:
        self.until(lambda: any(isinstance(event, ws.CloseConnection) for event in self.received))

    def until_gone(self) -> None:
        """Says nothing more and reads until the operator's end hangs up."""
        while self._socket.recv(65536):
            pass

    def _play(self, script: Callable[[ConsolePeer], None]) -> None:
        try:
            script(self)
        except BaseException as error:
            self.failed = error
        finally:
            self._socket.close()
