"""The store as the other rooms use it: one thread, group commit, bounded, and never down for good."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from stellarstack.config import LimitsConfig
from stellarstack.core.messages import Event, Json
from stellarstack.errors import StoreFailed
from stellarstack.interfaces import AcceptStatus, OutboxState, Store
from stellarstack.store import sqlite_store
from stellarstack.store.database import Database
from stellarstack.store.opening import StoreIssue
from stellarstack.store.sqlite_store import SqliteStore
from tests.fakes_store import NODE, ack, audit, command, open_store, result, status

reactor: Any = global_reactor


class StoreCase(TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "daemon.sqlite"
        self.later: list[StoreIssue] = []

    def store(self, **options: Any) -> SqliteStore:
        """A store that the cleanup closes; not open yet."""
        store = SqliteStore(
            path=self.path, node_id=NODE, reactor=reactor, issue=self.later.append, busy_seconds=0.05, **options
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(store.close()))
        return store

    def hold(self, store: SqliteStore) -> Callable[[], None]:
        """Keeps the store's thread busy until the answer is called."""
        gate = threading.Event()
        self.addCleanup(gate.set)
        store._writer.call(lambda database: gate.wait(10))
        return gate.set

    async def fails(self, *coroutines: Any) -> list[StoreFailed]:
        """Awaits all and expects StoreFailed of each."""
        found = []
        for deferred in [Deferred.fromCoroutine(coroutine) for coroutine in coroutines]:
            try:
                answer = await deferred
            except StoreFailed as error:
                found.append(error)
            else:
                self.fail(f"answered {answer!r}")
        return found

    def damage_servers(self) -> None:
        """Overwrites the first page of the servers behind the store's back."""
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'servers'").fetchone()
        with self.path.open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(b"\xa5" * 4096)
        # A commit of somebody else's makes the store forget the pages that it knows.
        other.execute("INSERT INTO notes (key, value) VALUES ('other', '1')")


class SeamTests(StoreCase):
    async def test_meets_the_seam(self) -> None:
        """A new store answers each question of the seam with nothing."""
        store: Store = await open_store(self, reactor)
        self.assertEqual(await store.unfinished(), [])
        self.assertEqual(await store.outbox_after(0, 10), [])
        self.assertEqual(await store.outbox_state(), OutboxState(0, 0, 0, 0))
        self.assertEqual((await store.servers(), await store.denied(), await store.get_value("x")), ({}, {}, None))
        self.assertTrue(await store.healthy())

    async def test_command_from_accept_to_delivery(self) -> None:
        """A command's journey: accepted, begun, finished, its events read and delivered, its copy answered."""
        store = await open_store(self, reactor)
        self.assertIs((await store.accept(command(), ack())).status, AcceptStatus.NEW)
        await store.begin("c1")
        ((entry),) = await store.unfinished()
        self.assertIsNotNone(entry.begun)
        await store.finish("c1", result(status="succeeded"))
        rows = await store.outbox_after(0, 10)
        self.assertEqual([row.type for row in rows], ["command.ack", "command.result"])
        await store.delivered(rows[-1].seq)
        self.assertEqual(await store.outbox_after(0, 10), [])
        self.assertIs((await store.accept(command(), ack())).status, AcceptStatus.REPEATED)

    async def test_redis_ahead_and_behind(self) -> None:
        """K10, K16: raise_sequence goes on above the stream, rewind sends its lost tail again."""
        store = await open_store(self, reactor)
        await store.append([status()])
        await store.raise_sequence(50)
        (row,) = await store.outbox_after(0, 10)
        self.assertEqual(row.seq, 51)
        await store.delivered(51)
        self.assertEqual(await store.rewind(50), 1)

    async def test_servers(self) -> None:
        """A server's document comes back equal, is replaced, and goes."""
        store = await open_store(self, reactor)
        await store.put_server("s1", {"name": "\ud800é", "ports": [1, {"host": 2.5}], "none": None})
        await store.put_server("s2", {"v": 1})
        await store.put_server("s2", {"v": 2})
        self.assertEqual(
            await store.servers(),
            {"s1": {"name": "\ud800é", "ports": [1, {"host": 2.5}], "none": None}, "s2": {"v": 2}},
        )
        await store.remove_server("s1")
        await store.remove_server("never")
        self.assertEqual(list(await store.servers()), ["s2"])

    async def test_values(self) -> None:
        """A value may be any JSON and is replaced by the next one of its key."""
        store = await open_store(self, reactor)
        values: list[Json] = [None, False, 3, "x", [1, [2]], {"a": {"b": None}}]
        for value in values:
            await store.put_value("key", value)
            self.assertEqual(await store.get_value("key"), value)

    async def test_denylist(self) -> None:
        """A denied jti is known until its time has passed, and denying it again never shortens that."""
        now = [1000.0]
        store = await open_store(self, reactor, now=lambda: now[0])
        await store.deny("a", 1300.0)
        await store.deny("a", 1100.0)
        await store.deny("\ud800", 1200.0)
        self.assertEqual(await store.denied(), {"a": 1300.0, "\ud800": 1200.0})
        now[0] = 1250.0
        self.assertEqual(await store.denied(), {"a": 1300.0})
        await store.deny("b", 1400.0)
        self.assertEqual(await store.denied(), {"a": 1300.0, "b": 1400.0})

    async def test_k16_unreadable_documents(self) -> None:
        """K16: a document that a damaged file made unreadable does not hide the others."""
        store = await open_store(self, reactor)
        await store.put_server("s1", {})
        await store.put_server("s2", {})
        await store.put_value("key", 1)

        def spoil(database: Database) -> None:
            database.connection.execute("UPDATE servers SET document = CASE id WHEN 's1' THEN '{' ELSE '{\"a\":1}' END")
            database.connection.execute("UPDATE notes SET value = ''")

        await store._writer.call(spoil)
        self.assertEqual(await store.servers(), {"s2": {"a": 1}})
        self.assertIsNone(await store.get_value("key"))


