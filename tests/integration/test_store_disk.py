"""A store on a small disk of its own: full, read-only, and better again (SECURITY K14, K16)."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from stellarstack.errors import StoreFailed
from stellarstack.store.sqlite_store import SqliteStore
from tests.fakes_store import NODE, ack, audit, command, status

reactor: Any = global_reactor


class SmallDiskTests(TestCase):
    def setUp(self) -> None:
        self.disk = Path(self.mktemp()).absolute()
        self.disk.mkdir(parents=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "stellarstack-test", str(self.disk)],
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            raise SkipTest(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.disk)], check=True)
        self.path = self.disk / "daemon.sqlite"

    async def opened(self, *issues: str) -> SqliteStore:
        store = SqliteStore(path=self.path, node_id=NODE, reactor=reactor, busy_seconds=0.1)
        self.addCleanup(lambda: Deferred.fromCoroutine(store.close()))
        self.assertEqual([issue.code for issue in await store.open()], list(issues))
        return store

    def fill(self) -> None:
        """Leaves no byte of the disk free."""
        with (self.disk / "filler").open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError as error:
                    self.assertEqual(error.errno, errno.ENOSPC)

    def free(self) -> None:
        (self.disk / "filler").unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.disk)], check=True)

    async def append_until_full(self, store: SqliteStore) -> int:
        """Answers how many events were committed."""
        for count in range(10_000):
            try:
                await store.append([audit(text="x" * 2000)])
            except StoreFailed:
                return count
        raise AssertionError("the disk was never full")

    async def recovered(self, store: SqliteStore) -> None:
        while True:
            try:
                await store.put_value("recovered", True)
            except StoreFailed:
                await deferLater(reactor, 0.05)
            else:
                return

    async def test_k14_disk_full_while_running(self) -> None:
        """K14: on a full disk calls fail clearly, all that was answered stays, and it recovers by itself."""
        store = await self.opened()
        await store.accept(command(), ack())
        self.fill()
        count = await self.append_until_full(store)
        self.assertFalse(await store.healthy())
        self.assertEqual((await store.outbox_state()).last_seq, count + 1)
        self.free()
        await self.recovered(store)
        self.assertEqual((await store.append([status()]))[0].seq, count + 2)
        self.assertEqual(len(await store.outbox_after(0, 10_000)), count + 2)
        self.assertEqual(len(await store.unfinished()), 1)

    async def test_k14_start_on_a_full_disk(self) -> None:
        """K14: a store that was closed on a full disk opens again, still full and later free, without an alarm."""
        store = await self.opened()
        self.fill()
        count = await self.append_until_full(store)
        await store.close()
        self.fill()
        again = SqliteStore(path=self.path, node_id=NODE, reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(again.close()))
        codes = [issue.code for issue in await again.open()]
        self.assertIn(codes, ([], ["database_unavailable"]))
        self.free()
        await self.recovered(again)
        self.assertEqual((await again.outbox_state()).last_seq, count)
        self.assertEqual(list(self.disk.glob("*.corrupt-*")), [])

    async def test_k14_new_store_on_a_full_disk(self) -> None:
        """K14: where even a new file finds no room the store tells so, and works as soon as there is some."""
        self.fill()
        store = await self.opened("database_unavailable")
        self.free()
        await self.recovered(store)
        self.assertEqual((await store.append([status()]))[0].seq, 1)
        self.assertEqual(os.listdir(self.disk).count("daemon.sqlite"), 1)

    async def test_k16_read_only(self) -> None:
        """K16: on a read-only file system open tells an issue and calls fail; after a remount all is there."""
        store = await self.opened()
        await store.put_server("s1", {"a": 1})
        await store.close()
        self.remount("ro")
        again = await self.opened("database_unavailable")
        with self.assertRaises(StoreFailed):
            await again.append([status()])
        self.assertFalse(await again.healthy())
        self.remount("rw")
        await self.recovered(again)
        self.assertEqual(await again.servers(), {"s1": {"a": 1}})
