"""The publisher with the real outbox in SQLite: nothing is lost between the two, whichever of them fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from stellarstack.core.messages import Event, events_log
from stellarstack.core.redis_url import parse_redis_url
from stellarstack.redis.dial import Login, RedisDialer
from stellarstack.redis.link import RedisLink
from stellarstack.redis.publisher import OutboxPublisher
from stellarstack.store.sqlite_store import SqliteStore
from tests.integration.redis_waiting import until
from tests.redis_fakes import NODE, RecordingIntake
from tests.redis_server import RedisServer, missing

clock: Any = reactor
LOG = events_log(NODE)


class OutboxToRedisTests(TestCase):
    """K11 with both real ends."""

    skip = missing()
    timeout = 60

    def setUp(self) -> None:
        self.redis = RedisServer().start()
        self.addCleanup(self.redis.stop)
        self.folder = Path(mkdtemp(prefix="stellar-outbox-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.resets: list[int] = []

    async def opened(self, name: str = "a") -> tuple[SqliteStore, OutboxPublisher, RedisLink]:
        store = SqliteStore(path=self.folder / f"{name}.sqlite", node_id=NODE, reactor=clock)
        await store.open()
        self.addCleanup(store.close)
        publisher = OutboxPublisher(
            node_id=NODE, clock=clock, store=store, log_length=100_000, on_sequence_reset=self.resets.append
        )
        dialer = RedisDialer(reactor=clock, url=parse_redis_url(self.redis.url), login=Login(NODE, "t"))
        link = RedisLink(
            clock=clock, dialer=dialer, node_id=NODE, publisher=publisher, intake=RecordingIntake(),
            on_change=lambda _connected, _error: None,
        )  # fmt: skip
        self.addCleanup(link.stop)
        link.start()
        return store, publisher, link

    async def append(self, store: SqliteStore, count: int) -> None:
        for start in range(0, count, 100):
            await store.append(
                [
                    Event("node.alert", {"number": start + n, "timestamp": 1.0}, durable=True)
                    for n in range(min(100, count - start))
                ]
            )

    def seqs(self) -> list[int]:
        entries = self.redis.ask()("XRANGE", LOG, "-", "+")
        assert all(json.loads(fields[1])["seq"] == int(entry.split(b"-")[0]) for entry, fields in entries)
        return [int(entry.split(b"-")[0]) for entry, _ in entries]

    async def test_k11_two_thousand_rows_while_it_was_away(self) -> None:
        """K11: 2 000 events committed while Redis was down are in the log once each and in order after its return."""
        store, publisher, link = await self.opened()
        await self.append(store, 50)
        publisher.wake()
        await until(lambda: link.connected, "connecting")
        self.redis.kill()
        await until(lambda: not link.connected, "noticing")
        await self.append(store, 2000)
        publisher.wake()
        self.redis.start()
        await until(lambda: link.connected, "the return")
        assert await publisher.drained(20)
        # the kill took the 50 with it: the log is behind what was delivered, and they went again
        assert self.seqs() == list(range(1, 2051))
        assert (await store.outbox_state()).pending_rows == 0

    async def test_killed_again_and_again(self) -> None:
        """K09: with connections cut in the middle of sending, each event is in the log once and in order."""
        store, publisher, link = await self.opened()
        await until(lambda: link.connected, "connecting")
        ask = self.redis.ask()
        for _ in range(8):
            await self.append(store, 500)
            publisher.wake()
            ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for _ in range(8):  # each cut may be noticed only now, in the middle of the drain
            await until(lambda: link.connected, "the return")
            if await publisher.drained(20):
                break
        else:
            self.fail("it was never drained")
        assert self.seqs() == list(range(1, 4001))

    async def test_lost_database(self) -> None:
        """With a new database numbering goes on above the log, and the reset is told."""
        store, publisher, link = await self.opened("a")
        await self.append(store, 10)
        await until(lambda: link.connected, "connecting")
        assert await publisher.drained(10)
        await link.stop()
        store, publisher, link = await self.opened("b")
        await self.append(store, 3)
        await until(lambda: link.connected, "connecting")
        assert await publisher.drained(10)
        assert self.seqs() == list(range(1, 14))
        assert self.resets == [10]

    async def test_somebody_else_writes_the_log(self) -> None:
        """With a higher id put into the log while we are connected, every later event is in it, above, once."""
        store, publisher, link = await self.opened()
        await self.append(store, 10)
        publisher.wake()
        await until(lambda: link.connected, "connecting")
        assert await publisher.drained(10)
        self.redis.ask()("XADD", LOG, "500-0", "event", '{"seq":500}')
        await self.append(store, 300)
        publisher.wake()
        assert await publisher.drained(10)
        assert self.resets == [500]
        assert self.seqs() == [*range(1, 11), *range(500, 801)]
        numbers = [json.loads(fields[1]).get("number") for _, fields in self.redis.ask()("XRANGE", LOG, "501", "+")]
        assert sorted(numbers) == sorted([n for start in (0, 100, 200) for n in range(start, start + 100)])

    async def test_somebody_empties_the_log(self) -> None:
        """With the log cut to nothing behind its id, later events are in it under their own numbers."""
        store, publisher, link = await self.opened()
        await self.append(store, 20)
        publisher.wake()
        await until(lambda: link.connected, "connecting")
        assert await publisher.drained(10)
        ask = self.redis.ask()
        ask("XTRIM", LOG, "MAXLEN", 0)
        ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: not link.connected, "noticing")
        await until(lambda: link.connected, "the return")
        await self.append(store, 5)
        publisher.wake()
        assert await publisher.drained(10)
        assert (self.seqs(), self.resets) == (list(range(21, 26)), [])
