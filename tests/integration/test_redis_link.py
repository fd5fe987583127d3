"""The link against a real Redis: commands in, events out, and what happens when Redis goes away."""

from __future__ import annotations

import json
from random import random
from typing import Any

from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from stellarstack.core.messages import Origin, commands_channel, commands_queue, events_log
from stellarstack.core.redis_url import parse_redis_url
from stellarstack.errors import RedisUnavailable, StellarError
from stellarstack.redis import wire
from stellarstack.redis.dial import Login, RedisDialer
from stellarstack.redis.link import RedisLink
from stellarstack.redis.publisher import OutboxPublisher
from tests.integration.redis_waiting import until
from tests.redis_fakes import NODE, MemoryOutbox, RecordingIntake
from tests.redis_server import FaultyProxy, RedisServer, missing

clock: Any = reactor
CHANNEL, QUEUE, LOG = commands_channel(NODE), commands_queue(NODE), events_log(NODE)


class LinkCase(TestCase):
    """A link on a Redis of its own."""

    skip = missing()
    timeout = 90
    config: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.redis = RedisServer(*self.config).start()
        self.addCleanup(self.redis.stop)
        self.store = MemoryOutbox()
        self.intake = RecordingIntake()
        self.changes: list[tuple[bool, StellarError | None]] = []
        self.resets: list[int] = []

    def make(
        self, url: str | None = None, *, sentinel: bool = False, log_length: int = 100_000, **dial: Any
    ) -> RedisLink:
        self.publisher = OutboxPublisher(
            node_id=NODE, clock=clock, store=self.store, log_length=log_length, jitter=random,
            on_sequence_reset=self.resets.append, wait_for_replica=sentinel,
        )  # fmt: skip
        login = dial.pop("login", Login(NODE, "strk_node_x"))
        dialer = RedisDialer(reactor=clock, url=parse_redis_url(url or self.redis.url), login=login, **dial)
        link = RedisLink(
            clock=clock, dialer=dialer, node_id=NODE, publisher=self.publisher, intake=self.intake,
            on_change=lambda connected, error: self.changes.append((connected, error)),
        )  # fmt: skip
        self.addCleanup(link.stop)
        return link

    async def connected(self, url: str | None = None, **how: Any) -> RedisLink:
        link = self.make(url, **how)
        link.start()
        await until(lambda: link.connected, "connecting")
        return link

    async def proxied(self) -> tuple[RedisLink, FaultyProxy]:
        proxy = FaultyProxy(clock, self.redis.port)
        self.addCleanup(proxy.stop)
        return await self.connected(f"redis://127.0.0.1:{proxy.port}"), proxy

    async def received(self, count: int) -> None:
        await until(lambda: len(self.intake.received) == count, f"{count} commands")

    def log_ids(self) -> list[int]:
        return [int(entry[0].split(b"-")[0]) for entry in self.redis.ask()("XRANGE", LOG, "-", "+")]