class ThreadTests(StoreCase):
    async def test_group_commit(self) -> None:
        """What waits together is committed together, and each call gets its own answer."""
        store = self.store()
        await store.open()
        release = self.hold(store)
        waiting = [Deferred.fromCoroutine(store.append([status(n=n)])) for n in range(300)]
        commits: list[str] = []
        release_traced = store._writer.call(lambda database: database.connection.set_trace_callback(commits.append))
        release()
        found = await gatherResults(waiting)
        await release_traced
        self.assertEqual([rows[0].seq for rows in found], list(range(1, 301)))
        await store._writer.call(lambda database: database.connection.set_trace_callback(None))
        self.assertLessEqual(commits.count("COMMIT"), 2)

    async def test_failing_call_fails_alone(self) -> None:
        """A call with a bug fails with its own error; its neighbours in the same commit are kept."""
        store = self.store()
        await store.open()
        release = self.hold(store)
        good = Deferred.fromCoroutine(store.append([status()]))
        bad = Deferred.fromCoroutine(store.append([Event("heartbeat", {}, durable=False)]))
        last = Deferred.fromCoroutine(store.append([status()]))
        release()
        self.assertEqual((await good)[0].seq, 1)
        await self.assertFailure(bad, ValueError)
        self.assertEqual((await last)[0].seq, 2)

    async def test_queue_is_bounded(self) -> None:
        """Beyond the bound of waiting calls StoreFailed comes at once; later calls go through again."""
        store = self.store(queue_most=10)
        await store.open()
        release = self.hold(store)
        waiting = [Deferred.fromCoroutine(store.append([status()])) for _ in range(9)]
        await self.fails(store.append([status()]))
        release()
        await gatherResults(waiting)
        self.assertEqual((await store.append([status()]))[0].seq, 10)

    async def test_close_finishes_what_is_queued(self) -> None:
        """What was called before close is answered and kept; what comes after it is refused."""
        store = self.store()
        await store.open()
        release = self.hold(store)
        waiting = [Deferred.fromCoroutine(store.append([status()])) for _ in range(700)]
        closing = Deferred.fromCoroutine(store.close())
        await self.fails(store.append([status()]))
        release()
        await gatherResults(waiting)
        await closing
        again = self.store()
        self.assertEqual(await again.open(), [])
        self.assertEqual((await again.outbox_state()).last_seq, 700)

    async def test_close_twice_and_never_opened(self) -> None:
        """close may be repeated, also of a store that was never opened."""
        store = self.store()
        await store.close()
        await store.close()
        await self.fails(store.servers())

    async def test_caller_that_gives_up(self) -> None:
        """A cancelled call harms nobody: it may have been kept, the others get their answers."""
        store = self.store()
        await store.open()
        release = self.hold(store)
        impatient = Deferred.fromCoroutine(store.append([status()]))
        patient = Deferred.fromCoroutine(store.append([status()]))
        impatient.addErrback(lambda _: "gave up")
        impatient.cancel()
        release()
        self.assertEqual(await impatient, "gave up")
        self.assertEqual((await patient)[0].seq, 2)

    async def test_reactor_is_not_blocked(self) -> None:
        """The reactor goes on while the thread is busy."""
        store = self.store()
        await store.open()
        release = self.hold(store)
        call = Deferred.fromCoroutine(store.append([status()]))
        await deferLater(reactor, 0.01)
        self.assertFalse(call.called)
        release()
        await call

    async def test_health_of_a_stuck_disk(self) -> None:
        """A commit that does not come in time is a no, and so is asking again at once; later it is a yes."""
        store = self.store()
        await store.open()
        self.patch(sqlite_store, "PROBE_SECONDS", 0.02)
        release = self.hold(store)
        self.assertFalse(await store.healthy())
        self.assertFalse(await store.healthy())
        release()
        while not await store.healthy():
            await deferLater(reactor, 0.005)


class BoundTests(StoreCase):
    async def test_limits_are_heeded(self) -> None:
        """The outbox keeps to the limits it was given."""
        store = self.store(limits=LimitsConfig(outbox_rows=20), now=time.time)
        await store.open()
        await store.append([audit() for _ in range(30)])
        self.assertEqual((await store.outbox_state()).pending_rows, 20)
