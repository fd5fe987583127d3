"""The three connections together: when they count as connected, what is told, and how they end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import stellarstack.redis
from stellarstack.errors import RedisRefused, RedisUnavailable, StellarError
from stellarstack.redis.link import RedisLink
from stellarstack.redis.publisher import OutboxPublisher
from tests.redis_fakes import NODE, SILENT, MemoryOutbox, RecordingIntake, ScriptedDialer, settle
from tests.test_redis_publisher import xadd

REPLIES = {"SUBSCRIBE": [b"subscribe", b"c", 1], "XREVRANGE": [], "XADD": xadd, "PUBLISH": 0, "XREADGROUP": None}


class RedisLinkTests(SynchronousTestCase):
    """A link on scripted Redises."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryOutbox()
        self.intake = RecordingIntake()
        self.changes: list[tuple[bool, str | None]] = []

    def make(self, *errors: Exception, **replies: Any) -> RedisLink:
        def reads(command: list[bytes]) -> Any:
            return SILENT if command[-1] == b">" else None

        self.dialer = ScriptedDialer(self.clock, **{**REPLIES, "XREADGROUP": reads, **replies})
        self.dialer.errors = list(errors)
        self.publisher = OutboxPublisher(
            node_id=NODE, clock=self.clock, store=self.store, log_length=1000, on_sequence_reset=lambda _: None
        )
        link = RedisLink(
            clock=self.clock, dialer=self.dialer, node_id=NODE, publisher=self.publisher, intake=self.intake,
            on_change=self._changed, jitter=lambda: 0.0,
        )  # fmt: skip
        link.start()
        settle(self.clock)
        self.addCleanup(self.stop, link)
        return link

    def stop(self, link: RedisLink) -> None:
        stopping = Deferred.fromCoroutine(link.stop())
        settle(self.clock)
        self.clock.advance(3)
        self.successResultOf(stopping)

    def _changed(self, connected: bool, error: StellarError | None) -> None:
        self.changes.append((connected, None if error is None else str(error)))

    def test_connected(self) -> None:
        """Three connections, and connected is told once, when all of them are up."""
        link = self.make()
        self.assertTrue(link.connected)
        self.assertEqual(len(self.dialer.peers), 3)
        self.assertEqual(self.changes, [(True, None)])

    def test_subscribed_before_connected(self) -> None:
        """Until the subscription is confirmed it is not connected."""
        link = self.make(SUBSCRIBE=SILENT)
        self.assertFalse(link.connected)
        self.assertEqual(self.changes, [])

    def test_one_lost(self) -> None:
        """When one connection breaks this is told with its reason; the others stay; then it is connected again."""
        link = self.make()
        self.dialer.peers[1].hang_up()
        settle(self.clock)
        self.assertFalse(link.connected)
        self.assertIn("broke", str(link.error))
        self.clock.advance(0.1)
        settle(self.clock)
        self.assertEqual([connected for connected, _ in self.changes], [True, False, True])
        self.assertEqual(len(self.dialer.peers), 4)

    def test_the_first_one_back_spurs_the_others(self) -> None:
        """As soon as one connection is up again the others try too, whatever their delay."""
        link = self.make(*[RedisUnavailable("no")] * 31)
        self.assertFalse(link.connected)
        for _ in range(100):
            self.clock.advance(0.01)
        settle(self.clock)
        self.assertEqual(self.changes[0], (False, "no"))
        while not link.connected and self.clock.seconds() < 60:
            self.clock.advance(0.01)
        settle(self.clock)
        last = self.dialer.dialled[-3:]
        self.assertAlmostEqual(last[0], last[2], delta=0.1)

    def test_refusal_is_told_first(self) -> None:
        """A refusal is told before other errors, and `retry` tries again at once."""
        link = self.make(RedisUnavailable("no"), RedisRefused("bad token"), RedisUnavailable("no"))
        self.assertIsInstance(link.error, RedisRefused)
        self.assertEqual(self.changes, [(False, "no"), (False, "bad token")])
        link.retry()
        settle(self.clock)
        self.assertTrue(link.connected)
        self.assertEqual(self.changes[-1], (True, None))

    def test_same_error_is_told_once(self) -> None:
        """An error that stays the same is not told again and again."""
        self.make(*[RedisUnavailable("no")] * 30)
        for _ in range(20):
            self.clock.advance(0.1)
        self.assertEqual(self.changes, [(False, "no")])

    def test_stop(self) -> None:
        """After the stop nothing is left: no connection, no timer."""
        link = self.make()
        self.stop(link)
        self.assertFalse(link.connected)
        self.assertTrue(all(peer.wire.lost for peer in self.dialer.peers))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_listening(self) -> None:
        """After `stop_listening` nothing more is taken in, while events still go out."""
        link = self.make()
        stopping = Deferred.fromCoroutine(link.stop_listening())
        settle(self.clock)
        self.successResultOf(stopping)
        self.assertEqual([peer.wire.lost for peer in self.dialer.peers], [True, True, False])
        self.store.add(1)
        self.publisher.wake()
        settle(self.clock)
        self.assertEqual(self.store.delivered_seq, 1)

    def test_stop_lets_what_was_begun_end(self) -> None:
        """The stop waits for a command that the intake has begun, two seconds at most."""
        held: Deferred[None] = Deferred()
        self.intake.hold = lambda: held
        link = self.make()
        self.dialer.peers[0].say([b"message", b"c", b"x"])
        stopping = Deferred.fromCoroutine(link.stop())
        settle(self.clock)
        self.assertNoResult(stopping)
        held.callback(None)
        self.clock.advance(0.1)
        settle(self.clock)
        self.successResultOf(stopping)

    def test_r01_r02_no_scripts_and_no_patterns(self) -> None:
        """R01, R02: nowhere in the daemon stands EVAL, SCRIPT LOAD, FUNCTION or PSUBSCRIBE."""
        room = Path(stellarstack.redis.__file__).parent
        found = re.compile(r"""["'](EVAL|EVALSHA|SCRIPT|FUNCTION|FCALL|PSUBSCRIBE)\b|\.(eval|psubscribe)\(""")
        hits = [path for path in room.parent.rglob("*.py") if found.search(path.read_text())]
        self.assertEqual(hits, [])