class CommandsTests(LinkCase):
    """Commands in, by pub/sub and by the queue."""

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

    async def test_f10_payloads_stay_bytes(self) -> None:
        """F10: numbers, floats, bytes that are no UTF-8 and an empty message arrive as they were sent."""
        await self.connected()
        bodies = [b"12345678", b"1.5", b"-0", b"\xff\xfe", b"", b"QUEUED", b"message", b"\r\n+OK\r\n"]
        for body in bodies:
            self.redis.ask()("PUBLISH", CHANNEL, body)
        await until(lambda: len(self.intake.received) == len(bodies), "all of them")
        assert self.intake.bodies == bodies

    async def test_queue_entries_without_a_command(self) -> None:
        """An entry without the field `command` is told to the intake as empty; other fields do not hide it."""
        await self.connected()
        ask = self.redis.ask()
        ask("XADD", QUEUE, "*", "other", "x")
        ask("XADD", QUEUE, "*", "note", "x", "command", "good")
        await until(lambda: len(self.intake.received) == 2, "both")
        assert self.intake.bodies == [b"", b"good"]
        await until(lambda: ask("XLEN", QUEUE) == 0, "the removal")

    async def test_pending_entries_come_first(self) -> None:
        """What an earlier connection had taken but not acknowledged is read first; of a deleted one nothing is told."""
        ask = self.redis.ask()
        ask("XGROUP", "CREATE", QUEUE, "daemon", "0", "MKSTREAM")
        for number in (1, 2, 3):
            ask("XADD", QUEUE, f"{number}-0", "command", str(number))
        ask("XREADGROUP", "GROUP", "daemon", NODE, "COUNT", 2, "STREAMS", QUEUE, ">")
        ask("XDEL", QUEUE, "1-0")
        await self.connected()
        await until(lambda: len(self.intake.received) == 2, "two and three")
        assert self.intake.received == [(b"2", Origin.QUEUE, "2-0"), (b"3", Origin.QUEUE, "3-0")]
        await until(lambda: ask("XPENDING", QUEUE, "daemon")[0] == 0, "the acknowledgement")

    async def test_store_failure_keeps_the_entry_and_the_order(self) -> None:
        """Entries that could not be kept stay in the stream and come again, in their order."""
        self.intake.failures = 4
        ask = self.redis.ask()
        for number in range(1, 41):
            ask("XADD", QUEUE, f"{number}-0", "command", str(number))
        await self.connected()
        await until(lambda: ask("XLEN", QUEUE) == 0, "all of them")
        assert self.intake.bodies == [b"%d" % number for number in range(1, 41)]

    async def test_k13_entries_that_are_too_big(self) -> None:
        """K13: entries too big together come one by one; one too big by itself comes as empty and is removed."""
        ask = self.redis.ask()
        for number in range(1, 15):
            ask("XADD", QUEUE, f"{number}-0", "command", bytes(3 * 2**20))
        ask("XADD", QUEUE, "15-0", "command", bytes(wire.REPLY_LIMIT + 2**20))
        ask("XADD", QUEUE, "16-0", "command", "good")
        link = self.make()
        link.start()
        await until(lambda: ask("XLEN", QUEUE) == 0, "all of them")
        assert [entry_id for _, _, entry_id in self.intake.received] == [f"{number}-0" for number in range(1, 17)]
        assert [len(raw) for raw in self.intake.bodies] == [3 * 2**20] * 14 + [0, 4]
        ask("XADD", QUEUE, "17-0", "command", "later")
        await until(lambda: self.intake.bodies[-1] == b"later", "the next command")

    async def test_entry_stays_until_it_is_journaled(self) -> None:
        """While the intake has not answered, the entry is in the stream and pending."""
        hold: Deferred[None] = Deferred()
        self.intake.hold = lambda: hold
        await self.connected()
        ask = self.redis.ask()
        ask("XADD", QUEUE, "*", "command", "x")
        await until(lambda: self.intake.received, "its arrival")
        assert (ask("XLEN", QUEUE), ask("XPENDING", QUEUE, "daemon")[0]) == (1, 1)
        hold.callback(None)
        await until(lambda: ask("XLEN", QUEUE) == 0, "its removal")

    async def test_stream_deleted_behind_us(self) -> None:
        """After DEL of the stream, and after FLUSHALL, the group is made anew and later commands are read."""
        link = await self.connected()
        ask = self.redis.ask()
        for number, command in enumerate((("DEL", QUEUE), ("FLUSHALL",), ("XGROUP", "DESTROY", QUEUE, "daemon")), 1):
            ask(*command)
            ask("XADD", QUEUE, "*", "command", f"after {number}")
            await self.received(number)
        assert self.intake.bodies == [b"after 1", b"after 2", b"after 3"]
        assert link.connected

    async def test_r02_exact_channel_only(self) -> None:
        """R02: the daemon holds one exact subscription and no pattern."""
        await self.connected()
        ask = self.redis.ask()
        assert ask("PUBSUB", "NUMPAT") == 0
        assert ask("PUBSUB", "CHANNELS") == [CHANNEL.encode()]


