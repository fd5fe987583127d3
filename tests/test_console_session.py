"""The session's rules as rows, and against any frames at all."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.claims import Claims
from stellarstack.core.console_audit import AuditLines, EnteredLines, Typed
from stellarstack.core.console_session import (
    Audit,
    Begin,
    Bucket,
    Close,
    CloseCode,
    ConsoleSession,
    Effect,
    History,
    Keys,
    Renewed,
    Resize,
    Say,
    SessionLimits,
    Verify,
    close_code_of,
)
from stellarstack.core.frames import Encoding
from stellarstack.core.records import PtySize
from stellarstack.errors import Forbidden, ServerNotFound, TokenExpired, Unauthorized
from tests.examples import examples

WALL = 1e9
CLAIMS = Claims("usr", "srv_1", frozenset({"console.read", "console.write"}), WALL, WALL + 300, "jti")
LIMITS = SessionLimits(auth_deadline=10, input_bytes=1000, input_messages=20)


def session(encoding: Encoding = Encoding.JSON, path: str | None = None) -> ConsoleSession:
    return ConsoleSession(encoding=encoding, limits=LIMITS, path_server=path, now=0.0)


def opened(encoding: Encoding = Encoding.JSON, claims: Claims = CLAIMS) -> ConsoleSession:
    made = session(encoding)
    made.verified(claims, 0.0, WALL)
    made.begun(0.0, WALL)
    return made


def _waits(encoding: Encoding, _: Claims) -> ConsoleSession:
    return session(encoding)


def kinds(effects: object) -> list[str]:
    assert isinstance(effects, list | tuple)
    return [str(e.message.get("code", e.message["type"])) if isinstance(e, Say) else type(e).__name__ for e in effects]


class SessionTests(SynchronousTestCase):
    """Frames and times in, effects out."""

    @examples(60)
    @given(
        st.sampled_from(Encoding),
        st.booleans(),
        st.booleans(),
        st.lists(st.tuples(st.integers(0, 700), st.sampled_from([0.0, 0.01, 0.3])), max_size=40),
    )
    def test_the_short_way(
        self, encoding: Encoding, may_write: bool, is_open: bool, frames: list[tuple[int, float]]
    ) -> None:
        """W13, W16: keys are granted exactly where a twin that goes the long way is told to type them."""
        claims = CLAIMS if may_write else replace(CLAIMS, permissions=frozenset({"console.read"}))
        quick, twin = ((opened if is_open else _waits)(encoding, claims) for _ in range(2))
        now = 0.0
        for size, pause in frames:
            now += pause
            data = b"x" * size
            told = twin.received(data, now, WALL)
            granted = quick.grants(data, now)
            self.assertEqual(granted, told == [Keys(data)])
            if not granted:
                self.assertEqual(quick.received(data, now, WALL), told)

    def test_frames(self) -> None:
        """Each frame of the table, good and bad."""
        rows: list[tuple[object, object]] = [
            ({"type": "input", "data": "é\r"}, [Keys("é\r".encode())]),
            ({"type": "input", "data": ""}, []),
            ({"type": "input", "data": "\ud800"}, ["invalid_frame"]),
            ({"type": "input"}, ["invalid_frame"]),
            ({"type": "resize", "cols": 1, "rows": 1000}, [Resize(PtySize(1, 1000))]),
            ({"type": "resize", "cols": 1001, "rows": 1}, ["invalid_frame"]),
            ({"type": "resize", "cols": True, "rows": 1}, ["invalid_frame"]),
            ({"type": "resize", "cols": 80.0, "rows": 24}, ["invalid_frame"]),
            ({"type": "ping", "more": 1}, ["pong"]),
            ({"type": "history", "limit": 1}, [History(None, 1)]),
            ({"type": "history", "limit": 262144, "before": 0}, [History(0, 262144)]),
            ({"type": "history", "limit": 262145}, ["invalid_frame"]),
            ({"type": "history", "limit": 5, "before": -1}, ["invalid_frame"]),
            ({"type": "history"}, ["invalid_frame"]),
            ({"type": "auth", "token": "x"}, [Verify("x")]),
            ({"type": "auth", "token": None}, ["invalid_frame"]),
            ({"type": 5}, ["invalid_frame"]),
            ("[" * 60000, ["invalid_frame"]),
            ("9" * 60000, ["invalid_frame"]),
            (b"x", ["invalid_frame"]),
        ]
        for frame, wanted in rows:
            sent = json.dumps(frame) if isinstance(frame, dict) else frame
            assert isinstance(sent, str | bytes)
            effects = opened().received(sent, 0.0, WALL)
            assert isinstance(wanted, list)
            if wanted and isinstance(wanted[0], str):
                self.assertEqual(kinds(effects), wanted, frame)
            else:
                self.assertEqual(list(effects), wanted, frame)

    def test_raw_input(self) -> None:
        """Binary frames are keystrokes."""
        self.assertEqual(opened(Encoding.RAW).received(b"\xff", 0.0, WALL), [Keys(b"\xff")])

    def test_rates(self) -> None:
        """Messages and bytes a second, each with a second's worth at once; ten refusals in 10 s close."""
        one = opened()
        for _ in range(20):
            self.assertEqual(kinds(one.received('{"type":"ping"}', 0.0, WALL)), ["pong"])
        self.assertEqual(kinds(one.received('{"type":"ping"}', 0.0, WALL)), ["rate_limited"])
        (said,) = one.received('{"type":"power","action":"stop"}', 0.0, WALL)
        assert isinstance(said, Say)
        self.assertEqual((said.message["code"], said.message["action"]), ("rate_limited", "stop"))
        self.assertEqual(kinds(one.received('{"type":"ping"}', 0.1, WALL)), ["pong"])
        big = opened(Encoding.RAW)
        self.assertEqual(kinds(big.received(b"x" * 5000, 0.0, WALL)), ["Keys"])
        self.assertEqual(kinds(big.received(b"x", 1.0, WALL)), ["rate_limited"])
        self.assertEqual(kinds(big.received(b"x", 6.0, WALL)), ["Keys"])
        slow = opened(Encoding.RAW)
        slow.received(b"x" * 60000, 0.0, WALL)
        for number in range(30):
            self.assertEqual(kinds(slow.received(b"x", 1.0 + number * 1.2, WALL)), ["rate_limited"])
        last = opened(Encoding.RAW)
        last.received(b"x" * 60000, 0.0, WALL)
        seen = [kinds(last.received(b"x", 1.0, WALL)) for _ in range(11)]
        self.assertEqual(seen, [["rate_limited"]] * 9 + [["rate_limited", "Close"], []])

    def test_before_the_token_is_judged(self) -> None:
        """Early frames wait, boundedly; after the judgement they are done in order, or never."""
        one = session()
        self.assertEqual(one.received('{"type":"auth","token":"t"}', 0.0, WALL), [Verify("t")])
        self.assertEqual(one.received('{"type":"ping"}', 0.0, WALL), [])
        self.assertEqual(kinds(one.verified(CLAIMS, 0.0, WALL)), ["Begin"])
        self.assertEqual(kinds(one.begun(0.0, WALL)), ["pong"])
        many = session()
        many.received('{"type":"auth","token":"t"}', 0.0, WALL)
        found = [many.received("x", 0.0, WALL) for _ in range(257)]
        self.assertEqual(kinds(found[-1]), ["Close"])
        self.assertEqual((many.verified(CLAIMS, 0.0, WALL), many.refused(Unauthorized("x"))), ([], []))

    def test_before_ready(self) -> None:
        """Between a good token and `ready` frames wait too, boundedly; nothing is told but the token's end."""
        one = session()
        self.assertEqual(kinds(one.verified(replace(CLAIMS, expires_at=WALL + 30), 0.0, WALL)), ["Begin"])
        self.assertEqual((one.received('{"type":"ping"}', 0.0, WALL), one.woken(0.0, WALL)), ([], []))
        self.assertEqual(one.next_wake(0.0, WALL), 15.0)
        self.assertEqual(kinds(one.begun(0.0, WALL)), ["token.expiring", "pong"])
        late = session()
        late.verified(CLAIMS, 0.0, WALL)
        self.assertEqual(kinds(late.woken(300.0, WALL + 300)), ["Close"])
        self.assertEqual(late.begun(300.0, WALL + 300), [])
        many = session()
        many.verified(CLAIMS, 0.0, WALL)
        self.assertEqual(kinds([many.received("x", 0.0, WALL) for _ in range(257)][-1]), ["Close"])

    def test_why_a_token_does_not_open(self) -> None:
        """The close code of each reason."""
        for error, code in ((Unauthorized(""), 4401), (TokenExpired(""), 4410), (Forbidden(""), 4403),
                            (ServerNotFound(""), 4404)):  # fmt: skip
            self.assertEqual(close_code_of(error), code)
            found = session().refused(error)
            self.assertEqual([e.code for e in found if isinstance(e, Close)], [code])
        (close,) = session().verified(CLAIMS, 0.0, WALL + 300)
        self.assertEqual(close, Close(CloseCode.EXPIRED, "the token has expired"))

    def test_renewal(self) -> None:
        """Same user and server; one judgement at a time; the old end holds where the new token is bad."""
        one = opened()
        self.assertEqual(kinds(one.received('{"type":"auth","token":"a"}', 0.0, WALL)), ["Verify"])
        self.assertEqual(kinds(one.received('{"type":"auth","token":"b"}', 0.0, WALL)), ["busy"])
        self.assertEqual(kinds(one.refused(Unauthorized("no"))), ["unauthorized"])
        for bad in (replace(CLAIMS, server_id="srv_2"), replace(CLAIMS, expires_at=WALL),
                    replace(CLAIMS, permissions=frozenset())):  # fmt: skip
            self.assertEqual(kinds(one.verified(bad, 0.0, WALL)), ["unauthorized"])
        self.assertEqual(kinds(one.verified(replace(CLAIMS, expires_at=WALL + 30), 0.0, WALL)),
                         ["Renewed", "auth.ok", "token.expiring"])  # fmt: skip
        self.assertEqual(kinds(one.woken(0.0, WALL + 30)), ["Close"])

    def test_clock_jumps(self) -> None:
        """K22: the wall clock is looked at again every 15 s at least, whatever it says now."""
        one = opened()
        wake = one.next_wake(0.0, WALL - 10_000)
        assert wake is not None
        self.assertLessEqual(wake, 15)
        self.assertEqual(kinds(one.woken(15.0, WALL + 400)), ["Close"])
        self.assertIsNone(one.next_wake(15.0, WALL))

    def test_a_clock_that_is_set_back(self) -> None:
        """K22: a token lives no longer for it, nor is its end told late; one that is renewed begins anew."""
        for back in (3600, 86400):
            one = opened()
            self.assertEqual(kinds(one.woken(239.0, WALL - back)), [])
            self.assertEqual(kinds(one.woken(240.0, WALL - back)), ["token.expiring"])
            wake = one.next_wake(299.0, WALL - back)
            self.assertEqual(wake, 1.0)
            renewed = replace(CLAIMS, expires_at=WALL - back + 300)
            self.assertEqual(kinds(one.verified(renewed, 299.0, WALL - back)), ["Renewed", "auth.ok"])
            self.assertEqual(kinds(one.woken(598.0, WALL - back)), ["token.expiring"])
            self.assertEqual(kinds(one.woken(599.0, WALL - back)), ["Close"])

    @examples(75)
    @given(st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=40), st.dictionaries(
        st.sampled_from(["type", "token", "data", "cols", "rows", "limit", "before", "action"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
                  st.sampled_from(["auth", "input", "resize", "ping", "history", "power", "kill"])), max_size=4,
    ).map(json.dumps)), max_size=60), st.booleans())  # fmt: skip
    def test_any_frames(self, frames: list[str | bytes], authenticated: bool) -> None:
        """Nothing but effects comes of any frames; nothing follows a close; nothing is said before ready."""
        one = opened() if authenticated else session()
        effects: list[Effect] = []
        for number, frame in enumerate(frames):
            effects += one.received(frame, number * 0.01, WALL)
        effects += one.woken(100.0, WALL + 100)
        closes = [number for number, effect in enumerate(effects) if isinstance(effect, Close)]
        self.assertIn(closes, ([], [len(effects) - 1]))
        if not authenticated:
            self.assertFalse([e for e in effects if not isinstance(e, Verify | Close)])
            self.assertTrue(closes)
        self.assertFalse([e for e in effects if isinstance(e, Begin | Renewed | Audit)])


