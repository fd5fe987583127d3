"""The local control socket: HTTP over a UNIX socket, for whoever may open its file (PROTOCOL 10)."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime

from stellarstack.api.control_commands import CommandDoor
from stellarstack.api.control_tokens import Mint, TokenDoor
from stellarstack.api.http import DaemonSite
from stellarstack.api.http_answers import Answer, Ask, Endpoint, Folder, error_answer, json_answer
from stellarstack.api.http_channel import HttpLimits
from stellarstack.api.http_lines import LINES_TYPE, LineStream
from stellarstack.core.codec import MAX_MESSAGE
from stellarstack.core.messages import Json
from stellarstack.errors import ConfigError
from stellarstack.interfaces import EventBus, Intake, ServerDirectory
from stellarstack.tasks import Tasks

MAX_STREAMS = 256
_LONGEST_PATH = 107  # bytes that fit into a UNIX socket's address
_TOO_SLOW = b'{"type":"stream.dropped","error":{"code":"too_slow","message":"the events were not read in time"}}'
_STOPPING = b'{"type":"stream.ended","error":{"code":"unavailable","message":"the daemon stops"}}'

NodeSource = Callable[[], Awaitable[Mapping[str, Json]]]
RowSource = Callable[[], Sequence[Mapping[str, Json]]]


class EventDoor:
    """`GET /v1/events`: every event from now on, as on the wire."""

    def __init__(self, bus: EventBus, clock: IReactorTime) -> None:
        self._bus = bus
        self._clock = clock
        self._open: set[LineStream] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def get(self, request: Any) -> Answer | None:
        stops: list[Callable[[], None]] = []

        def ended() -> None:
            self._open.discard(lines)
            for stop in stops:
                stop()

        lines = LineStream(request, self._clock, ended)
        self._open.add(lines)
        stops.append(self._bus.listen(lambda _kind, body: lines.must(body, _TOO_SLOW)))
        lines.open()
        return None

    def stop(self) -> None:
        for lines in list(self._open):
            lines.finish(_STOPPING)


class ControlListener:
    """`start` takes the socket's path, a stale file too; `stop` ends the streams and removes it."""

    def __init__(
        self, *, path: Path, reactor: Any, tasks: Tasks, intake: Intake, bus: EventBus, directory: ServerDirectory,
        sessions: RowSource, mint: Mint, node: NodeSource, limits: HttpLimits | None = None,
    ) -> None:  # fmt: skip
        self._path = path
        self._reactor = reactor
        self._directory = directory
        self._sessions = sessions
        self._node = node
        self._commands = CommandDoor(intake=intake, bus=bus, clock=reactor, tasks=tasks)
        self._events = EventDoor(bus, reactor)
        self._listening: IListeningPort | None = None

        def endpoint(**asks: Ask) -> Any:
            return Endpoint(asks, clock=reactor, tasks=tasks)

        doors = {
            "commands": endpoint(POST=self._streamed(self._commands.post)),
            "servers": endpoint(GET=self._get_servers),
            "sessions": endpoint(GET=self._get_sessions),
            "events": endpoint(GET=self._streamed(self._events.get)),
            "tokens": endpoint(POST=TokenDoor(mint=mint, directory=directory).post),
            "node": endpoint(GET=self._get_node),
        }
        root: Any = Folder({"v1": Folder(doors)})
        self.site = DaemonSite(root, reactor=reactor, limits=limits or HttpLimits(body=MAX_MESSAGE, waiting=256))

    def probe(self) -> None:
        """Makes the socket's folder and removes a stale socket. ConfigError: the path cannot be used."""
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _take_path(self._path)
        except OSError as error:
            raise self._unusable(error) from error

    async def start(self) -> None:
        """Listens, with mode 0600. ConfigError: another daemon listens there, or the path cannot be used."""
        self.probe()
        try:
            self._listening = self._reactor.listenUNIX(str(self._path), self.site, mode=0o600)
        except CannotListenError as error:
            raise self._unusable(error.socketError) from error

    async def stop(self) -> None:
        """No more requests; each open stream gets a last line."""
        self._events.stop()
        self._commands.stop()
        listening, self._listening = self._listening, None
        if listening is not None:
            with suppress(OSError):  # Twisted removes the file, and never ends where somebody else has done so
                self._path.touch(mode=0o600)
            await maybeDeferred(listening.stopListening)
        self.site.room.clear()

    def _streamed(self, ask: Ask) -> Ask:
        async def bounded(request: Any) -> Answer | None:
            if len(self._commands) + len(self._events) >= MAX_STREAMS:
                return error_answer(503, "too_many_connections", "too many streams are open on the control socket")
            if request.method == b"HEAD":
                return Answer(200, b"", LINES_TYPE)
            return await ask(request)

        return bounded

    async def _get_servers(self, _request: Any) -> Answer:
        return json_answer(200, {"servers": [dict(row) for row in self._directory.listing()]})

    async def _get_sessions(self, _request: Any) -> Answer:
        """Who sits at the consoles, over all doors: the rows of viewing.Seats."""
        return json_answer(200, {"sessions": [dict(row) for row in self._sessions()]})

    async def _get_node(self, _request: Any) -> Answer:
        return json_answer(200, await self._node())

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(f"[paths] control_socket {self._path}: {getattr(error, 'strerror', None) or error}")


def _take_path(path: Path) -> None:
    """Removes a socket that nobody listens on. ConfigError: somebody does, or the file is no socket."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(f"[paths] control_socket {path} has over {_LONGEST_PATH} bytes")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"[paths] control_socket {path} is there already, and is no socket")
    if _is_live(path):
        raise ConfigError(f"[paths] control_socket {path}: another daemon listens there")
    path.unlink()


def _is_live(path: Path) -> bool:
    """Whether anybody listens; a full queue is somebody too. A local connect answers at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True
    return True
