"""A quarter of a million events through the real store (SECURITY W14, K11)."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from stellarstack.config import LimitsConfig
from stellarstack.interfaces import OutboxState
from tests.fakes_store import audit, open_store, result, status

reactor: Any = global_reactor
COUNT = 250_000


class LargeTests(TestCase):
    timeout = 300

    async def test_w14_queued_offline_then_delivered(self) -> None:
        """W14: 250 000 events queued offline come out once each and in order, and the outbox is empty after it."""
        store = await open_store(self, reactor)
        await store._writer.call(
            lambda database: database.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 500)
        )
        for start in range(0, COUNT, 50_000):
            calls = [store.append([status(n=start + n + m) for m in range(500)]) for n in range(0, 50_000, 500)]
            await gatherResults([Deferred.fromCoroutine(call) for call in calls])
        self.assertEqual((await store.outbox_state()).pending_rows, COUNT)
        seen = 0
        while rows := await store.outbox_after(seen, 500):
            self.assertEqual([row.seq for row in rows], list(range(seen + 1, seen + 1 + len(rows))))
            seen = rows[-1].seq
            await store.delivered(seen)
        self.assertEqual(await store.outbox_state(), OutboxState(COUNT, COUNT, 0, 0))

    async def test_w14_bound_and_renumbering(self) -> None:
        """W14: far beyond the bound the oldest give way in slices; 100 000 rows move above the stream in one call."""
        store = await open_store(self, reactor, limits=LimitsConfig(outbox_rows=100_000))
        await store._writer.call(
            lambda database: database.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 500)
        )
        await store.append([result("first")])
        for start in range(0, COUNT, 10_000):
            await store.append([audit(n=start + n) for n in range(10_000)])
        state = await store.outbox_state()
        self.assertEqual((state.last_seq, state.pending_rows), (COUNT + 1, 100_000))
        await store.raise_sequence(1_000_000)
        state = await store.outbox_state()
        self.assertEqual((state.last_seq, state.pending_rows), (1_100_000, 100_000))
        first, alert, *_ = await store.outbox_after(0, 5)
        self.assertEqual((first.type, alert.type), ("command.result", "node.alert"))
        self.assertEqual(json.loads(alert.body)["count"], COUNT + 1 - 100_000 + 1)