class AuditTests(SynchronousTestCase):
    """`console.audit` of PROTOCOL 5."""

    def lines(self, data: bytes, mode: str = "full") -> list[str | None]:
        return [typed.command for typed in AuditLines(mode).feed(EnteredLines().feed(data), 0.0)]

    def test_lines(self) -> None:
        """CR, LF and CRLF end one; backspace is applied, control characters are removed; 1 KiB at most."""
        self.assertEqual(self.lines(b"a\rb\nc\r\nd"), ["a", "b", "c"])
        self.assertEqual(self.lines("aé\x7f\bb\x1b[A\x03\x9b\r".encode()), ["b[A"])
        self.assertEqual(self.lines(b"\x7f\b\r"), [""])
        self.assertEqual(self.lines(b"x" * 5000 + b"\r"), ["x" * 1024])
        self.assertEqual(self.lines("é".encode() * 600 + b"\r"), ["é" * 512])

    def test_modes(self) -> None:
        """`redacted` tells that, not what; `off` nothing."""
        self.assertEqual(self.lines(b"secret\r", "redacted"), [None])
        self.assertEqual(self.lines(b"secret\r", "off"), [])

    def test_characters_over_frames(self) -> None:
        """A character that comes in two frames is one."""
        lines = EnteredLines()
        self.assertEqual((lines.feed(b"\xc3"), lines.feed(b"\xa9\r")), ([], ["é"]))

    def test_too_many(self) -> None:
        """Five a second, then a number when the second is over or the session is."""
        audit = AuditLines("full")
        self.assertEqual(len(audit.feed(["x"] * 12, 10.0)), 5)
        self.assertEqual((audit.due, audit.woken(10.5)), (11.0, []))
        self.assertEqual(audit.woken(11.0), [Typed(None, 7)])
        self.assertEqual((audit.due, len(audit.feed(["x"] * 6, 11.0))), (None, 5))
        self.assertEqual(audit.rest(), [Typed(None, 1)])

    def test_bucket(self) -> None:
        """One second's worth at most, however long nothing was taken; a clock that stands still gives nothing."""
        bucket = Bucket(10, 0.0)
        self.assertEqual([bucket.take(1, 100.0) for _ in range(11)], [True] * 10 + [False])