class EventsTests(LinkCase):
    """Events out: the outbox into the log, transient ones straight."""

    async def test_outbox_goes_out_in_order(self) -> None:
        """Rows that wait stand in the log once each and in order, are published, and are marked delivered."""
        ask = self.redis.ask()
        events = f"stellar:nodes:{NODE}:events"
        ask("SUBSCRIBE", events)
        self.store.add(1200)
        await self.connected()
        assert await self.publisher.drained(10)
        assert self.log_ids() == list(range(1, 1201))
        assert [json.loads(ask.read()[2])["seq"] for _ in range(1200)] == list(range(1, 1201))
        self.store.add(3)
        self.publisher.wake()
        assert await self.publisher.drained(10)
        assert self.log_ids() == list(range(1, 1204))
        assert self.store.delivered_seq == 1203

    async def test_every_channel_of_a_row(self) -> None:
        """A row is published to each of its channels and stands in the log under the field `event`."""
        ask = self.redis.ask()
        ask("SUBSCRIBE", "a")
        ask("SUBSCRIBE", "b")
        self.store.add(1, "a", "b")
        await self.connected()
        assert await self.publisher.drained(10)
        assert [ask.read()[1:] for _ in range(2)] == [[b"a", b'{"seq":1}'], [b"b", b'{"seq":1}']]
        assert self.redis.ask()("XRANGE", LOG, "-", "+") == [[b"1-0", [b"event", b'{"seq":1}']]]

    async def test_log_is_trimmed(self) -> None:
        """The log is held at about the length that was asked for."""
        self.store.add(3000)
        await self.connected(log_length=1000)
        assert await self.publisher.drained(10)
        assert 1000 <= self.redis.ask()("XLEN", LOG) < 1300

    async def test_k11_rows_from_while_it_was_away(self) -> None:
        """K11: 2 000 rows that came while Redis was down are in the log once, in order, after its return."""
        link = await self.connected()
        self.redis.kill()
        await until(lambda: not link.connected, "noticing")
        for _ in range(20):
            self.store.add(100)
            self.publisher.wake()
        self.redis.start()
        await until(lambda: link.connected, "the return")
        assert await self.publisher.drained(20)
        assert self.log_ids() == list(range(1, 2001))

    async def test_lost_tail_is_sent_again(self) -> None:
        """When the log ends below what was delivered (failover), the missing rows are sent again."""
        self.store.add(50)
        link = await self.connected()
        assert await self.publisher.drained(10)
        await link.stop()
        ask = self.redis.ask()
        entries = ask("XRANGE", LOG, "-", "30-0")
        ask("DEL", LOG)
        for entry_id, fields in entries:
            ask("XADD", LOG, entry_id, *fields)
        await self.connected()
        assert await self.publisher.drained(10)
        assert self.log_ids() == list(range(1, 51))
        assert self.store.rewound == [30]

    async def test_lost_database_goes_on_above(self) -> None:
        """When the log is ahead of our counter, numbering goes on above it and this is told once."""
        self.redis.ask()("XADD", LOG, "700-0", "event", "{}")
        self.store.add(5)
        await self.connected()
        assert await self.publisher.drained(10)
        assert self.log_ids() == [700, 701, 702, 703, 704, 705]
        assert self.resets == [700]

    async def test_transient(self) -> None:
        """A transient event is published and answered with the number of its readers."""
        ask = self.redis.ask()
        ask("SUBSCRIBE", "somewhere")
        await self.connected()
        answer = self.publisher.publish("somewhere", b"x")
        assert answer is not None
        assert await answer == 1
        assert ask.read() == [b"message", b"somewhere", b"x"]

    async def test_transient_events_are_dropped_while_away(self) -> None:
        """A transient event is dropped while Redis is away; one under way fails when the connection breaks."""
        link = await self.connected()
        self.redis.freeze()
        under_way = self.publisher.publish("somewhere", b"x")
        unobserved = self.publisher.publish("somewhere", b"y")
        assert under_way is not None
        assert unobserved is not None
        self.redis.kill()
        with self.assertRaises(RedisUnavailable):
            await under_way
        await until(lambda: not link.connected, "noticing")
        assert self.publisher.publish("somewhere", b"x") is None
        assert not await self.publisher.drained(5) or not self.store.rows

    async def test_full_redis_leaves_no_hole(self) -> None:
        """While Redis runs out of memory again and again nothing is lost: in the end the log has no hole."""
        ask = self.redis.ask()
        link = await self.connected()
        ask("CONFIG", "SET", "maxmemory", "1")
        self.store.add(5000)
        self.publisher.wake()
        lengths = set()
        for _ in range(12):
            began = clock.seconds()
            await until(lambda began=began: clock.seconds() > began + 0.2, "a moment")  # type: ignore[misc]
            lengths.add(ask("XLEN", LOG))
            used = int(ask("INFO", "memory").split(b"used_memory:")[1].split()[0])
            ask("CONFIG", "SET", "maxmemory", str(used + 150_000))
        assert 0 in lengths
        assert 5000 not in lengths
        ask("CONFIG", "SET", "maxmemory", "0")
        assert await self.publisher.drained(20)
        assert self.log_ids() == list(range(1, 5001))
        assert link.connected

    async def test_key_of_another_kind(self) -> None:
        """A log key that holds something else keeps the rows in the outbox until somebody removes it."""
        self.store.add(10)
        ask = self.redis.ask()
        link = await self.connected()
        assert await self.publisher.drained(10)
        ask("DEL", LOG)
        ask("SET", LOG, "x")
        self.store.add(10)
        self.publisher.wake()
        assert not await self.publisher.drained(0.5)
        ask("DEL", LOG)
        assert await self.publisher.drained(20)
        assert self.log_ids() == list(range(11, 21))
        assert link.connected

    async def test_store_failure_repeats_nothing(self) -> None:
        """While delivered rows cannot be marked so, they are not sent again over the same connection."""
        await self.connected()
        ask = self.redis.ask()
        ask("SUBSCRIBE", f"stellar:nodes:{NODE}:events")
        self.store.failing = {"delivered"}
        self.store.add(2)
        self.publisher.wake()
        assert not await self.publisher.drained(1)
        self.store.failing = set()
        self.store.add(1)
        assert await self.publisher.drained(10)
        assert [ask.read()[2] for _ in range(3)] == [b'{"seq":1}', b'{"seq":2}', b'{"seq":3}']


