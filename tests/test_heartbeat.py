"""The heartbeat: its body, its beat, and what becomes of the node when it is not answered."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import HeartbeatConfig
from stellarstack.core.figures import HostFigures
from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState
from stellarstack.errors import RedisUnavailable
from stellarstack.heartbeat import Heartbeat, Vitals
from stellarstack.interfaces import OutboxState

FIGURES = HostFigures(12.34, 45.67, 1000, 450, 78.91, 5000, 4000, 111, 222, (0.1, 0.2, 0.3), 2, 99.0)


class FakePublisher:
    """Redis as the heartbeat sees it: answers at once, never, with an error, or is away."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.mode = "answers"
        self.waiting: list[Deferred[int]] = []

    def wake(self) -> None:
        """Not used here."""

    def publish(self, channel: str, body: bytes) -> Awaitable[int] | None:
        if self.mode == "away":
            return None
        self.sent.append((channel, json.loads(body)))
        if self.mode == "fails":
            return fail(RedisUnavailable("broken"))
        if self.mode == "answers":
            return succeed(1)
        self.waiting.append(Deferred())
        return self.waiting[-1]


class HeartbeatCase(SynchronousTestCase):
    """A node that is connected, with a heartbeat that has not begun."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.publisher = FakePublisher()
        self.node = NodeLifecycle()
        self.node.registered()
        self.node.connected()
        self.figures = FIGURES
        self.figures_error: Exception | None = None
        self.figures_hang: Deferred[HostFigures] | None = None
        self.outbox = OutboxState(42, 40, 2, 300)
        self.docker = True
        self.heartbeat = Heartbeat(
            node_id="node_a1",
            version="1.2.3",
            publisher=self.publisher,
            vitals=Vitals(
                figures=self._figures,
                outbox=self._outbox,
                active_containers=lambda: 7,
                docker_connected=lambda: self.docker,
                outbox_rows=1000,
                outbox_bytes=10_000,
            ),
            lifecycle=self.node,
            config=HeartbeatConfig(),
            clock=self.clock,
            now=lambda: 1_700_000_000.9 + self.clock.seconds(),
        )
        self.addCleanup(self._stop)

    def _figures(self) -> Awaitable[HostFigures]:
        if self.figures_hang is not None:
            return self.figures_hang
        return fail(self.figures_error) if self.figures_error else succeed(self.figures)

    def _outbox(self) -> Awaitable[OutboxState]:
        return succeed(self.outbox)

    def _stop(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.heartbeat.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.publisher.sent]


class BodyTests(HeartbeatCase):
    """What stands in it."""

    def test_body(self) -> None:
        """The body is PROTOCOL 5's to the letter: whole seconds, percent, bytes, and the node's own three."""
        self.node.heartbeat_out()
        self.heartbeat.start()
        channel, body = self.publisher.sent[0]
        self.assertEqual(channel, "stellar:nodes:node_a1:heartbeat")
        self.assertEqual(
            body,
            {
                "type": "heartbeat",
                "nodeId": "node_a1",
                "timestamp": 1_700_000_000,
                "status": "healthy",
                "metrics": {
                    "cpuUsage": 12.3,
                    "memoryUsage": 45.7,
                    "diskUsage": 78.9,
                    "activeContainers": 7,
                    "networkRx": 111,
                    "networkTx": 222,
                },
                "state": "ONLINE",
                "version": "1.2.3",
                "lastSeq": 42,
            },
        )
        self.assertIsInstance(body["timestamp"], int)

    def test_degraded(self) -> None:
        """Docker away, a disk over 95 %, or an outbox over half of either mark is `degraded`; the borders are not."""
        rows: list[tuple[bool, float, int, int, str]] = [
            (True, 95.0, 500, 5000, "healthy"),
            (False, 10.0, 0, 0, "degraded"),
            (True, 95.1, 0, 0, "degraded"),
            (True, 10.0, 501, 0, "degraded"),
            (True, 10.0, 0, 5001, "degraded"),
        ]
        self.heartbeat.start()
        for docker, disk, pending_rows, pending_bytes, status in rows:
            self.docker, self.figures = docker, replace(FIGURES, disk_percent=disk)
            self.outbox = OutboxState(1, 1, pending_rows, pending_bytes)
            self.heartbeat.beat_now()
            self.assertEqual(self.bodies()[-1]["status"], status, (docker, disk, pending_rows, pending_bytes))


class BeatTests(HeartbeatCase):
    """When it comes."""

    def test_beat(self) -> None:
        """One comes on becoming ONLINE at once, then one every 30 s for as long as it runs (K32)."""
        self.heartbeat.start()
        self.assertEqual([body["state"] for body in self.bodies()], ["STARTING", "ONLINE"])
        self.publisher.sent.clear()
        self.clock.pump([1.0] * 3000)
        self.assertEqual([body["timestamp"] - 1_700_000_000 for body in self.bodies()], list(range(30, 3001, 30)))

    def test_beat_now_moves_the_next_one(self) -> None:
        """After a beat out of turn the next is due an interval later."""
        self.heartbeat.start()
        self.publisher.sent.clear()
        self.clock.advance(20)
        self.heartbeat.beat_now()
        self.clock.advance(29)
        self.assertEqual(len(self.publisher.sent), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.publisher.sent), 2)

    def test_silent_before_start_and_after_stop(self) -> None:
        """Nothing is sent before `start` nor after `stop`, whatever becomes of the node."""
        self.node.heartbeat_out()
        self.assertEqual(self.publisher.sent, [])
        self.heartbeat.start()
        self._stop()
        self.publisher.sent.clear()
        self.heartbeat.beat_now()
        self.clock.advance(300)
        self.assertEqual(self.publisher.sent, [])

    def test_started_twice(self) -> None:
        """A second `start` changes nothing."""
        self.heartbeat.start()
        count = len(self.publisher.sent)
        self.heartbeat.start()
        self.assertEqual(len(self.publisher.sent), count)

    def test_outlives_failing_figures(self) -> None:
        """Figures that cannot be had do not stop the beat: it repeats the last ones."""
        self.heartbeat.start()
        for error in (RedisUnavailable("odd"), RuntimeError("a bug")):
            self.figures_error = error
            self.clock.advance(30)
            self.assertEqual(self.bodies()[-1]["metrics"]["cpuUsage"], 12.3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertIs(self.node.state, NodeState.ONLINE)

    def test_outlives_hanging_figures(self) -> None:
        """Figures that never come are waited for 5 s, then the heartbeat goes out with the last ones."""
        self.heartbeat.start()
        hang: Deferred[HostFigures] = Deferred()
        self.figures_hang = hang
        count = len(self.publisher.sent)
        self.clock.advance(30)
        self.assertEqual(len(self.publisher.sent), count)
        self.clock.advance(5)
        self.assertEqual(len(self.publisher.sent), count + 1)

    def test_stop_with_a_publish_under_way(self) -> None:
        """A PUBLISH that nobody has answered yet does not hold up the stop, and leaves nothing behind (K29)."""
        self.publisher.mode = "hangs"
        self.heartbeat.start()
        self._stop()


class MissedTests(HeartbeatCase):
    """What becomes of the node when heartbeats do not get out."""

    def setUp(self) -> None:
        super().setUp()
        self.moves: list[tuple[float, str]] = []
        self.node.listen(lambda _previous, state, _reason: self.moves.append((self.clock.seconds(), state.value)))
        self.heartbeat.start()
        self.moves.clear()

    def test_redis_away(self) -> None:
        """With Redis away the node is UNHEALTHY 90 s and OFFLINE 150 s after the last good one (and 1 s of grace)."""
        self.publisher.mode = "away"
        self.clock.pump([0.5] * 500)
        self.assertEqual(self.moves, [(91.0, "UNHEALTHY"), (151.0, "OFFLINE")])
        self.assertEqual(self.heartbeat.missed, 8)

    def told(self) -> list[str]:
        """What the log says, at warn, of heartbeats while the clock runs two minutes."""
        with capturedLogs() as logs:
            self.clock.pump([0.5] * 240)
        return [formatEvent(event) for event in logs if event["log_level"] is LogLevel.warn]

    def test_told_once(self) -> None:
        """Heartbeats that stop getting out are told once."""
        self.publisher.mode = "away"
        self.assertEqual(self.told(), ["heartbeats do not get out: Redis is not connected"])

    def test_first_beat_is_not_told(self) -> None:
        """A first beat that comes before Redis is no news; a second one that does not get out is."""
        self._stop()
        with capturedLogs() as logs:
            self.publisher.mode = "away"
            self.heartbeat.start()
            self.clock.advance(1)
        self.assertEqual([event for event in logs if event["log_level"] is LogLevel.warn], [])
        self.assertEqual(len(self.told()), 1)

    def test_never_answered(self) -> None:
        """A PUBLISH that is never answered counts like one that was not sent: a half-open connection (K09)."""
        self.publisher.mode = "hangs"
        self.clock.pump([0.5] * 400)
        self.assertEqual(self.moves, [(91.0, "UNHEALTHY"), (151.0, "OFFLINE")])
        self.assertEqual(len(self.publisher.sent), 2 + 6)

    def test_failing(self) -> None:
        """A PUBLISH that fails is a missed heartbeat, and the next one is tried."""
        self.publisher.mode = "fails"
        self.clock.pump([1.0] * 100)
        self.assertEqual(self.moves, [(91.0, "UNHEALTHY")])

    def test_recovery(self) -> None:
        """The first one that gets out makes the node ONLINE again and is followed by one that says so."""
        self.publisher.mode = "away"
        self.clock.pump([1.0] * 160)
        self.publisher.mode = "answers"
        self.publisher.sent.clear()
        self.clock.pump([1.0] * 20)
        self.assertEqual(self.moves[-1], (180.0, "ONLINE"))
        self.assertEqual([body["state"] for body in self.bodies()], ["OFFLINE", "ONLINE"])
        self.assertEqual(self.heartbeat.missed, 0)

    def test_late_answer(self) -> None:
        """An answer within the interval counts as of when the heartbeat was due, one after it does not count."""
        self.publisher.mode = "hangs"
        self.clock.advance(30)
        self.clock.advance(29.5)
        self.publisher.waiting[0].callback(1)
        self.clock.pump([0.5] * 130)
        self.assertEqual(self.moves, [(121.0, "UNHEALTHY")])

    def test_two_misses_are_none(self) -> None:
        """Two missed heartbeats change nothing when the third, due right at the border, gets out."""
        self.publisher.mode = "away"
        self.clock.pump([1.0] * 75)
        self.publisher.mode = "answers"
        self.clock.pump([1.0] * 200)
        self.assertEqual(self.moves, [])
