"""The wait until a starting server is ready: a line of its log, an open port or an HTTP answer (PROTOCOL 12)."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.internet.defer import Deferred

from stellarstack.core.events import node_alert
from stellarstack.core.ready import ReadyKind, ReadyMatcher
from stellarstack.core.records import ServerStatus, StatusReason
from stellarstack.core.streams import readable
from stellarstack.errors import InvalidState, StellarError, TimedOut
from stellarstack.tasks import sleep, within

if TYPE_CHECKING:
    from stellarstack.servers.server import Server

PROBE_EVERY = 1.0  # seconds
PROBE_TIMEOUT = 2.0  # seconds
TAKEN_UP_LEAST = 5.0  # seconds that a check has, though its time was over while no daemon looked
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])")
STATUS_LENGTH = 12  # bytes of a status line up to its code
URL_SAFE = "/?&=%:;,+@~!*'()$#[]-._"


class ReadyWatch:
    """Watches one run of a server from before its first byte until it is ready or has ended, however late that is.

    Its time counts from `process_started`, or from `began` (Unix seconds), when an earlier daemon had it started.
    """

    def __init__(self, server: Server, began: float | None = None) -> None:
        self._server = server
        self._until: float | None = None
        self._check = server.spec.blueprint.ready
        self._matcher = ReadyMatcher(self._check.patterns)
        self._waiting: list[Deferred[None]] = []
        self._probing: Deferred[Any] | None = None
        if began is not None:
            self._count(server.around.now() - began, TAKEN_UP_LEAST)
        self.open = True
        self._unwatch = server.console.watch(self._line)

    def process_started(self) -> None:
        """The engine has started the process: a check that needs no line begins now. Safe to repeat."""
        if not self.open or self._probing is not None:
            return
        self._count(0.0)
        if self._check.kind is ReadyKind.NONE:
            self._met()
        elif self._check.kind in (ReadyKind.PORT, ReadyKind.HTTP):
            self._probing = self._server.around.tasks.spawn("ready probe", self._probe())

    def _count(self, elapsed: float, least: float = 0.0) -> None:
        if self._until is None:
            self._until = self._server.around.clock.seconds() + max(least, self._check.timeout - elapsed)

    @property
    def left(self) -> float:
        """Seconds that are left for it; 0: it has no limit. One that is overdue has all its time for who asks anew."""
        limit = self._check.timeout
        if limit <= 0 or self._until is None:
            return limit
        left = self._until - self._server.around.clock.seconds()
        return left if left > 0 else limit

    def take_up(self) -> None:
        """The console of a run that an earlier daemon has begun is attached again; nobody watched meanwhile."""
        self._server.around.tasks.spawn("ready check taken up", self._go_on())

    async def _go_on(self) -> None:
        server = self._server
        if self._check.kind is ReadyKind.LOG and self.open and await self._stands_in_log():
            self._met()
        elif server.record.reason is not StatusReason.READY_TIMEOUT:
            try:
                await until_ready(server, self)
            except StellarError as error:
                server.note(str(error))

    async def _stands_in_log(self) -> bool:
        around = self._server.around
        try:
            log = await around.engine.logs(self._server.container_name)
        except StellarError as error:
            self._server.note(f"what it printed meanwhile cannot be read: {error}")
            return False
        return await around.in_thread(lambda: any(map(self._matcher.matches, map(readable, log.split(b"\n")))))

    def settled(self) -> Deferred[None]:
        """Fires when the watch is over: the server is ready, or its process has ended."""
        settled: Deferred[None] = Deferred(self._no_longer_waits)
        if self.open:
            self._waiting.append(settled)
        else:
            settled.callback(None)
        return settled

    def _no_longer_waits(self, gone: Deferred[None]) -> None:
        if gone in self._waiting:
            self._waiting.remove(gone)

    def close(self) -> None:
        """The run is over (or the watch has done its work)."""
        if not self.open:
            return
        self.open = False
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
        port = self._check.port or next((port.container for port in server.spec.ports), 0)
        address = ""
        while self.open:
            address = address or await self._address()
            if port and address and await around.in_probe(attempt, address, port, self._check.path):
                self._probing = None
                self._met()
                return
            await sleep(around.clock, PROBE_EVERY)

    async def _address(self) -> str:
        """Of the container in its network; empty while the engine does not tell. Never the host's own."""
        try:
            state = await self._server.around.engine.inspect(self._server.container_name)
        except StellarError:
            return ""
        return next((ip for ip in state.addresses.values() if ip), "")


async def until_ready(server: Server, watch: ReadyWatch) -> None:
    """Waits for the check. InvalidState: the server died first. TimedOut: it lives, not ready, and that is told."""
    if watch.left > 0:
        try:
            await within(server.around.clock, watch.left, f"the ready check of server {server.id}", watch.settled())
        except TimedOut:
            await _tell_overdue(server, server.spec.blueprint.ready.timeout)
            raise
    else:
        await watch.settled()
    if not server.status.has_process:
        code = server.record.exit_code
        raise InvalidState(f"server {server.id} ended with status {code} before it was ready; its console tells why")


async def _tell_overdue(server: Server, limit: float) -> None:
    """It goes on, and a late match still makes it `running`: many templates name a line that never comes."""
    around = server.around
    if server.record.reason is StatusReason.READY_TIMEOUT:
        return
    if server.status is ServerStatus.STARTING:
        server.moved(server.lifecycle.ready_overdue())
    text = f"server {server.id} runs, but its ready check was not met in {limit:g} s"
    await around.bus.emit(node_alert(around.node_id, around.now(), "warning", "ready_timeout", text, server.id))


def _port_opens(address: str, port: int, _path: str) -> bool:
    """Blocks for at most PROBE_TIMEOUT: for a thread."""
    try:
        with socket.create_connection((address, port), PROBE_TIMEOUT):
            return True
    except OSError:
        return False


def _http_answers(address: str, port: int, path: str) -> bool:
    """Any answer below 500 will do. Blocks for at most twice PROBE_TIMEOUT: for a thread."""
    try:
        with socket.create_connection((address, port), PROBE_TIMEOUT) as connection:
            return http_answers(connection, f"{address}:{port}", path, PROBE_TIMEOUT)
    except OSError:
        return False


def http_answers(connection: socket.socket, host: str, path: str, seconds: float) -> bool:
    """Whether an answer below 500 begins within so many seconds, however slowly it drips. OSError: it broke off."""
    deadline = time.monotonic() + seconds
    request = f"GET {quote(path or '/', safe=URL_SAFE)} HTTP/1.0\r\nHost: {host}\r\n\r\n"
    connection.settimeout(seconds)
    connection.sendall(request.encode("ascii"))
    answer = b""
    while len(answer) < STATUS_LENGTH and (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        piece = connection.recv(4096)
        if not piece:
            break
        answer += piece
    status = STATUS_LINE.match(answer)
    return status is not None and int(status[1]) < 500
