"""Events on their way out: order, batches, repeats, holes that must not be, and what is dropped."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import OutboxRow
from stellarstack.errors import RedisRefused, RedisUnavailable
from stellarstack.redis import publisher as publishers
from stellarstack.redis.publisher import BATCH_BYTES, BATCH_ROWS, OutboxPublisher, batches
from stellarstack.redis.wire import ReplyError
from tests.examples import examples
from tests.redis_fakes import NODE, SILENT, MemoryOutbox, ScriptedRedis, row, settle

SMALLER = Exception("ERR The ID specified in XADD is equal or smaller than the target stream top item")
LOG = b"stellar:nodes:node_test1:events:log"


def xadd(command: list[bytes]) -> Any:
    """As Redis: 0-0 is never taken."""
    return Exception("ERR The ID specified in XADD must be greater than 0-0") if b"0-0" in command else b"ok"


class PublisherTests(SynchronousTestCase):
    """A publisher on a scripted Redis, with an outbox in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryOutbox()
        self.resets: list[int] = []
        self.publisher = self.make()

    def make(self, **how: Any) -> OutboxPublisher:
        return OutboxPublisher(
            node_id=NODE, clock=self.clock, store=self.store, log_length=1000,
            on_sequence_reset=self.resets.append, **how,
        )  # fmt: skip

    def connect(self, **replies: Any) -> Any:
        self.redis = ScriptedRedis(self.clock, **{"XREVRANGE": [], "XADD": xadd, "PUBLISH": 1, **replies})

        async def work() -> None:
            await self.publisher.prepare(self.redis.wire)
            await self.publisher.serve(self.redis.wire)

        serving = Deferred.fromCoroutine(work())
        self.redis.wire.when_lost().addCallback(lambda _: serving.cancel())
        settle(self.clock)
        self.addCleanup(serving.addErrback, lambda _: None)
        self.addCleanup(self.redis.hang_up)
        return serving

    def logged(self) -> list[int]:
        added = [command for command in self.redis.asked if command[0] == b"XADD" and b"0-0" not in command]
        return [int(command[5].split(b"-")[0]) for command in added]

    def test_one_row(self) -> None:
        """A row is added to the log under its seq, trimmed about, and then published to each of its channels."""
        self.store.rows = [row(7, "a", "b", body=b"{}")]
        self.connect()
        self.assertEqual(
            self.redis.asked[-3:],
            [
                [b"XADD", LOG, b"MAXLEN", b"~", b"1000", b"7-0", b"event", b"{}"],
                [b"PUBLISH", b"a", b"{}"],
                [b"PUBLISH", b"b", b"{}"],
            ],
        )
        self.assertEqual(self.store.delivered_seq, 7)

    def test_wake(self) -> None:
        """Rows that come later are sent when the publisher is woken; waking with nothing there sends nothing."""
        self.connect()
        self.publisher.wake()
        self.publisher.wake()
        settle(self.clock)
        self.assertEqual(self.logged(), [])
        self.store.add(3)
        self.publisher.wake()
        settle(self.clock)
        self.assertEqual((self.logged(), self.store.delivered_seq), ([1, 2, 3], 3))

    def test_many_rows(self) -> None:
        """Many rows go in order in transactions of at most 500."""
        self.store.add(1234)
        self.connect()
        settle(self.clock, 5000)
        self.assertEqual(self.logged(), list(range(1, 1235)))
        self.assertEqual(self.redis.names.count("MULTI"), 1 + 3)
        self.assertEqual(self.store.delivered_seq, 1234)
        self.assertLessEqual(self.store.most_asked, BATCH_ROWS)

    def test_a_repeat_counts_as_delivered(self) -> None:
        """A row that the log refuses and holds counts as delivered, alone and in a transaction."""
        for count in (1, 5):
            self.store.add(count)
            self.connect(XADD=SMALLER, XREVRANGE=self.holding(*self.store.rows))
            self.assertEqual(self.store.delivered_seq, self.store.rows[-1].seq)
            self.redis.hang_up()
        self.assertEqual(self.resets, [])

    def holding(self, *rows: OutboxRow) -> Any:
        """XREVRANGE of a log that holds `rows`."""

        def answer(command: list[bytes]) -> Any:
            top, bottom = (
                int(end.split(b"-")[0]) if end not in b"+-" else default
                for end, default in zip(command[2:4], (2**63, 0), strict=True)
            )
            inside = [row for row in reversed(rows) if bottom <= row.seq <= top]
            return [[b"%d-0" % row.seq, [b"event", row.body]] for row in inside[: int(command[5])]]

        return answer

    def foreign(self, *above: OutboxRow, up_to: int) -> None:
        """From now on the log ends with an entry of somebody else's."""
        alien = replace(row(up_to), body=b"whatever")
        self.redis.replies["XREVRANGE"] = self.holding(*above, alien)
        self.redis.replies["XADD"] = lambda c: xadd(c) if int(c[5].split(b"-")[0]) > up_to else SMALLER

    def test_an_entry_of_somebody_else(self) -> None:
        """A first refusal is no repeat: what was never sent moves above the foreign entry, and the reset is told."""
        for rows, transactions in ((1, "OK"), (5, "OK"), (5, Exception("NOPERM no multi"))):
            self.setUp()
            self.connect(MULTI=transactions)
            self.store.add(2)
            self.publisher.wake()
            settle(self.clock, 100)
            self.foreign(*self.store.rows, up_to=70)
            self.store.add(rows)
            self.publisher.wake()
            settle(self.clock, 100)
            self.assertEqual((self.resets, self.store.delivered_seq), ([70], 70 + rows))
            self.assertEqual(self.logged()[-rows:], list(range(71, 71 + rows)))
            self.redis.hang_up()

    def test_an_entry_of_somebody_else_amid_repeats(self) -> None:
        """Of a batch whose first rows the log holds, only the rest moves above what somebody else has added."""
        self.connect()
        self.store.add(6)
        self.foreign(*self.store.rows[:4], up_to=9)
        self.publisher.wake()
        settle(self.clock, 100)
        self.assertEqual((self.resets, self.store.delivered_seq), ([9], 11))
        self.assertEqual(self.logged(), [1, 2, 3, 4, 5, 6, 10, 11])

    def test_a_log_that_was_cut(self) -> None:
        """Where somebody emptied the log, what was delivered stays so, and what never was finds its way up."""
        self.store.add(9)
        self.store.delivered_seq = 8
        self.connect(XADD=lambda c: xadd(c) if b"0-0" in c or int(c[5].split(b"-")[0]) > 30 else SMALLER)
        settle(self.clock, 200)
        self.assertEqual(self.resets, [18, 38])
        self.assertEqual(self.logged()[-1], self.store.delivered_seq)
        self.assertEqual(self.store.delivered_seq - self.resets[-1], len(self.store.rows))

    def test_a_log_that_was_cut_after_it_had_all(self) -> None:
        """Where somebody emptied the log, rows delivered before count as delivered though it refuses them."""
        self.store.add(9)
        self.store.delivered_seq = 9
        self.connect(XADD=SMALLER)
        self.assertEqual((self.store.rewound, self.resets, self.store.delivered_seq), ([0], [], 9))

    def test_no_room_above(self) -> None:
        """A log whose end leaves no number above it is a refusal that says what to do, and nothing is lost."""
        self.store.add(1)
        serving = self.connect(XREVRANGE=[[b"18446744073709551615-0", [b"event", b"{}"]]])
        self.assertIn("delete the stream", str(self.failureResultOf(serving, RedisRefused).value))
        self.assertEqual(self.store.delivered_seq, 0)

    def test_broken_off(self) -> None:
        """Rows whose answer never came are sent again over the next connection, the first ones first."""
        self.store.add(10)
        self.connect(EXEC=deque([[], SILENT]))
        self.redis.hang_up()
        self.assertEqual(self.store.delivered_seq, 0)
        self.connect()
        self.assertEqual((self.logged(), self.store.delivered_seq), (list(range(1, 11)), 10))

    def test_aborted_transaction_leaves_no_hole(self) -> None:
        """When Redis takes none of a batch, nothing is marked, and all of it goes again after a delay."""
        self.store.add(10)
        abort = Exception("EXECABORT Transaction discarded because of previous errors.")
        self.connect(EXEC=deque([[], abort]))
        self.assertEqual(self.store.delivered_seq, 0)
        del self.redis.replies["EXEC"]
        self.clock.advance(0.2)
        settle(self.clock, 100)
        self.assertEqual(self.store.delivered_seq, 10)

    def test_failed_row_holds_up_the_next(self) -> None:
        """One at a time: when a row is not taken, none after it is sent."""
        self.store.add(3)
        self.connect(
            MULTI=Exception("NOPERM no multi"), XADD=lambda c: xadd(c) if b"2-0" not in c else Exception("OOM")
        )
        self.assertEqual(self.logged(), [1, 2])
        self.redis.replies["XADD"] = xadd
        self.clock.advance(0.2)
        settle(self.clock)
        self.assertEqual(self.logged(), [1, 2, 2, 3])
        self.assertEqual(self.store.delivered_seq, 3)

    def test_one_that_still_loads(self) -> None:
        """A Redis that reads its data from disk refuses nothing for good: what it does not take is sent again."""
        loading = Exception("LOADING Redis is loading the dataset in memory")
        failure = self.failureResultOf(self.connect(XREVRANGE=loading), RedisUnavailable)
        self.assertNotIsInstance(failure.value, RedisRefused)
        self.store.add(3)
        self.connect(EXEC=deque([[], loading]))
        self.assertEqual(self.store.delivered_seq, 0)
        del self.redis.replies["EXEC"]
        self.clock.advance(0.2)
        settle(self.clock, 100)
        self.assertEqual((self.logged()[-3:], self.store.delivered_seq), ([1, 2, 3], 3))

    def test_wrong_server(self) -> None:
        """A Redis that has become read-only is left, so that the primary is found anew."""
        self.store.add(1)
        self.failureResultOf(self.connect(XADD=lambda c: xadd(c) if b"0-0" in c else Exception("READONLY")), ReplyError)
        self.assertIsNone(self.publisher.publish("c", b""))

    def test_rights(self) -> None:
        """A lack of rights is a refusal: to add, to read the log, to publish."""
        self.failureResultOf(self.connect(XADD=Exception("NOPERM no xadd")), RedisRefused)
        self.failureResultOf(self.connect(XREVRANGE=Exception("NOPERM no")), RedisRefused)
        self.failureResultOf(self.connect(EXEC=Exception("NOPERM no exec")), RedisRefused)
        self.store.add(2)
        self.failureResultOf(self.connect(PUBLISH=Exception("NOPERM no channel")), RedisRefused)
        self.assertEqual(self.store.delivered_seq, 0)

    def test_log_ahead(self) -> None:
        """A log that is ahead of our counter raises it and is told once; what waits goes above it."""
        self.store.add(2)
        self.connect(XREVRANGE=[[b"700-3", [b"event", b"{}"]]])
        self.assertEqual((self.resets, self.logged()), ([700], [701, 702]))

    def test_log_of_a_lost_database(self) -> None:
        """A log whose newest entry is no event of ours is ahead too: nothing is taken for sent."""
        self.store.add(9)
        self.connect(XREVRANGE=[[b"5-0", [b"event", b'{"eventId":"evt_of_old"}']]])
        self.assertEqual((self.resets, self.logged()), ([5], [6, 7, 8, 9, 10, 11, 12, 13, 14]))

    def test_log_with_our_last_event(self) -> None:
        """A log that ends with our own event, unmarked when we died, is in step."""
        self.store.add(9)
        self.connect(XREVRANGE=[[b"5-0", [b"event", b'{"eventId":"evt_5"}']]])
        self.assertEqual((self.resets, self.logged()), ([], [1, 2, 3, 4, 5, 6, 7, 8, 9]))

    def test_log_behind(self) -> None:
        """A log that ends below what was delivered gets the missing rows again."""
        self.store.add(9)
        self.store.delivered_seq = 8
        self.connect(XREVRANGE=[[b"5-0", []]])
        self.assertEqual((self.store.rewound, self.logged()), ([5], [6, 7, 8, 9]))

    def test_log_in_step(self) -> None:
        """A log that ends between delivered and committed needs nothing."""
        self.store.add(9)
        self.store.delivered_seq = 3
        self.connect(XREVRANGE=[[b"5-0", []]])
        self.assertEqual((self.store.rewound, self.resets, self.logged()), ([], [], [4, 5, 6, 7, 8, 9]))

    def test_k10_waits_for_a_replica(self) -> None:
        """K10: with Sentinel WAIT 1 1000 comes after the rows and before they are marked; none answering is no stop."""
        self.publisher = self.make(wait_for_replica=True)
        self.store.add(2)
        held = deque([SILENT])
        self.connect(WAIT=held)
        self.assertEqual(self.redis.asked[-1], [b"WAIT", b"1", b"1000"])
        self.assertEqual(self.store.delivered_seq, 0)
        self.redis.say(0)
        settle(self.clock)
        self.assertEqual(self.store.delivered_seq, 2)

    def test_store_fails(self) -> None:
        """While the store fails, nothing is sent twice, and it goes on once it works."""
        self.connect()
        self.store.failing = {"delivered"}
        self.store.add(2)
        self.publisher.wake()
        settle(self.clock)
        for _ in range(20):
            self.clock.advance(0.1)
        self.assertEqual((self.logged(), self.store.delivered_seq), ([1, 2], 0))
        self.store.failing = {"outbox_after"}
        for _ in range(20):
            self.clock.advance(0.1)
        self.assertEqual(self.store.delivered_seq, 2)
        self.store.failing = set()
        self.store.add(1)
        for _ in range(50):
            self.clock.advance(0.1)
        self.assertEqual((self.logged(), self.store.delivered_seq), ([1, 2, 3], 3))

    def test_big_rows_are_read_few_at_a_time(self) -> None:
        """After big rows fewer are read at once, and more again after small ones."""
        self.store.rows = [row(seq, body=b"x" * 200_000) for seq in range(1, 41)]
        self.connect()
        settle(self.clock, 500)
        self.assertEqual(self.publisher._limit, 20)
        self.store.add(40)
        self.publisher.wake()
        settle(self.clock, 500)
        self.assertEqual(self.publisher._limit, BATCH_ROWS)
        self.assertEqual(self.store.delivered_seq, 80)

    @examples(20)
    @given(
        st.lists(st.tuples(st.integers(0, 2 * BATCH_BYTES), st.integers(1, 3)), max_size=8),
        st.sampled_from([0, 1, 499, 500, 501, 1100]),
    )
    def test_batches(self, shapes: list[tuple[int, int]], small: int) -> None:
        """Batches hold all rows in order, and none is over its bounds unless a row alone is."""
        rows = [row(n, *["c"] * channels, body=bytes(size) or b"x") for n, (size, channels) in enumerate(shapes, 1)]
        rows += [row(seq) for seq in range(len(rows) + 1, len(rows) + 1 + small)]
        cut = batches(rows)
        self.assertEqual([one for batch in cut for one in batch], rows)
        for batch in cut:
            self.assertTrue(0 < len(batch) <= BATCH_ROWS)
            cost = sum(len(one.body) * (1 + len(one.channels)) for one in batch)
            self.assertTrue(len(batch) == 1 or cost <= BATCH_BYTES)

    def test_transient(self) -> None:
        """A transient event fires with its number of readers; dropped before a connection and after its end."""
        self.assertIsNone(self.publisher.publish("c", b"x"))
        self.connect(PUBLISH=3)
        answer = self.publisher.publish("c", b"x")
        assert answer is not None
        settle(self.clock)
        for _ in range(2):
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self._await(answer))), 3)
        self.redis.wire.drop("gone")
        self.assertIsNone(self.publisher.publish("c", b"x"))

    async def _await(self, answer: Any) -> Any:
        return await answer

    def test_transient_unanswered(self) -> None:
        """One that is broken off fails for who awaits it, is no unhandled error for who does not, and can be let go."""
        self.connect(PUBLISH=SILENT)
        answer, unobserved = self.publisher.publish("c", b"x"), self.publisher.publish("c", b"y")
        awaited = Deferred.fromCoroutine(self._await(answer))
        given_up = Deferred.fromCoroutine(self._await(answer))
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        settle(self.clock)
        self.assertEqual(self.redis.names.count("PUBLISH"), 2)
        self.redis.hang_up()
        self.failureResultOf(awaited, RedisUnavailable)
        self.failureResultOf(Deferred.fromCoroutine(self._await(answer)), RedisUnavailable)
        del unobserved
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_transient_together(self) -> None:
        """Those of one turn go out in one write, in order, and each hears its own answer; a refusal is one's own."""
        counts = iter([1, Exception("ERR no"), 3])
        self.connect(PUBLISH=lambda command: next(counts))
        before = self.redis.writes
        answers = [self.publisher.publish(*one) for one in (("a", b"1"), ("b", b"2"), ("a", b"3"))]
        settle(self.clock)
        self.assertEqual(self.redis.writes, before + 1)
        self.assertEqual([command[1:] for command in self.redis.asked[-3:]], [[b"a", b"1"], [b"b", b"2"], [b"a", b"3"]])
        heard = [Deferred.fromCoroutine(self._await(answer)) for answer in answers]
        self.assertEqual((self.successResultOf(heard[0]), self.successResultOf(heard[2])), (1, 3))
        self.failureResultOf(heard[1], ReplyError)

    def test_transient_before_the_end(self) -> None:
        """What was gathered when the connection broke fails; the next connection does not get it."""
        self.connect()
        answer = self.publisher.publish("c", b"x")
        self.redis.hang_up()
        settle(self.clock)
        self.failureResultOf(Deferred.fromCoroutine(self._await(answer)), RedisUnavailable)
        self.connect()
        self.assertNotIn("PUBLISH", self.redis.names)

    def test_transient_bounds(self) -> None:
        """No more than so many, and so many bytes, are under way at once."""
        self.connect(PUBLISH=SILENT)
        taken = [self.publisher.publish("c", b"x") is not None for _ in range(publishers.MOST_IN_FLIGHT + 2)]
        self.assertEqual(taken, [True] * publishers.MOST_IN_FLIGHT + [False, False])
        settle(self.clock)
        for _ in range(publishers.MOST_IN_FLIGHT):
            self.redis.say(0)
        self.assertIsNone(self.publisher.publish("c", bytes(publishers.MOST_BYTES_IN_FLIGHT + 1)))
        self.assertIsNotNone(self.publisher.publish("c", b"x"))

    def test_drained(self) -> None:
        """`drained` waits for the outbox to be empty, for its deadline, and not at all without Redis or a store."""
        drained = Deferred.fromCoroutine(self.publisher.drained(1))
        self.assertTrue(self.successResultOf(drained))
        self.store.add(2)
        self.assertFalse(self.successResultOf(Deferred.fromCoroutine(self.publisher.drained(1))))
        self.connect()
        self.store.add(2)
        drained = Deferred.fromCoroutine(self.publisher.drained(1))
        settle(self.clock)
        self.clock.advance(0.1)
        self.assertTrue(self.successResultOf(drained))
        self.redis.replies["XADD"] = SILENT
        self.store.add(1)
        drained = Deferred.fromCoroutine(self.publisher.drained(1))
        for _ in range(60):
            self.clock.advance(0.02)
        self.assertFalse(self.successResultOf(drained))
        self.store.failing = {"outbox_state"}
        self.assertFalse(self.successResultOf(Deferred.fromCoroutine(self.publisher.drained(1))))
