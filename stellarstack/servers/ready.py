"""The wait until a starting server is ready: a line of its log, an open port or an HTTP answer (PROTOCOL 12)."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from stellarstack.core.ready import ReadyKind, ReadyMatcher
from stellarstack.core.records import ServerStatus
from stellarstack.tasks import sleep

if TYPE_CHECKING:
    from stellarstack.servers.server import Server

PROBE_EVERY = 1.0  # seconds
PROBE_TIMEOUT = 2.0  # seconds


class ReadyWatch:
    """Watches one run of a server from before its first byte until it is ready or has ended, however late that is."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._check = server.spec.blueprint.ready
        self._matcher = ReadyMatcher(self._check.patterns)
        self._waiting: list[Deferred[None]] = []
        self._probing: Deferred[Any] | None = None
        self._open = True
        self._unwatch = server.console.watch(self._line)

    def process_started(self) -> None:
        """The engine has started the process: a check that needs no line begins now."""
        if not self._open:
            return
        if self._check.kind is ReadyKind.NONE:
            self._met()
        elif self._check.kind in (ReadyKind.PORT, ReadyKind.HTTP):
            self._probing = self._server.around.tasks.spawn("ready probe", self._probe())

    def settled(self) -> Deferred[None]:
        """Fires when the watch is over: the server is ready, or its process has ended."""
        settled: Deferred[None] = Deferred(lambda gone: self._waiting.remove(gone))
        if self._open:
            self._waiting.append(settled)
        else:
            settled.callback(None)
        return settled

    def close(self) -> None:
        """The run is over (or the watch has done its work)."""
        if not self._open:
            return
        self._open = False
        self._unwatch()
        if self._probing is not None:
            self._probing.cancel()
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            settled.callback(None)

    def _line(self, line: str) -> None:
        if self._check.kind is ReadyKind.LOG and self._matcher.matches(line):
            self._met()

    def _met(self) -> None:
        if self._server.status is ServerStatus.STARTING:
            self._server.moved(self._server.lifecycle.became_ready())
        self.close()

    async def _probe(self) -> None:
        around, server = self._server.around, self._server
        attempt = _http_answers if self._check.kind is ReadyKind.HTTP else _port_opens
        state = await around.engine.inspect(server.container_name)
        address = next((ip for ip in state.addresses.values() if ip), "127.0.0.1")
        port = self._check.port or next((port.container for port in server.spec.ports), 0)
        while self._open:
            if port and await around.threads(attempt, address, port, self._check.path):
                self._probing = None
                self._met()
                return
            await sleep(around.clock, PROBE_EVERY)


def _port_opens(address: str, port: int, _path: str) -> bool:
    """Blocks for at most PROBE_TIMEOUT: for a thread."""
    try:
        with socket.create_connection((address, port), PROBE_TIMEOUT):
            return True
    except OSError:
        return False


def _http_answers(address: str, port: int, path: str) -> bool:
    """Any answer below 500 will do. Blocks: for a thread."""
    connection = http.client.HTTPConnection(address, port, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", path or "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
