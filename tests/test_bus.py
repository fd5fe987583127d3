"""Where events go out: order over a database that stumbles, and listeners."""

from __future__ import annotations

from collections.abc import Awaitable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.bus import Bus
from stellarstack.core.messages import Command, Event, Origin
from stellarstack.errors import StoreFailed
from tests.fakes import MemoryStore
from tests.household import done

ACK = Event("command.ack", {"commandId": "c1", "timestamp": 1.0}, durable=True)
RESULT = Event("command.result", {"commandId": "c1", "timestamp": 1.0}, durable=True)
COMMAND = Command("c1", "server.list", {}, Origin.PUBSUB)


def status(word: str) -> Event:
    return Event("server.status", {"serverId": "s", "status": word, "timestamp": 1.0}, durable=True)


class _Publisher:
    def __init__(self) -> None:
        self.woken = 0
        self.published: list[tuple[str, bytes]] = []

    def wake(self) -> None:
        self.woken += 1

    def publish(self, channel: str, body: bytes) -> Awaitable[int] | None:
        self.published.append((channel, body))
        return None


class BusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.store, self.publisher = Clock(), MemoryStore("node_a"), _Publisher()
        self.bus = Bus(node_id="node_a", store=self.store, clock=self.clock)
        self.bus.connect(self.publisher)
        self.heard: list[str] = []
        self.unlisten = self.bus.listen(lambda kind, body: self.heard.append(kind))

    def words(self) -> list[object]:
        return [event["status"] for event in self.store.events("server.status")]

    def test_durable(self) -> None:
        """A durable event is committed, wakes the publisher and is heard."""
        done(self.bus.emit(status("running")))
        self.assertEqual((self.words(), self.publisher.woken, self.heard), (["running"], 2, ["server.status"]))

    def test_transient(self) -> None:
        """A transient event is published at once on each of its channels, and not kept."""
        done(self.bus.emit(Event("server.metrics", {"serverId": "s"}, durable=False)))
        self.assertEqual([channel for channel, _ in self.publisher.published], ["stellar:servers:s:metrics"])
        self.assertEqual((self.store.rows, self.heard), ([], ["server.metrics"]))

    def test_without_a_publisher(self) -> None:
        """Before Redis is wired, events are kept and heard all the same."""
        bus = Bus(node_id="node_a", store=self.store, clock=self.clock)
        bus.publish(Event("heartbeat", {}, durable=False))
        done(bus.emit(status("running")))
        self.assertEqual(self.words(), ["running"])

    def test_order_over_a_full_disk(self) -> None:
        """K14: what cannot be committed is tried again, and what comes later stays behind it."""
        self.store.broken = True
        first = Deferred.fromCoroutine(self.bus.emit(status("stopping")))
        self.store.broken = False
        second = Deferred.fromCoroutine(self.bus.emit(status("stopped")))
        self.assertNoResult(second)
        self.clock.advance(0.1)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.words(), ["stopping", "stopped"])
        done(self.bus.emit(status("starting")))
        self.assertEqual(self.words()[-1], "starting")

    def test_waits_grow(self) -> None:
        """The attempts at a broken store become rarer, and never end."""
        self.store.broken = True
        waiting = Deferred.fromCoroutine(self.bus.emit(status("x")))
        for _ in range(100):
            self.clock.advance(5.0)
        self.assertNoResult(waiting)
        self.store.broken = False
        self.clock.advance(5.0)
        self.successResultOf(waiting)

    def test_accept_and_finish(self) -> None:
        """A command is journaled with its ack, and its result is committed once."""
        done(self.bus.accept(COMMAND, ACK))
        done(self.bus.finish("c1", RESULT))
        self.assertEqual(self.heard, ["command.ack", "command.result"])

    def test_accept_does_not_wait(self) -> None:
        """A command that cannot be journaled is refused at once: the sender's copy is the only one."""
        self.store.broken = True
        self.failureResultOf(Deferred.fromCoroutine(self.bus.accept(COMMAND, ACK)), StoreFailed)

    def test_listeners(self) -> None:
        """A listener that breaks disturbs nobody, and one that has left hears nothing more."""
        self.bus.listen(lambda kind, body: 1 / 0)  # type: ignore[arg-type]
        done(self.bus.emit(status("a")))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.unlisten()
        self.unlisten()
        done(self.bus.emit(status("b")))
        self.assertEqual(self.heard, ["server.status"])
        self.flushLoggedErrors(ZeroDivisionError)
