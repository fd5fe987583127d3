"""The durable queue: what is read when, what is removed when, and what happens when the store or the group fails."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Origin
from stellarstack.errors import RedisRefused, RedisUnavailable, StoreFailed
from stellarstack.redis.command_queue import BEYOND, CommandQueue
from stellarstack.redis.letterbox import Letterbox
from tests.redis_fakes import NODE, SILENT, RecordingIntake, ScriptedRedis, settle

KEY = b"stellar:nodes:node_test1:commands:queue"


def entries(*pairs: tuple[bytes, Any]) -> list[Any]:
    return [[KEY, [[entry_id, fields] for entry_id, fields in pairs]]]


NONE_LEFT = entries()


class CommandQueueTests(SynchronousTestCase):
    """A queue on a scripted Redis."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.intake = RecordingIntake()
        letterbox = Letterbox(clock=self.clock, intake=self.intake)
        self.queue = CommandQueue(node_id=NODE, clock=self.clock, letterbox=letterbox, jitter=lambda: 0.0)

    def serve(self, *reads: Any, **replies: Any) -> Any:
        """`reads` answer the XREADGROUPs after the trial one, which belongs to the preparation."""
        self.redis = ScriptedRedis(self.clock, XREADGROUP=deque([NONE_LEFT, *reads]), **replies)

        async def work() -> None:
            await self.queue.prepare(self.redis.wire)
            await self.queue.serve(self.redis.wire)

        serving = Deferred.fromCoroutine(work())
        settle(self.clock)
        self.addCleanup(serving.addErrback, lambda _: None)
        return serving

    def positions(self) -> list[bytes]:
        return [command[-1] for command in self.redis.asked if command[0] == b"XREADGROUP"]

    def test_reads_pending_then_new(self) -> None:
        """The group is made from 0 on; then pending entries are read until there are none; then new ones, blocking."""
        serving = self.serve(
            entries((b"1-0", [b"command", b"a"])), NONE_LEFT, None, entries((b"2-0", [b"command", b"b"]))
        )
        self.assertEqual(self.redis.asked[0], [b"XGROUP", b"CREATE", KEY, b"daemon", b"0", b"MKSTREAM"])
        self.assertEqual(self.positions(), [BEYOND, b"0", b"0", b">", b">", b">"])
        self.assertEqual(self.intake.received, [(b"a", Origin.QUEUE, "1-0"), (b"b", Origin.QUEUE, "2-0")])
        self.assertIn([b"XACK", KEY, b"daemon", b"1-0"], self.redis.asked)
        self.assertIn([b"XDEL", KEY, b"2-0"], self.redis.asked)
        self.assertIn(b"BLOCK", self.redis.asked[-1])
        self.assertIn(b"node_test1", self.redis.asked[-1])
        self.assertNoResult(serving)

    def test_removed_only_when_answered(self) -> None:
        """Nothing is acknowledged before the intake has answered; one waits for the one before."""
        held: list[Deferred[None]] = []

        def wait() -> Deferred[None]:
            held.append(Deferred())
            return held[-1]

        self.intake.hold = wait
        self.serve(entries((b"1-0", [b"command", b"a"]), (b"2-0", [b"command", b"b"])))
        self.assertEqual(self.intake.bodies, [b"a"])
        held[0].callback(None)
        self.assertNotIn("XACK", self.redis.names)
        held[1].callback(None)
        self.assertEqual(self.redis.names.count("XACK"), 1)
        self.assertIn([b"XDEL", KEY, b"1-0", b"2-0"], self.redis.asked)

    def test_odd_entries(self) -> None:
        """Without the field an entry is received as empty; a deleted one is only acknowledged."""
        self.serve(entries((b"1-0", [b"x", b"y"]), (b"2-0", None), (b"3-0", [b"x", b"y", b"command", b"c"])))
        self.assertEqual(self.intake.received, [(b"", Origin.QUEUE, "1-0"), (b"c", Origin.QUEUE, "3-0")])
        self.assertIn([b"XACK", KEY, b"daemon", b"1-0", b"2-0", b"3-0"], self.redis.asked)

    def test_store_failure(self) -> None:
        """What could not be kept stays, what came before it is removed, and all is read again from the first."""
        failing = [False, True]

        def maybe() -> Deferred[None]:
            if failing and failing.pop(0):
                raise StoreFailed("full")
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done

        self.intake.hold = maybe
        both = entries((b"1-0", [b"command", b"a"]), (b"2-0", [b"command", b"b"]))
        self.serve(both, entries((b"2-0", [b"command", b"b"])), NONE_LEFT)
        self.assertEqual(self.redis.asked[-2:], [[b"XACK", KEY, b"daemon", b"1-0"], [b"XDEL", KEY, b"1-0"]])
        self.clock.advance(0.1)
        settle(self.clock)
        self.assertEqual(self.intake.bodies, [b"a", b"b", b"b"])
        self.assertEqual(self.positions(), [BEYOND, b"0", b"0", b"0", b">"])

    def test_backoff_grows(self) -> None:
        """While the store fails, the attempts become rarer."""
        self.intake.failures = 10**9
        self.serve(*[entries((b"1-0", [b"command", b"a"]))] * 100)
        for _ in range(300):
            self.clock.advance(0.1)
        attempts = len(self.positions())
        self.assertTrue(10 <= attempts <= 40, attempts)

    def test_group_gone(self) -> None:
        """When the stream or the group is deleted behind us the group is made anew, and read from its beginning."""
        for word in ("NOGROUP No such key", "UNBLOCKED the stream key no longer exists"):
            serving = self.serve(NONE_LEFT, Exception(word), NONE_LEFT, entries((b"1-0", [b"command", word.encode()])))
            self.assertEqual(self.redis.names.count("XGROUP"), 2)
            self.assertEqual(self.intake.bodies[-1], word.encode())
            self.assertNoResult(serving)

    def test_k13_too_big_and_not_kept(self) -> None:
        """K13: an entry that is too big by itself and cannot be refused now, the store failing, is refused later."""
        claimed = [b"0-0", [b"1-0"], []]
        self.serve(SILENT)
        self.break_off(overfull=True)
        self.serve(SILENT, XAUTOCLAIM=claimed)
        self.break_off(overfull=True)
        self.intake.failures = 1
        self.serve(XAUTOCLAIM=deque([claimed, claimed, [b"0-0", [], []]]))
        self.clock.advance(0.1)
        settle(self.clock)
        self.assertEqual(self.intake.received, [(b"", Origin.QUEUE, "1-0")])
        self.assertEqual(self.positions()[1:], [b"0"])

    def test_k13_broken_off_is_not_too_big(self) -> None:
        """K13: an entry whose reading broke off for another reason is read again, not taken for too big."""
        claimed = [b"0-0", [b"1-0"], []]
        self.serve(SILENT)
        self.break_off(overfull=True)
        self.serve(SILENT, XAUTOCLAIM=claimed)
        self.break_off(overfull=False)
        self.serve(entries((b"1-0", [b"command", b"a"])), XAUTOCLAIM=deque([claimed, [b"0-0", [], []]]))
        self.assertEqual(self.intake.received, [(b"a", Origin.QUEUE, "1-0")])

    def break_off(self, *, overfull: bool) -> None:
        self.redis.wire.overfull = overfull
        self.redis.hang_up()

    def test_busygroup(self) -> None:
        """A group that is there already is fine."""
        self.assertNoResult(self.serve(XGROUP=Exception("BUSYGROUP Consumer Group name already exists")))

    def test_other_errors(self) -> None:
        """Other errors end the connection's work, so that it is dialled again."""
        self.failureResultOf(self.serve(XGROUP=Exception("WRONGTYPE not a stream")), RedisUnavailable)
        self.failureResultOf(self.serve(Exception("LOADING wait")), RedisUnavailable)
        self.failureResultOf(self.serve(Exception("NOPERM no")), RedisRefused)
        serving = self.serve(entries((b"1-0", [b"command", b"a"])), XACK=Exception("READONLY replica"), PING=SILENT)
        self.failureResultOf(serving, RedisUnavailable)
