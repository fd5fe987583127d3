"""A real store on a temporary folder, for the tests of every room."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase

from stellarstack.config import LimitsConfig
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
