"""The payload of each command, parsed once and strictly into one frozen class a type (PROTOCOL 4). Performs no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from stellarstack.core.identifiers import SERVER_ID, SERVER_ID_FORM
from stellarstack.core.messages import Command, Json
from stellarstack.errors import InvalidPayload, UnknownCommand

LINE_LIMIT = 4000  # bytes of one console line
STOP_TIMEOUT_LIMIT = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class CreateServer:
    """`server.create`; `blueprint` is the id of an installed one or the object itself."""

    server_id: str
    blueprint: str | Mapping[str, Json]
    version: str | None
    name: str | None
    config: Mapping[str, Json]
    start: bool
    skip_install: bool


@dataclass(frozen=True, slots=True)
class StartServer:
    server_id: str


@dataclass(frozen=True, slots=True)
class StopServer:
    """`timeout` in seconds; None is the blueprint's, 0 kills."""

    server_id: str
    timeout: float | None


@dataclass(frozen=True, slots=True)
class RestartServer:
    server_id: str
    timeout: float | None


@dataclass(frozen=True, slots=True)
class KillServer:
    server_id: str


@dataclass(frozen=True, slots=True)
class DeleteServer:
    server_id: str
    delete_files: bool
    delete_backups: bool


@dataclass(frozen=True, slots=True)
class ReinstallServer:
    server_id: str
    keep_files: bool


@dataclass(frozen=True, slots=True)
class UpdateServer:
    """`server.update`; `config` in the form of server.create: only what it names changes."""

    server_id: str
    config: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class TypeLine:
    """`server.command`: one console line without its end."""

    server_id: str
    line: str


@dataclass(frozen=True, slots=True)
class ListServers:
    pass


@dataclass(frozen=True, slots=True)
class NodeInfo:
    pass


@dataclass(frozen=True, slots=True)
class NodeShutdown:
    stop_servers: bool
    timeout: float | None


@dataclass(frozen=True, slots=True)
class NodeDrain:
    """`deadline` in Unix seconds; `cancel` ends the drain that is under way."""

    deadline: float | None
    cancel: bool


@dataclass(frozen=True, slots=True)
class ConsoleRevoke:
    """At least one of the three; a session that meets all given ones is closed."""

    jti: str | None
    user_id: str | None
    server_id: str | None


ServerRequest: TypeAlias = (
    CreateServer
    | StartServer
    | StopServer
    | RestartServer
    | KillServer
    | DeleteServer
    | ReinstallServer
    | TypeLine
    | UpdateServer
)
Request: TypeAlias = ServerRequest | ListServers | NodeInfo | NodeShutdown | NodeDrain | ConsoleRevoke


@dataclass(slots=True)
class _Payload:
    """Reads keys of one payload; each refusal names the key, what was found and what is allowed."""

    type: str
    content: Mapping[str, Json] = field(default_factory=dict)

    def refuse(self, key: str, allowed: str) -> InvalidPayload:
        found = "nothing" if self.content.get(key) is None else type(self.content[key]).__name__
        return InvalidPayload(f"{self.type}: `{key}` must be {allowed}, not {found}")

    def server_id(self) -> str:
        value = self.content.get("serverId")
        if not isinstance(value, str) or not SERVER_ID.fullmatch(value):
            raise self.refuse("serverId", f"a server id ({SERVER_ID_FORM})")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.content.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def text(self, key: str, limit: int = 256) -> str | None:
        value = self.content.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value or len(value) > limit:
            raise self.refuse(key, f"a text of 1 to {limit} characters")
        return value

    def seconds(self, key: str) -> float | None:
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= STOP_TIMEOUT_LIMIT:
            raise self.refuse(key, f"seconds from 0 to {STOP_TIMEOUT_LIMIT:g}")
        return float(value)

    def moment(self, key: str) -> float | None:
        """Unix seconds; over 1e11 they are milliseconds (PROTOCOL 4)."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15:
            raise self.refuse(key, "a time in Unix seconds")
        return value / 1000 if value > 1e11 else float(value)

    def mapping(self, key: str) -> Mapping[str, Json]:
        value = self.content.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(key, "an object")
        return value


def _create(payload: _Payload) -> CreateServer:
    blueprint = payload.content.get("blueprint")
    if not isinstance(blueprint, dict) and not (isinstance(blueprint, str) and SERVER_ID.fullmatch(blueprint)):
        raise payload.refuse("blueprint", "the id of an installed blueprint or a blueprint object")
    return CreateServer(
        payload.server_id(),
        blueprint,
        payload.text("version"),
        payload.text("name"),
        payload.mapping("config"),
        payload.flag("start", True),
        payload.flag("skipInstall", False),
    )


def _line(payload: _Payload) -> TypeLine:
    line = payload.content.get("command")
    if not isinstance(line, str) or not line or any(mark in line for mark in "\r\n\0"):
        raise payload.refuse("command", "one line of text")
    if any("\ud800" <= mark <= "\udfff" for mark in line):
        raise InvalidPayload(f"{payload.type}: `command` holds half a character")
    if len(line.encode()) > LINE_LIMIT:
        raise InvalidPayload(f"{payload.type}: `command` is over {LINE_LIMIT} bytes")
    return TypeLine(payload.server_id(), line)


def _drain(payload: _Payload) -> NodeDrain:
    for key in ("targetNodeId", "targetUrl"):
        if payload.text(key, 2048) is not None:
            raise InvalidPayload(f"{payload.type}: `{key}`: this daemon cannot move servers to another node yet")
    return NodeDrain(payload.moment("deadline"), payload.flag("cancel", False))


def _revoke(payload: _Payload) -> ConsoleRevoke:
    server_id = None if payload.content.get("serverId") is None else payload.server_id()
    wanted = ConsoleRevoke(payload.text("jti"), payload.text("userId"), server_id)
    if wanted == ConsoleRevoke(None, None, None):
        raise InvalidPayload("console.revoke: name at least one of `jti`, `userId`, `serverId`")
    return wanted


_READERS: Mapping[str, Callable[[_Payload], Request]] = {
    "server.create": _create,
    "server.start": lambda payload: StartServer(payload.server_id()),
    "server.stop": lambda payload: StopServer(payload.server_id(), payload.seconds("timeout")),
    "server.restart": lambda payload: RestartServer(payload.server_id(), payload.seconds("timeout")),
    "server.kill": lambda payload: KillServer(payload.server_id()),
    "server.delete": lambda payload: DeleteServer(
        payload.server_id(), payload.flag("deleteFiles", True), payload.flag("deleteBackups", False)
    ),
    "server.reinstall": lambda payload: ReinstallServer(payload.server_id(), payload.flag("keepFiles", True)),
    "server.update": lambda payload: UpdateServer(payload.server_id(), payload.mapping("config")),
    "server.command": _line,
    "server.list": lambda _: ListServers(),
    "node.info": lambda _: NodeInfo(),
    "node.shutdown": lambda payload: NodeShutdown(payload.flag("stopServers", False), payload.seconds("timeout")),
    "node.drain": _drain,
    "console.revoke": _revoke,
}

COMMAND_TYPES = frozenset(_READERS)


def read_request(command: Command) -> Request:
    """The typed request of a command. UnknownCommand: there is none of that type. InvalidPayload names the key."""
    reader = _READERS.get(command.type)
    if reader is None:
        known = ", ".join(sorted(_READERS))
        raise UnknownCommand(f"this daemon knows no command {command.type[:64]!r}; it knows {known}")
    return reader(_Payload(command.type, command.payload))
