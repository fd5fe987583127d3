"""A real store on a temporary folder, for the tests of every room."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase

from stellarstack.config import LimitsConfig
from stellarstack.core.messages import Command, Event, Json, Origin
from stellarstack.store.database import Database, Failed, Work
from stellarstack.store.schema import migrate
from stellarstack.store.sqlite_store import SqliteStore

NODE = "node_test1"


async def open_store(
    case: TestCase,
    reactor: IReactorFromThreads,
    *,
    path: Path | None = None,
    now: Callable[[], float] = time.time,
    limits: LimitsConfig | None = None,
) -> SqliteStore:
    """Opens a store (on a new file where no `path` is given) that the test's cleanup closes."""
    store = SqliteStore(
        path=path or Path(case.mktemp()) / "daemon.sqlite", node_id=NODE, reactor=reactor, now=now, limits=limits
    )
    await store.open()
    case.addCleanup(lambda: Deferred.fromCoroutine(store.close()))
    return store


def memory_database(*, now: Callable[[], float] = time.time, limits: LimitsConfig | None = None) -> Database:
    """The database without its thread and without a file, for tests of what it keeps."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    return Database(connection, node_id=NODE, now=now, limits=limits or LimitsConfig())


def run(database: Database, work: Work) -> Any:
    """One call in one commit; raises what it failed with."""
    (answer,) = database.run([work])
    if isinstance(answer, Failed):
        raise answer.error
    return answer


def command(command_id: str = "c1", *, origin: Origin = Origin.PUBSUB, kind: str = "server.start",
            expires_at: float | None = None, **payload: Json) -> Command:  # fmt: skip
    return Command(command_id, kind, payload, origin, expires_at=expires_at)


def ack(command_id: str = "c1") -> Event:
    return Event("command.ack", {"commandId": command_id, "timestamp": 1.0}, durable=True)


def result(command_id: str = "c1", **fields: Json) -> Event:
    return Event("command.result", {"commandId": command_id, **fields, "timestamp": 2.0}, durable=True)


def status(server_id: str = "s1", **fields: Json) -> Event:
    return Event("server.status", {"serverId": server_id, "status": "running", **fields}, durable=True)


def audit(**fields: Json) -> Event:
    return Event("console.audit", {"nodeId": NODE, "serverId": "s1", **fields}, durable=True)