class OutageTests(LinkCase):
    """Redis goes, falls silent, or is not there yet."""

    async def test_k08_down_at_boot(self) -> None:
        """K08: with no Redis at the start the link keeps trying, says why, and connects when there is one."""
        self.redis.kill()
        link = self.make()
        link.start()
        await until(lambda: self.changes, "the first report")
        connected, error = self.changes[0]
        assert not connected
        assert isinstance(error, RedisUnavailable) and error.retry
        self.redis.start()
        await until(lambda: link.connected, "connecting")
        assert self.changes[-1] == (True, None)

    async def test_k09_restart(self) -> None:
        """K09: after a restart of Redis it is subscribed again and fetches the commands queued meanwhile."""
        link = await self.connected()
        self.redis.kill()
        await until(lambda: not link.connected, "noticing")
        self.redis.start()
        ask = self.redis.ask()
        ask("XADD", QUEUE, "*", "command", "queued meanwhile")
        await until(lambda: link.connected, "the return")
        assert ask("PUBLISH", CHANNEL, "published after") == 1
        await until(lambda: len(self.intake.received) == 2, "both")
        assert self.intake.bodies == [b"queued meanwhile", b"published after"]

    async def test_k09_reset(self) -> None:
        """K09: connections that are reset come back within 5 s."""
        link, proxy = await self.proxied()
        proxy.reset()
        await until(lambda: not link.connected, "noticing")
        await until(lambda: link.connected, "the return", 5)

    async def test_k09_frozen_redis_is_noticed(self) -> None:
        """K09: a Redis that is stopped (SIGSTOP), so that TCP lives on, is noticed within 15 s, on all three lines."""
        link = await self.connected()
        self.redis.freeze()
        await until(lambda: not any(one.up for one in link._connections), "noticing", 15)
        self.redis.thaw()
        await until(lambda: link.connected, "the return", 20)

    async def test_k09_blackhole_loses_nothing(self) -> None:
        """K09: rows under way into a blackhole are in the log once after it heals, and queued commands are run."""
        link, proxy = await self.proxied()
        self.store.add(10)
        self.publisher.wake()
        assert await self.publisher.drained(5)
        proxy.blackhole()
        self.store.add(700)
        self.publisher.wake()
        self.redis.ask()("XADD", QUEUE, "*", "command", "queued meanwhile")
        await until(lambda: not any(one.up for one in link._connections), "noticing", 15)
        proxy.heal()
        await until(lambda: link.connected, "the return", 20)
        assert await self.publisher.drained(10)
        assert self.log_ids() == list(range(1, 711))
        await until(lambda: self.intake.bodies == [b"queued meanwhile"], "the command")

    async def test_not_a_redis(self) -> None:
        """A server that speaks something else is told apart and does no harm."""

        class Web(protocol.Protocol):
            transport: Any

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = clock.listenTCP(0, protocol.Factory.forProtocol(Web), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        link = self.make(f"redis://127.0.0.1:{port.getHost().port}")
        link.start()
        await until(lambda: link.error, "the report")
        assert "does not speak Redis" in str(link.error)

    async def test_no_room_for_another_connection(self) -> None:
        """A Redis that takes no more connections is quoted."""
        self.redis.ask()("CONFIG", "SET", "maxclients", "1")
        link = self.make()
        link.start()
        await until(lambda: link.error, "the report")
        assert "max number of clients" in str(link.error)

    async def test_oversized_message(self) -> None:
        """A published message over the wire's limit costs the connection, not the daemon: the next ones arrive."""
        link = await self.connected()
        ask = self.redis.ask()
        ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
        ask("PUBLISH", CHANNEL, b"x" * (wire.REPLY_LIMIT + 2**20))
        await until(lambda: not link.connected, "noticing")
        await until(lambda: link.connected, "the return")
        ask("PUBLISH", CHANNEL, "good")
        await until(lambda: self.intake.bodies == [b"good"], "the next command")

    async def test_stop_while_away(self) -> None:
        """A link that waits for its next attempt stops at once."""
        self.redis.kill()
        link = self.make()
        link.start()
        await until(lambda: self.changes, "the report")
        await link.stop()
        assert not link.connected
