"""The link against a real Redis: commands in, events out, and what happens when Redis goes away."""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from stellarstack.core.messages import Origin, commands_channel, commands_queue, events_log
from stellarstack.core.redis_url import parse_redis_url
from stellarstack.errors import StellarError
from stellarstack.redis.dial import Login, RedisDialer
from stellarstack.redis.link import RedisLink
from stellarstack.redis.publisher import OutboxPublisher
from stellarstack.tasks import sleep, within
from tests.redis_fakes import NODE, MemoryOutbox, RecordingIntake
from tests.redis_server import RedisServer, missing

clock: Any = reactor
CHANNEL, QUEUE, LOG = commands_channel(NODE), commands_queue(NODE), events_log(NODE)


async def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    async def poll() -> None:
        while not condition():
            await sleep(clock, 0.01)

    await within(clock, seconds, what, poll())


class LinkCase(TestCase):
    """A link on a Redis of its own."""

    skip = missing()
    timeout = 60
    config: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.redis = RedisServer(*self.config).start()
        self.addCleanup(self.redis.stop)
        self.store = MemoryOutbox()
        self.intake = RecordingIntake()
        self.changes: list[tuple[bool, StellarError | None]] = []
        self.resets: list[int] = []

    def make(self, url: str | None = None, token: str | None = "strk_node_x", **dial: Any) -> RedisLink:
        self.publisher = OutboxPublisher(
            node_id=NODE, clock=clock, store=self.store, log_length=100_000, jitter=random,
            on_sequence_reset=self.resets.append,
        )  # fmt: skip
        dialer = RedisDialer(
            reactor=clock, url=parse_redis_url(url or self.redis.url), login=Login(NODE, token), **dial
        )
        link = RedisLink(
            clock=clock, dialer=dialer, node_id=NODE, publisher=self.publisher, intake=self.intake,
            on_change=lambda connected, error: self.changes.append((connected, error)),
        )  # fmt: skip
        self.addCleanup(link.stop)
        return link

    async def connected(self, url: str | None = None, **dial: Any) -> RedisLink:
        link = self.make(url, **dial)
        link.start()
        await until(lambda: link.connected, "connecting")
        return link


class RedisLinkTests(LinkCase):
    async def test_commands_come_by_both_ways(self) -> None:
        """A published command and a queued one both reach the intake, the queued one with its entry id."""
        await self.connected()
        ask = self.redis.ask()
        assert ask("PUBLISH", CHANNEL, b'{"id":"1"}') == 1
        entry = ask("XADD", QUEUE, "*", "command", b'\xff{"id":2}').decode()
        await until(lambda: len(self.intake.received) == 2, "both commands")
        await until(lambda: ask("XLEN", QUEUE) == 0, "the removal of the entry")
        assert sorted(self.intake.received, key=lambda one: one[1].value) == [
            (b'{"id":"1"}', Origin.PUBSUB, None),
            (b'\xff{"id":2}', Origin.QUEUE, entry),
        ]
        assert ask("XPENDING", QUEUE, "daemon")[0] == 0

    async def test_outbox_goes_out_in_order(self) -> None:
        """2 000 rows that waited stand in the log once each and in order, and are marked delivered."""
        self.store.add(2000)
        await self.connected()
        assert await self.publisher.drained(10)
        ids = [entry[0] for entry in self.redis.ask()("XRANGE", LOG, "-", "+")]
        assert ids == [b"%d-0" % seq for seq in range(1, 2001)]
        self.store.add(3)
        self.publisher.wake()
        assert await self.publisher.drained(10)
        assert self.redis.ask()("XLEN", LOG) == 2003
        assert self.store.delivered_seq == 2003

    async def test_transient(self) -> None:
        """A transient event is published and answered with the number of its readers."""
        await self.connected()
        answer = self.publisher.publish("stellar:somewhere", b"x")
        assert answer is not None
        assert await answer == 0
