"""Staying connected: delays, refusals, and what reaches the line."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import RedisRefused, RedisUnavailable, StellarError
from stellarstack.redis.connection import LAST_DELAY, REFUSED_DELAY, Connection, delay_before
from stellarstack.redis.dial import OnMessage
from stellarstack.redis.wire import Wire
from tests.examples import examples
from tests.redis_fakes import SILENT, ScriptedDialer, settle


class PlainLine:
    """A line that notes what happens to it. `serving`, where set, is awaited; else it serves for ever."""

    name = "test line"
    on_message: OnMessage | None = None

    def __init__(self) -> None:
        self.prepared: list[Wire] = []
        self.served = 0
        self.ended: list[str] = []
        self.prepare_error: Exception | None = None
        self.serve_error: Exception | None = None

    async def prepare(self, wire: Wire) -> None:
        await wire.call("HELLO")
        if self.prepare_error is not None:
            raise self.prepare_error
        self.prepared.append(wire)

    async def serve(self, wire: Wire) -> None:
        self.served += 1
        if self.serve_error is not None:
            raise self.serve_error
        try:
            await Deferred()
        except CancelledError:
            self.ended.append("cancelled")
            raise


class ConnectionTests(SynchronousTestCase):
    """One connection on a clock of its own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.line = PlainLine()
        self.seen: list[tuple[bool, str | None]] = []

    def begin(self, *errors: Exception, **replies: Any) -> Connection:
        self.dialer = ScriptedDialer(self.clock, **replies)
        self.dialer.errors = list(errors)
        connection = Connection(
            clock=self.clock, dialer=self.dialer, line=self.line, jitter=lambda: 0.0, on_change=self._changed
        )
        self.running = Deferred.fromCoroutine(connection.run())
        self.addCleanup(self.end, connection, self.running)
        settle(self.clock)
        return connection

    def end(self, connection: Connection, running: Deferred[None]) -> None:
        connection.stop()
        running.addErrback(lambda _: None)
        running.cancel()
        settle(self.clock)

    def _changed(self, connection: Connection) -> None:
        self.seen.append((connection.up, None if connection.error is None else str(connection.error)))

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
        settle(self.clock)

    @examples(35)
    @given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
    def test_k08_delays(self, attempt: int, jitter: float) -> None:
        """K08: each delay is between half and the whole of a growing one, 0.1 s to 30 s."""
        delay = delay_before(attempt, jitter)
        whole = delay_before(attempt, 0)
        self.assertTrue(whole / 2 <= delay <= whole <= LAST_DELAY)
        self.assertTrue(delay_before(attempt, 0) <= delay_before(attempt + 1, 0))

    def test_k09_soon_back(self) -> None:
        """K09: the first delay is 0.1 s; after 30 s without Redis the next attempt is less than 6 s away."""
        self.assertEqual(delay_before(1, 0.0), 0.1)
        now, attempt = 0.0, 0
        while now < 30:
            attempt += 1
            now += delay_before(attempt, 0.0)
        self.assertLess(delay_before(attempt, 0.0), 6)
        self.assertEqual(delay_before(1000, 0.0), 30)

    def test_up(self) -> None:
        """It counts as up once the line has prepared it, not before."""
        connection = self.begin()
        self.assertTrue(connection.up)
        self.assertEqual((len(self.line.prepared), self.line.served), (1, 1))
        self.assertEqual(self.seen, [(True, None)])

    def test_failures_are_retried(self) -> None:
        """Failed attempts are told and repeated with growing delays until one succeeds."""
        connection = self.begin(*[RedisUnavailable("no")] * 5)
        self.assertEqual(self.seen, [(False, "no")])
        self.pass_time(2)
        self.assertTrue(connection.up)
        gaps = [
            round(after - before, 6)
            for before, after in zip(self.dialer.dialled, self.dialer.dialled[1:], strict=False)
        ]
        self.assertEqual(gaps, sorted(gaps))
        self.assertEqual(len(gaps), 5)

    def test_refused(self) -> None:
        """After a refusal the next attempt comes 30 s later, and `hurry` does not change that, but `retry` does."""
        connection = self.begin(RedisRefused("bad token"), RedisRefused("bad token"))
        self.pass_time(REFUSED_DELAY - 1)
        connection.hurry()
        settle(self.clock)
        self.assertEqual(len(self.dialer.dialled), 1)
        self.pass_time(1.5)
        self.assertEqual(len(self.dialer.dialled), 2)
        connection.retry()
        settle(self.clock)
        self.assertTrue(connection.up)

    def test_lost(self) -> None:
        """When the wire breaks, serving is cancelled, the loss is told, and it connects again."""
        connection = self.begin()
        self.dialer.peers[0].hang_up()
        settle(self.clock)
        self.assertFalse(connection.up)
        self.assertEqual(self.line.ended, ["cancelled"])
        self.pass_time(0.2)
        self.assertTrue(connection.up)
        self.assertEqual([up for up, _ in self.seen], [True, False, True])

    def test_line_gives_up(self) -> None:
        """A line that raises while serving, or just ends, has its wire dropped and a new one dialled later."""
        self.line.serve_error = RedisUnavailable("read only")
        self.begin()
        self.assertEqual(self.seen[-1], (False, "read only"))
        self.assertTrue(self.dialer.peers[0].wire.lost)
        self.line.serve_error = None
        self.pass_time(0.2)
        self.assertEqual(self.seen[-1], (True, None))

    def test_preparation_fails(self) -> None:
        """A line that cannot prepare never counts as up."""
        self.line.prepare_error = RedisUnavailable("loading")
        self.begin()
        self.assertEqual(self.seen, [(False, "loading")])
        self.assertTrue(self.dialer.peers[0].wire.lost)

    def test_preparation_that_never_ends(self) -> None:
        """A preparation that is never answered ends, and is tried again."""
        self.begin(HELLO=SILENT, PING=SILENT)
        self.pass_time(40, 0.5)
        self.assertFalse(any(up for up, _ in self.seen))
        self.assertGreaterEqual(len(self.dialer.dialled), 3)

    def test_bug_does_not_end_it(self) -> None:
        """An unexpected exception is logged with its traceback, and the connection is tried again."""
        self.line.prepare_error = ZeroDivisionError()
        connection = self.begin()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.line.prepare_error = None
        self.pass_time(0.2)
        self.assertTrue(connection.up)

    def test_hurry_helps_once(self) -> None:
        """`hurry` cuts a delay short once; two connections that come up and break do not spur each other on."""
        connection = self.begin(*[RedisUnavailable("no")] * 40)
        self.pass_time(10)
        before = len(self.dialer.dialled)
        connection.hurry()
        settle(self.clock)
        self.assertEqual(len(self.dialer.dialled), before + 1)
        connection.hurry()
        settle(self.clock)
        self.assertEqual(len(self.dialer.dialled), before + 1)

    def test_flapping_keeps_growing(self) -> None:
        """Connections that break at once are dialled ever more slowly; a steady one begins anew at 0.1 s."""
        self.line.serve_error = RedisUnavailable("no")
        self.begin()
        self.pass_time(10)
        self.assertLess(len(self.dialer.dialled), 25)
        self.line.serve_error = None
        self.pass_time(20)
        before = self.clock.seconds()
        self.dialer.peers[-1].hang_up()
        self.pass_time(0.2)
        self.assertAlmostEqual(self.dialer.dialled[-1] - before, 0.1, delta=0.06)

    def test_stop(self) -> None:
        """Stopped and cancelled it ends, in whatever state it was: up, waiting, or preparing."""
        for errors, replies in (((), {}), ((RedisUnavailable("no"),), {}), ((), {"HELLO": SILENT})):
            connection = self.begin(*errors, **replies)
            connection.stop()
            self.running.cancel()
            settle(self.clock)
            self.failureResultOf(self.running, CancelledError)
            self.assertFalse(connection.up)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_error_kept(self) -> None:
        """The error that the last attempt ended with is to be read."""
        connection = self.begin(RedisUnavailable("no"))
        self.assertIsInstance(connection.error, StellarError)
