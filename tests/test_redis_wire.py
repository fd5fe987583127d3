"""One connection: batches, pulse, limits, and how its end is told."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import RedisRefused, RedisUnavailable
from stellarstack.redis import wire as wires
from stellarstack.redis.wire import ReplyError, encode
from tests.redis_fakes import SILENT, ScriptedRedis, resp, settle


class WireTests(SynchronousTestCase):
    """A wire with a scripted Redis at its other end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.messages: list[bytes] = []

    def redis(self, **replies: Any) -> ScriptedRedis:
        return ScriptedRedis(self.clock, self.messages.append, **replies)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)

    def call(self, redis: ScriptedRedis, *arguments: Any) -> Any:
        answer = Deferred.fromCoroutine(redis.wire.call(*arguments))
        settle(self.clock)
        return self.successResultOf(answer)

    def test_encode(self) -> None:
        """A command is an array of byte strings; text is UTF-8, numbers are decimal."""
        self.assertEqual(
            encode(("A", 12, b"\xff", "ü")), b"*4\r\n$1\r\nA\r\n$2\r\n12\r\n$1\r\n\xff\r\n$2\r\n\xc3\xbc\r\n"
        )

    def test_replies_keep_their_kind(self) -> None:
        """Numbers are numbers, bytes stay bytes, nothing is converted or decoded (F10)."""
        redis = self.redis(GET=b"12", LIST=[b"1.5", 3, None, [b"\xff"]])
        self.assertEqual(self.call(redis, "GET"), b"12")
        self.assertEqual(self.call(redis, "LIST"), [b"1.5", 3, None, [b"\xff"]])

    def test_errors(self) -> None:
        """An error reply is raised as ReplyError with its first word; about rights as RedisRefused."""
        for text, kind in (
            ("NOGROUP no such", ReplyError), ("ERR unknown", ReplyError), ("WRONGPASS bad", RedisRefused),
            ("NOAUTH please", RedisRefused), ("NOPERM no", RedisRefused),
        ):  # fmt: skip
            redis = self.redis(X=Exception(text))
            answer = Deferred.fromCoroutine(redis.wire.call("X"))
            settle(self.clock)
            error = self.failureResultOf(answer, kind).value
            if isinstance(error, ReplyError):
                self.assertIn(error.word, ("NOGROUP", "unknown"))

    def test_batch_answers_in_order_with_errors_among_them(self) -> None:
        """A batch is one write and answers all replies in order; errors, also inside of arrays, are translated."""
        redis = self.redis(A=1, B=Exception("ERR no"), C=[b"x", Exception("NOPERM no")])
        answer = redis.wire.batch([("A",), ("B",), ("C",)])
        settle(self.clock)
        one, two, three = self.successResultOf(answer)
        self.assertEqual(one, 1)
        self.assertIsInstance(two, ReplyError)
        self.assertIsInstance(three[1], RedisRefused)
        self.assertEqual(self.successResultOf(redis.wire.batch([])), [])

    def test_cancelled_call_keeps_the_order(self) -> None:
        """The reply of a cancelled call is thrown away and not taken for the next one's."""
        redis = self.redis(A=1, B=2)
        first, second = redis.wire.batch([("A",)]), redis.wire.batch([("B",)])
        first.addErrback(lambda _: None)
        first.cancel()
        settle(self.clock)
        self.assertEqual(self.successResultOf(second), [2])

    def test_messages(self) -> None:
        """Published messages go to `on_message`, between replies too."""
        redis = self.redis(SUBSCRIBE=[b"subscribe", b"c", 1], PING=[b"pong", b""])
        self.assertEqual(self.call(redis, "SUBSCRIBE", "c"), [b"subscribe", b"c", 1])
        redis.say([b"message", b"c", b"12"])
        self.assertEqual(self.call(redis, "PING"), [b"pong", b""])
        redis.say([b"message", b"c", b""])
        self.assertEqual(self.messages, [b"12", b""])

    def test_loss(self) -> None:
        """When it breaks, whatever waits fails, `when_lost` fires for each who asked, and later calls fail at once."""
        redis = self.redis(X=SILENT)
        waiting = redis.wire.batch([("X",)])
        mourners = [redis.wire.when_lost(), redis.wire.when_lost()]
        cancelled = redis.wire.when_lost()
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        redis.wire.connectionLost(Failure(ConnectionLost("gone\nfor good")))
        self.assertIn("gone", str(self.failureResultOf(waiting, RedisUnavailable).value))
        for mourner in (*mourners, redis.wire.when_lost()):
            self.assertIs(self.successResultOf(mourner), redis.wire.reason)
        self.failureResultOf(redis.wire.batch([("X",)]), RedisUnavailable)
        self.assertFalse(redis.wire.open)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drop_tells_the_first_reason(self) -> None:
        """Who drops it first says why."""
        redis = self.redis(X=SILENT)
        waiting = redis.wire.batch([("X",)])
        redis.wire.drop("first")
        redis.wire.drop("second")
        settle(self.clock)
        self.assertEqual(str(self.failureResultOf(waiting).value), "first")

    def test_k09_silence(self) -> None:
        """K09: a connection from which nothing comes while something is asked ends within 15 s, and not before 10."""
        redis = self.redis(X=SILENT)
        waiting = redis.wire.batch([("X",)])
        self.pass_time(wires.SILENCE)
        self.assertNoResult(waiting)
        self.pass_time(15 - wires.SILENCE)
        self.assertIn("silent", str(self.failureResultOf(waiting).value))

    def test_k09_silence_without_a_call(self) -> None:
        """K09: also where nothing is asked: the PING that is then sent finds out."""
        redis = self.redis(PING=SILENT)
        self.pass_time(15)
        self.assertTrue(redis.wire.lost)

    def test_pulse(self) -> None:
        """An idle connection is PINGed every few seconds and lives on; a busy one is not PINGed."""
        redis = self.redis()
        self.pass_time(60)
        self.assertFalse(redis.wire.lost)
        self.assertTrue(10 <= redis.names.count("PING") <= 16, redis.names)
        busy = self.redis()
        for _ in range(60):
            self.call(busy, "X")
            self.pass_time(1)
        self.assertNotIn("PING", busy.names)

    def test_paused(self) -> None:
        """While we do not read, silence is our own: the connection is not ended, and its pulse begins anew after."""
        redis = self.redis()
        redis.wire.pause()
        self.assertEqual(redis.transport.producerState, "paused")
        self.pass_time(60)
        redis.wire.resume()
        self.assertEqual(redis.transport.producerState, "producing")
        self.pass_time(5)
        self.assertFalse(redis.wire.lost)
        self.assertIn("PING", redis.names)

    def test_not_redis(self) -> None:
        """What is no RESP ends the connection with a clear reason."""
        redis = self.redis()
        redis.wire.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        settle(self.clock)
        self.assertIn("does not speak", str(redis.wire.reason))

    def test_parting_word(self) -> None:
        """An error that answers nothing is why Redis hangs up, and is told as the reason."""
        redis = self.redis()
        redis.say(Exception("ERR max number of clients reached"))
        redis.hang_up()
        self.assertIn("max number of clients", str(redis.wire.reason))

    def test_unasked_reply(self) -> None:
        """A reply that nobody asked for is ignored."""
        redis = self.redis(X=1)
        redis.say(7)
        self.assertEqual(self.call(redis, "X"), 1)

    def test_size_limit(self) -> None:
        """A single reply beyond the limit ends the connection; many small ones never do."""
        redis = self.redis()
        for _ in range(100):
            redis.wire.dataReceived(resp([b"message", b"c", b"x" * (wires.REPLY_LIMIT // 50)]))
        self.assertTrue(redis.wire.open)
        redis.wire.dataReceived(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$200000000\r\n")
        for _ in range(33):
            redis.wire.dataReceived(bytes(2**20))
        settle(self.clock)
        self.assertTrue(redis.wire.lost)
        self.assertEqual(len(self.messages), 100)
