"""Stand-ins for the rooms around the household, faithful where the household can tell the difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

from stellarstack.core.messages import Command, Event, Json, OutboxRow, channels_of
from stellarstack.core.open_line import OpenLine
from stellarstack.core.records import ServerStatus, StatusReason
from stellarstack.errors import InvalidState, StoreFailed
from stellarstack.interfaces import Accepted, AcceptStatus, Attachment, Engine, JournalEntry, LineWatcher, OutboxState

P = ParamSpec("P")
T = TypeVar("T")


class MemoryStore:
    """Meets interfaces.Store in memory. `broken`: every commit fails, as with a full disk."""

    def __init__(self, node_id: str = "node_test", now: Callable[[], float] = lambda: 0.0) -> None:
        self.node_id = node_id
        self.now = now
        self.broken = False
        self.rows: list[OutboxRow] = []
        self.delivered_seq = 0
        self.commands: dict[str, Command] = {}
        self.begun: dict[str, float] = {}
        self.results: dict[str, Event] = {}
        self.copies: dict[str, int] = {}
        self.documents: dict[str, dict[str, Json]] = {}
        self.values: dict[str, Json] = {}
        self.denials: dict[str, float] = {}

    def _check(self) -> None:
        if self.broken:
            raise StoreFailed("the database cannot commit (test)")

    def _row(self, event: Event, **more: Json) -> OutboxRow:
        seq = len(self.rows) + 1
        body = event.encode(eventId=f"evt_{seq}", seq=seq, **more)
        row = OutboxRow(seq, f"evt_{seq}", event.type, body, channels_of(self.node_id, event))
        self.rows.append(row)
        return row

    async def accept(self, command: Command, ack: Event) -> Accepted:
        self._check()
        known = self.commands.get(command.id)
        if known is None:
            self.commands[command.id] = command
            return Accepted(AcceptStatus.NEW, (self._row(ack),))
        if known.fingerprint != command.fingerprint:
            return Accepted(AcceptStatus.CONFLICT)
        if command.id in self.results:
            rows = (self._row(ack), self._row(self.results[command.id], repeat=True))
            return Accepted(AcceptStatus.REPEATED, rows)
        self.copies[command.id] = self.copies.get(command.id, 0) + 1
        return Accepted(AcceptStatus.COPY, (self._row(ack),))

    async def begin(self, command_id: str) -> None:
        self._check()
        self.begun[command_id] = self.now()

    async def finish(self, command_id: str, result: Event) -> Sequence[OutboxRow]:
        self._check()
        if command_id in self.results:
            raise AssertionError(f"{command_id} got a second result")
        self.results[command_id] = result
        rows = [self._row(result)]
        rows += [self._row(result, repeat=True) for _ in range(self.copies.pop(command_id, 0))]
        return rows

    async def unfinished(self) -> Sequence[JournalEntry]:
        return [
            JournalEntry(command, 0.0, self.begun.get(command_id))
            for command_id, command in self.commands.items()
            if command_id not in self.results
        ]

    async def append(self, events: Sequence[Event]) -> Sequence[OutboxRow]:
        self._check()
        return [self._row(event) for event in events]

    async def outbox_after(self, seq: int, limit: int) -> Sequence[OutboxRow]:
        return [row for row in self.rows if row.seq > max(seq, self.delivered_seq)][:limit]

    async def delivered(self, up_to: int) -> None:
        self.delivered_seq = up_to

    async def outbox_state(self) -> OutboxState:
        return OutboxState(len(self.rows), self.delivered_seq, len(self.rows) - self.delivered_seq, 0)

    async def raise_sequence(self, seq: int) -> None:
        raise NotImplementedError

    async def rewind(self, seq: int) -> int:
        raise NotImplementedError

    async def put_server(self, server_id: str, document: Mapping[str, Json]) -> None:
        self._check()
        copy: dict[str, Json] = json.loads(json.dumps(document))
        self.documents[server_id] = copy

    async def remove_server(self, server_id: str) -> None:
        self._check()
        self.documents.pop(server_id, None)

    async def servers(self) -> Mapping[str, Mapping[str, Json]]:
        return dict(self.documents)

    async def get_value(self, key: str) -> Json:
        return self.values.get(key)

    async def put_value(self, key: str, value: Json) -> None:
        self.values[key] = value

    async def deny(self, jti: str, expires_at: float) -> None:
        self.denials[jti] = expires_at

    async def denied(self) -> Mapping[str, float]:
        return dict(self.denials)

    async def healthy(self) -> bool:
        return not self.broken

    def events(self, kind: str = "", **fields: Json) -> list[dict[str, Json]]:
        """The committed events, decoded, that have this type and these fields."""
        found = [json.loads(row.body) for row in self.rows]
        return [
            body
            for body in found
            if kind in ("", body["type"]) and all(body.get(key) == value for key, value in fields.items())
        ]


class FakeConsole:
    """Meets interfaces.ServerConsole: attaches to the engine, cuts lines, keeps all."""

    def __init__(self, engine: Engine, status: ServerStatus) -> None:
        self._engine = engine
        self.statuses = [status]
        self.seen = b""
        self.rejoined: list[str] = []
        self.recalled: list[str] = []
        self._line = b""
        self._watchers: list[LineWatcher] = []
        self._attachment: Attachment | None = None
        self._typed = OpenLine()

    @property
    def attached(self) -> bool:
        return self._attachment is not None

    async def attach(self, container: str, *, rejoin: bool = False) -> None:
        if rejoin:
            self.rejoined.append(container)
        self._typed = OpenLine(unknown=rejoin)
        self._attachment = await self._engine.attach(container, self)

    async def recall(self, container: str) -> None:
        self.recalled.append(container)

    def output_received(self, data: bytes) -> None:
        self.seen += data
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            for watcher in list(self._watchers):
                watcher(line.decode("utf-8", "replace").rstrip("\r"))

    def output_ended(self) -> None:
        self._attachment = None

    def type(self, data: bytes) -> None:
        if self._attachment is None:
            raise InvalidState("nothing is attached")
        self._typed.feed(data)
        self._attachment.write(data)

    def enter(self, line: str) -> None:
        self.type(self._typed.keys(line))

    def watch(self, watcher: LineWatcher) -> Callable[[], None]:
        self._watchers.append(watcher)

        def stop() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return stop

    def set_status(
        self, status: ServerStatus, exit_code: int | None = None, reason: StatusReason | None = None
    ) -> None:
        self.statuses.append(status)

    def send_stats(self, metrics: Mapping[str, Json]) -> None:
        """Nobody looks on."""

    def tail(self, lines: int) -> list[str]:
        return self.seen.decode("utf-8", "replace").splitlines()[-lines:]

    async def resize_pty(self) -> None:
        """Nobody asked for a size."""

    def close(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = None


class FakeConsoles:
    """Meets interfaces.Consoles. `broken`: what opening one raises, set by a test."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.open_ones: dict[str, FakeConsole] = {}
        self.broken: Exception | None = None

    async def open(self, server_id: str, status: ServerStatus) -> FakeConsole:
        if self.broken is not None:
            raise self.broken
        return self.open_ones.setdefault(server_id, FakeConsole(self._engine, status))

    async def discard(self, server_id: str) -> None:
        self.open_ones.pop(server_id, None)

    def close(self) -> None:
        """The daemon is gone: its attaches end."""
        for console in self.open_ones.values():
            console.close()


class FakeGauges:
    """Meets servers.surroundings.Gauges: remembers who is tracked; `ooms` is set by a test."""

    def __init__(self) -> None:
        self.tracked: dict[str, int] = {}
        self.ooms: dict[str, int] = {}

    def track(self, server_id: str, *, pid: int, started_at: float, memory_limit: int, root: Path) -> None:
        self.tracked[server_id] = pid

    def untrack(self, server_id: str) -> None:
        self.tracked.pop(server_id, None)

    def forget(self, server_id: str) -> None:
        self.untrack(server_id)

    def last_oom(self, server_id: str) -> int:
        return self.ooms.get(server_id, 0)


class FakeFence:
    """Meets servers.surroundings.Fence: remembers the limits in bytes."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}

    async def limit(self, server_id: str, root: Path, limit_bytes: int) -> None:
        if not root.is_dir():
            raise AssertionError(f"{root} is not there yet")
        self.limits[server_id] = limit_bytes

    async def forget(self, server_id: str, root: Path) -> None:
        self.limits.pop(server_id, None)


def at_once(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    """Meets servers.threads.Threads without a thread."""
    return maybeDeferred(work, *args, **kwargs)
