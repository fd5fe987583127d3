"""The store in trouble: locked by others, on a full or unwritable disk, in a file that is damaged. Real waits."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from stellarstack.errors import StoreFailed
from stellarstack.store.database import Database
from stellarstack.store.sqlite_store import SqliteStore
from stellarstack.store.writer import Writer
from tests.fakes_store import ack, audit, command, status
from tests.test_store import StoreCase

reactor: Any = global_reactor


class TroubleTests(StoreCase):
    async def test_k16_locked_by_another_process(self) -> None:
        """K16: while another process holds the lock calls fail after the busy timeout, together; then all is well."""
        store = self.store()
        await store.open()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        errors = await self.fails(*(store.append([status()]) for _ in range(2000)))
        self.assertEqual(len(errors), 2000)
        self.assertIn("locked", str(errors[0]))
        self.assertFalse(await store.healthy())
        other.execute("ROLLBACK")
        while not await store.healthy():
            await deferLater(reactor, 0.005)
        self.assertEqual((await store.append([status()]))[0].seq, 1)

    async def test_close_while_locked(self) -> None:
        """K16: a store can be closed while another process holds the lock; what waited is answered."""
        store = self.store()
        await store.open()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        calls = self.fails(*(store.append([status()]) for _ in range(600)))
        closing = Deferred.fromCoroutine(calls)
        await store.close()
        self.assertEqual(len(await closing), 600)

    async def test_k16_locked_at_the_start(self) -> None:
        """K16: a file locked at the start is an issue, not a refusal; once it is free the store works."""
        first = self.store()
        await first.open()
        await first.put_server("s1", {})
        await first.close()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        store = self.store()
        (issue,) = await store.open()
        self.assertEqual((issue.code, issue.severity), ("database_unavailable", "critical"))
        await self.fails(store.servers(), store.accept(command(), ack()))
        other.close()
        await self.recovered(store)
        self.assertEqual(await store.servers(), {"s1": {}})
        self.assertEqual(self.later, [])

    async def recovered(self, store: SqliteStore) -> None:
        while True:
            try:
                await store.servers()
            except StoreFailed:
                await deferLater(reactor, 0.02)
            else:
                return

    async def test_k14_full(self) -> None:
        """K14: a full disk fails calls with StoreFailed, keeps what was answered and every number, and recovers."""
        store = self.store()
        await store.open()
        await store.append([audit(text="x" * 1000) for _ in range(50)])
        await store._writer.call(self.limit_pages(0))
        errors = await self.fails(*(store.append([audit(text="y" * 100_000)]) for _ in range(5)))
        self.assertIn("SQLITE_FULL", str(errors[0]))
        self.assertTrue(errors[0].retry)
        self.assertEqual((await store.outbox_state()).last_seq, 50)
        await store.delivered(20)
        await store._writer.call(self.limit_pages(100_000))
        self.assertEqual((await store.append([status()]))[0].seq, 51)
        self.assertEqual([row.seq for row in await store.outbox_after(0, 100)], list(range(21, 52)))

    async def test_k14_small_calls_find_room(self) -> None:
        """K14: one call too big for the disk does not take its neighbours with it."""
        store = self.store()
        await store.open()
        await store._writer.call(self.limit_pages(8))
        release = self.hold(store)
        small = Deferred.fromCoroutine(store.put_value("a", 1))
        big = self.fails(store.append([audit(text="y" * 1_000_000)]))
        failing = Deferred.fromCoroutine(big)
        after = Deferred.fromCoroutine(store.put_value("b", 2))
        release()
        for each in (small, failing, after):
            await each
        self.assertEqual((await store.get_value("a"), await store.get_value("b")), (1, 2))

    def limit_pages(self, more: int) -> Callable[[Database], None]:
        def limit(database: Database) -> None:
            (pages,) = database.connection.execute("PRAGMA page_count").fetchone()
            database.connection.execute(f"PRAGMA max_page_count = {pages + more:d}").fetchone()

        return limit

    async def test_k16_corrupt_at_the_start(self) -> None:
        """K16: a corrupt file is set aside with an issue, and the store works on a new one."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"x" * 10_000)
        store = self.store()
        (issue,) = await store.open()
        self.assertEqual(issue.code, "database_corrupt")
        assert issue.kept is not None
        self.assertEqual(issue.kept.read_bytes(), b"x" * 10_000)
        self.assertEqual((await store.append([status()]))[0].seq, 1)

    async def test_k16_corrupt_while_running(self) -> None:
        """K16: damage met while running fails that call; the file is set aside, what can be read comes over."""
        store = self.store()
        await store.open()
        await store.accept(command(), ack())
        for n in range(50):
            await store.put_server(f"s{n}", {"text": "x" * 400})
        self.damage_servers()
        await self.fails(store.servers())
        await self.recovered(store)
        self.assertEqual([issue.code for issue in self.later], ["database_corrupt"])
        self.assertEqual(len(await store.unfinished()), 1)
        self.assertEqual((await store.append([status()]))[0].seq, 2)

    async def test_unwritable_folder(self) -> None:
        """K16: a folder that cannot be made is an issue and StoreFailed; once it can, the store works."""
        self.path.parent.write_text("in the way")
        store = self.store()
        (issue,) = await store.open()
        self.assertEqual(issue.code, "database_unavailable")
        await self.fails(store.servers())
        self.path.parent.unlink()
        await self.recovered(store)

    async def test_bug_in_a_call_does_not_end_the_thread(self) -> None:
        """Even an error nobody thought of, at the worst place, leaves a store that works."""
        store = self.store()
        await store.open()

        def broken(database: Database) -> None:
            database.outbox.counters = None  # type: ignore[assignment]

        await self.assertFailure(store._writer.call(broken), AttributeError)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertEqual((await store.append([status()]))[0].seq, 1)

    async def test_bug_in_the_opening(self) -> None:
        """An error nobody thought of in the opening fails the calls, and is logged as the bug it is."""
        writer = Writer(reactor=reactor, open_database=lambda suspect: 1 // 0, issue=self.later.append)  # type: ignore[arg-type, return-value]
        writer.start()
        await self.assertFailure(writer.call(lambda database: None), ZeroDivisionError)
        await writer.stop()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual([issue.code for issue in self.later], ["database_unavailable"])
