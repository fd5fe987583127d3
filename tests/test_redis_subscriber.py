"""Messages from the commands channel: in order, bounded, and finished whatever happens to the connection."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stellarstack.core.messages import Origin
from stellarstack.redis.letterbox import Letterbox
from stellarstack.redis.subscriber import MOST_UNANSWERED, Subscriber
from tests.redis_fakes import NODE, RecordingIntake, ScriptedRedis, settle


class SubscriberTests(SynchronousTestCase):
    """A subscriber on a scripted Redis."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.intake = RecordingIntake()
        self.letterbox = Letterbox(clock=self.clock, intake=self.intake)
        self.subscriber = Subscriber(node_id=NODE, letterbox=self.letterbox)
        self.redis = ScriptedRedis(self.clock, self.subscriber.on_message, SUBSCRIBE=[b"subscribe", b"c", 1])
        prepared = Deferred.fromCoroutine(self.subscriber.prepare(self.redis.wire))
        settle(self.clock)
        self.successResultOf(prepared)

    def publish(self, *bodies: bytes) -> None:
        for body in bodies:
            self.redis.say([b"message", b"c", body])

    def hold(self) -> list[Deferred[None]]:
        held: list[Deferred[None]] = []

        def wait() -> Deferred[None]:
            held.append(Deferred())
            return held[-1]

        self.intake.hold = wait
        return held

    def test_r02_subscribes_to_one_channel(self) -> None:
        """R02: one exact channel is subscribed."""
        self.assertEqual(self.redis.asked, [[b"SUBSCRIBE", b"stellar:nodes:node_test1:commands"]])

    def test_order(self) -> None:
        """Messages begin in the order of their arrival, none waits for the one before."""
        held = self.hold()
        self.publish(b"1", b"2", b"3")
        self.assertEqual(self.intake.received, [(body, Origin.PUBSUB, None) for body in (b"1", b"2", b"3")])
        self.assertEqual((len(held), self.letterbox.unanswered), (3, 3))

    def test_backpressure(self) -> None:
        """With too many unanswered nothing more is read, until half of them are."""
        held = self.hold()
        self.publish(*[b"x"] * (MOST_UNANSWERED - 1))
        self.assertEqual(self.redis.transport.producerState, "producing")
        self.publish(b"x", b"y")
        self.assertEqual(self.redis.transport.producerState, "paused")
        for one in held[: MOST_UNANSWERED // 2]:
            one.callback(None)
        self.assertEqual(self.redis.transport.producerState, "paused")
        held[MOST_UNANSWERED // 2].callback(None)
        self.assertEqual(self.redis.transport.producerState, "producing")

    def test_k13_flood_of_bad_messages(self) -> None:
        """K13: 100 000 messages that are each refused at once leave nothing behind, and the next one gets through."""
        for _ in range(100):
            self.redis.wire.dataReceived(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n{\r\n" * 1000)
        self.assertEqual(self.letterbox.unanswered, 0)
        self.publish(b"good")
        self.assertEqual(len(self.intake.received), 100_001)
        self.assertEqual(self.intake.bodies[-1], b"good")

    def test_finished_after_the_connection(self) -> None:
        """A message that was begun is finished when its connection breaks, and counted off."""
        held = self.hold()
        serving: Any = Deferred.fromCoroutine(self.subscriber.serve(self.redis.wire))
        serving.addErrback(lambda _: None)
        self.publish(b"x")
        serving.cancel()
        self.redis.hang_up()
        held[0].callback(None)
        self.assertEqual(self.letterbox.unanswered, 0)

    def test_settle(self) -> None:
        """At the stop what was begun may end for a while; what does not is cancelled."""
        cancelled: list[str] = []
        held: list[Deferred[None]] = [Deferred(), Deferred(lambda _: cancelled.append("second"))]
        left = list(held)
        self.intake.hold = lambda: left.pop(0)
        self.publish(b"1", b"2")
        settled = Deferred.fromCoroutine(self.letterbox.settle(2))
        held[0].callback(None)
        for _ in range(30):
            self.clock.advance(0.05)
        self.assertNoResult(settled)
        for _ in range(20):
            self.clock.advance(0.05)
        self.successResultOf(settled)
        self.assertEqual((cancelled, self.letterbox.unanswered), (["second"], 0))

    def test_store_failures_are_told_once_a_second(self) -> None:
        """While the store fails, one line a second tells how many were lost."""
        lines: list[Any] = []

        @implementer(ILogObserver)
        def observe(event: Any) -> None:
            if event.get("log_namespace", "").endswith("Letterbox"):
                lines.append(event["count"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.intake.failures = 300
        self.publish(*[b"x"] * 200)
        self.clock.advance(1)
        self.publish(*[b"x"] * 100)
        self.assertEqual(lines, [1, 200])

    def test_bug_in_the_intake(self) -> None:
        """An unexpected exception is logged and does not hold up the next message."""

        def wrong() -> Deferred[None]:
            raise ZeroDivisionError

        self.intake.hold = wrong
        self.publish(b"x")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.intake.hold = None
        self.publish(b"y")
        self.assertEqual((self.intake.bodies, self.letterbox.unanswered), ([b"x", b"y"], 0))
