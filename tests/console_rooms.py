"""Consoles and their door wired together for tests: on a FakeEngine and a task.Clock, or on a real reactor."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.resource import Resource

from stellarstack.api.http import DaemonSite
from stellarstack.api.websocket import ConsoleEndpoint
from stellarstack.config import ConsoleConfig
from stellarstack.console.consoles import Consoles
from stellarstack.console.seats import Seating
from stellarstack.core.claims import Claims
from stellarstack.core.messages import Event, Origin
from stellarstack.core.records import ServerStatus
from stellarstack.errors import Forbidden, TokenExpired, Unauthorized
from stellarstack.interfaces import Engine
from stellarstack.tasks import Tasks

DEFAULTS = ConsoleConfig()
ALL = frozenset({"console.read", "console.write", "stats.read"})


def inline(work: Callable[..., object], *args: object) -> Awaitable[object]:
    """Blocking work done at once, for tests on a task.Clock."""
    return maybeDeferred(work, *args)


class Tokens:
    """A TokenVerifier whose tokens are names; `claims` and `errors` say what they mean."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.slow: Deferred[None] | None = None  # where set, every judgement waits for it
        self.known: dict[str, Claims | Exception] = {
            "bad": Unauthorized("no such token"),
            "expired": TokenExpired("the token has expired"),
            "revoked": Forbidden("the token was revoked"),
        }

    def add(self, token: str, server: str = "srv_1", *, life: float = 300.0, **changes: Any) -> str:
        wall = self._now()
        self.known[token] = replace(Claims("usr_1", server, ALL, wall, wall + life, f"jti-{token}"), **changes)
        return token

    async def verify(self, token: str) -> Claims:
        if self.slow is not None:
            await self.slow
        found = self.known.get(token, self.known["bad"])
        if isinstance(found, Exception):
            raise found
        return found


class Directory:
    """A ServerDirectory."""

    def __init__(self) -> None:
        self.servers: dict[str, ServerStatus] = {}

    def status_of(self, server_id: str) -> ServerStatus | None:
        return self.servers.get(server_id)

    def name_of(self, server_id: str) -> str | None:
        return f"the server {server_id}" if server_id in self.servers else None

    def listing(self) -> list[Mapping[str, Any]]:
        return []


class Bus:
    """An EventBus that keeps what it gets, and tells those who listen."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.listeners: list[Callable[[str, bytes], None]] = []

    async def emit(self, *events: Event) -> None:
        for event in events:
            self.publish(event)

    def publish(self, event: Event) -> None:
        self.events.append(event)
        for listener in list(self.listeners):
            listener(event.type, event.encode())

    def listen(self, listener: Callable[[str, bytes], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener) if listener in self.listeners else None

    def named(self, kind: str) -> list[Mapping[str, Any]]:
        return [event.fields for event in self.events if event.type == kind]


class Inbox:
    """An Intake that keeps what comes; `fault` is raised instead."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.fault: Exception | None = None

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        if self.fault is not None:
            raise self.fault
        self.got.append((json.loads(raw), origin, entry_id))


class Rooms:
    """A node's consoles and their door."""

    def __init__(
        self, *, engine: Engine, directory: Path, reactor: Any, now: Callable[[], float], in_thread: Any = None,
        config: ConsoleConfig = DEFAULTS, allowed_origins: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.bus = Bus()
        self.tasks = Tasks()
        self.tokens = Tokens(now)
        self.directory = Directory()
        self.inbox = Inbox()
        self.lines: list[tuple[str, str]] = []  # as they were typed
        self.engine = engine
        self.consoles = Consoles(
            engine=engine, directory=directory, config=config, bus=self.bus, node_id="node_t", reactor=reactor,
            tasks=self.tasks, now=now, in_thread=in_thread,
        )  # fmt: skip
        self.seats = Seating(config=config, now=now)
        self.endpoint = ConsoleEndpoint(
            consoles=self.consoles, directory=self.directory, seats=self.seats, tokens=self.tokens, config=config,
            node_id="node_t", intake=self.inbox, typed_lines=self._typed, bus=self.bus,
            clock=reactor, now=now, tasks=self.tasks, allowed_origins=allowed_origins,
        )  # fmt: skip
        self.endpoint.start()
        root = Resource()
        root.putChild(b"console", self.endpoint.resource())
        self.site = DaemonSite(root, reactor=reactor)

    def _typed(self, server_id: str, line: str) -> None:
        self.lines.append((server_id, line))

    async def open(self, server_id: str = "srv_1", status: ServerStatus = ServerStatus.RUNNING) -> Any:
        self.directory.servers[server_id] = status
        return await self.consoles.open(server_id, status)

    async def close(self) -> None:
        await self.endpoint.stop()
        await self.consoles.stop()
        await self.tasks.cancel_all()
