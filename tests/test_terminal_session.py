"""The rules of a bare terminal's session, in rows: keys and times in, effects out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.claims import Claims
from stellarstack.core.console_audit import Typed
from stellarstack.core.console_session import Audit, Close, CloseCode, Keys, Resize, SessionLimits
from stellarstack.core.records import PtySize
from stellarstack.core.terminal_session import LEFT, Tell, TerminalSession
from stellarstack.core.token_end import TokenEnd

WALL = 1_700_000_000.0
LIMITS = SessionLimits(auth_deadline=10.0, input_bytes=10_000, input_messages=20)


def session(*permissions: str, life: float = 300.0, limits: SessionLimits = LIMITS) -> TerminalSession:
    allowed = frozenset(permissions or ("console.read", "console.write"))
    end = TokenEnd(Claims("u", "s", allowed, WALL, WALL + life, "j"), 0.0, WALL)
    return TerminalSession(end=end, limits=limits, now=0.0)


class KeysTests(SynchronousTestCase):
    def test_as_they_are(self) -> None:
        """Keys go on at once, control keys too."""
        self.assertEqual(session().keys(b"\x03say\r", 0.0), [Keys(b"\x03say\r")])
        self.assertEqual(session().keys(b"", 0.0), [])

    def test_leaving(self) -> None:
        """Ctrl-] ends it after what came before; nothing is heard after that."""
        found = session()
        self.assertEqual(found.keys(b"a\x1db", 0.0), [Keys(b"a"), Close(LEFT, "left")])
        self.assertEqual(found.keys(b"c", 0.0), [])
        self.assertEqual((found.woken(1.0, WALL + 400), found.next_wake(1.0, WALL)), ([], None))

    def test_read_only(self) -> None:
        """Without console.write: told once, and one may still leave."""
        found = session("console.read")
        self.assertEqual(found.keys(b"a", 0.0), [Tell("read-only: this login may watch, not type")])
        self.assertEqual(found.keys(b"a", 0.0), [])
        self.assertEqual(found.resized(80, 24), [])
        self.assertEqual(found.keys(b"a\x1d", 0.0), [Close(LEFT, "left")])

    def test_too_fast(self) -> None:
        """What is over the rate waits, and leaving waits with it."""
        found = session()
        granted = b"".join(effect.data for effect in found.keys(b"x" * 30_000, 0.0) if isinstance(effect, Keys))
        self.assertLessEqual(len(granted), 10_000 + 4096)
        self.assertEqual(len(granted) + found.waiting, 30_000)
        self.assertLessEqual(found.next_wake(0.0, WALL) or 0, 0.1)
        self.assertEqual(found.keys(b"\x1d", 0.0), [])
        ends: list[object] = []
        for tenth in range(1, 40):
            ends += found.woken(tenth / 10, WALL)
        self.assertEqual(ends[-1], Close(LEFT, "left"))
        self.assertEqual(found.waiting, 0)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.binary(max_size=5000), st.floats(0, 0.5)), max_size=30))
    def test_nothing_is_lost(self, typed: list[tuple[bytes, float]]) -> None:
        """Whatever is typed whenever arrives whole and in order, and never faster than the limits."""
        found, now, arrived = session(), 0.0, b""
        for data, pause in typed:
            for effect in [*found.keys(data.replace(b"\x1d", b""), now), *found.woken(now, WALL)]:
                assert isinstance(effect, Keys)
                arrived += effect.data
            self.assertLessEqual(len(arrived), 10_000 * (now + 1) + 4096)
            now += pause
        while found.waiting:
            now += 0.05
            arrived += b"".join(effect.data for effect in found.woken(now, WALL) if isinstance(effect, Keys))
        self.assertEqual(arrived, b"".join(data for data, _ in typed).replace(b"\x1d", b""))


class TimeTests(SynchronousTestCase):
    def test_expiry(self) -> None:
        """Told 60 s before, once; the end is the token's."""
        found = session()
        self.assertEqual(found.woken(0.0, WALL), [])
        self.assertEqual(found.woken(240.5, WALL + 240.5), [Tell("this login ends in 60 s")])
        self.assertEqual(found.woken(250.0, WALL + 250), [])
        self.assertEqual(found.next_wake(290.0, WALL + 290), 10.0)
        self.assertEqual(found.woken(300.0, WALL + 300), [Close(CloseCode.EXPIRED, "the login has expired")])

    def test_the_clock_is_set(self) -> None:
        """No timer that means the wall clock runs longer than 15 s."""
        self.assertEqual(session(life=86400.0).next_wake(0.0, WALL), 15.0)

    def test_a_clock_that_is_set_back(self) -> None:
        """K22: a login lives no longer for it, nor is its end told late."""
        for back in (3600, 86400):
            found = session()
            self.assertEqual(found.woken(239.0, WALL - back), [])
            self.assertEqual(found.woken(240.0, WALL - back), [Tell("this login ends in 60 s")])
            self.assertEqual(found.next_wake(299.0, WALL - back), 1.0)
            self.assertEqual(found.woken(300.0, WALL - back), [Close(CloseCode.EXPIRED, "the login has expired")])

    def test_sizes(self) -> None:
        """1 to 1000 each; a terminal that does not know says 0."""
        self.assertEqual(session().resized(132, 43), [Resize(PtySize(132, 43))])
        for cols, rows in ((0, 0), (0, 24), (1001, 24), (80, 2**32 - 1)):
            self.assertEqual(session().resized(cols, rows), [])

    def test_audit(self) -> None:
        """Lines that are too many are counted, and told at the end at the latest."""
        found = session()
        told = found.typed([*"abcdefg"], 0.0)
        self.assertEqual(told, [Audit(Typed(line)) for line in "abcde"])
        self.assertEqual(found.ended(), [Audit(Typed(None, 2))])
        self.assertEqual(found.ended(), [])
