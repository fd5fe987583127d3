"""One console session as PROTOCOL 8 tells it: frames and times in, effects out. Performs no I/O, reads no clock.

Two times come in: `now`, which only goes forward (limits, deadlines), and `wall`, Unix seconds (what tokens mean).
A session begins with claims (a header token) or without (a first frame), and lives to the end of its token.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from stellarstack.core.claims import Claims
from stellarstack.core.console_audit import AuditLines, EnteredLines
from stellarstack.core.console_effects import Audit as Audit
from stellarstack.core.console_effects import Begin as Begin
from stellarstack.core.console_effects import Close as Close
from stellarstack.core.console_effects import CloseCode as CloseCode
from stellarstack.core.console_effects import Effect as Effect
from stellarstack.core.console_effects import History as History
from stellarstack.core.console_effects import Keys as Keys
from stellarstack.core.console_effects import Power as Power
from stellarstack.core.console_effects import Renewed as Renewed
from stellarstack.core.console_effects import Resize as Resize
from stellarstack.core.console_effects import Say as Say
from stellarstack.core.console_effects import Verify as Verify
from stellarstack.core.frames import Encoding
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize
from stellarstack.core.token_end import TokenEnd
from stellarstack.errors import Forbidden, ServerNotFound, StellarError, TokenExpired

HISTORY_MAX = 262144
_BAD_FRAMES, _RATE_STRIKES, _STRIKE_WINDOW = 5, 10, 10.0
_EARLY_FRAMES = 256  # that may come before `ready`, besides the first token's
POWER_ACTIONS = ("start", "stop", "restart", "kill")
_POWER_RATE, _POWER_BURST = 0.5, 5.0  # power actions a second of one session, and how many at once


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of one session, from `[console]`; seconds, bytes and messages a second."""

    auth_deadline: float
    input_bytes: int
    input_messages: int
    audit: str = "full"


class _Phase(Enum):
    WAITING = "waiting"  # for the first frame
    JUDGED = "judged"  # the first frame's token is being verified
    OPENING = "opening"  # the token is good; `ready` is not out, and nothing comes before it
    OPEN = "open"
    CLOSED = "closed"


_OPEN = _Phase.OPEN  # looked up at each key


class Bucket:
    """A token bucket that may fall into debt by its last taker; holds one second's worth, or `most`."""

    __slots__ = ("_at", "_level", "_most", "_rate")

    def __init__(self, rate: float, now: float, most: float | None = None) -> None:
        self._rate = rate
        self._most = self._level = rate if most is None else most
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Whether `amount` is granted now."""
        level, most = self._level, self._most
        if now > self._at:
            level += (now - self._at) * self._rate
            level = level if level < most else most
        self._at = now
        granted = level >= (amount if amount < most else most)
        self._level = level - amount if granted else level
        return granted

    def give_back(self, amount: float) -> None:
        """What was taken now, and nothing since, is not used."""
        self._level += amount


class ConsoleSession:
    """The rules of one session. Each method answers what is to be done, in order."""

    def __init__(
        self, *, encoding: Encoding, limits: SessionLimits, path_server: str | None, now: float
    ) -> None:  # fmt: skip
        self._encoding = encoding
        self._path_server = path_server
        self._phase = _Phase.WAITING
        self._auth_until = now + limits.auth_deadline
        self._messages = Bucket(limits.input_messages, now)
        self._bytes = Bucket(limits.input_bytes, now)
        self._power = Bucket(_POWER_RATE, now, _POWER_BURST)
        self._strikes: deque[float] = deque()
        self._bad = 0
        self._early: list[str | bytes] = []
        self._judging = False
        self._warned = False
        self._lines = EnteredLines()
        self._audit = AuditLines(limits.audit)
        self._end: TokenEnd | None = None
        self._may_write = False

    @property
    def claims(self) -> Claims | None:
        """Whose session it is, once that is known."""
        return None if self._end is None else self._end.claims

    @property
    def open(self) -> bool:
        """Whether somebody is in: output may be shown."""
        return self._phase is _Phase.OPEN

    # ---------------------------------------------------------------- authentication

    def verified(self, claims: Claims, now: float, wall: float) -> Sequence[Effect]:
        """A token was found good: the header's, the first frame's or a renewal."""
        self._judging = False
        if self._phase is _Phase.CLOSED:
            return []
        if self._phase is _Phase.OPEN:
            return self._renew(claims, now, wall)
        if wall >= claims.expires_at:
            return self._close(CloseCode.EXPIRED, "the token has expired")
        if self._path_server is not None and claims.server_id != self._path_server:
            return self._close(CloseCode.FORBIDDEN, "the token is for another server")
        if not claims.allows("console.read"):
            return self._close(CloseCode.FORBIDDEN, "the token does not allow console.read")
        self._phase = _Phase.OPENING
        self._hold(claims, now, wall)
        return [Begin(claims)]

    def refused(self, error: StellarError) -> Sequence[Effect]:
        """A token was found bad."""
        self._judging = False
        if self._phase is _Phase.OPEN:
            return [_error("unauthorized", str(error))]
        if self._phase is _Phase.CLOSED:
            return []
        return self._close(close_code_of(error), str(error))

    def begun(self, now: float, wall: float) -> Sequence[Effect]:
        """`ready` is out: what came before it is done now."""
        if self._phase is _Phase.OPENING:
            self._phase = _Phase.OPEN
        early, self._early = self._early, []
        effects = list(self._warn(now, wall))
        for frame in early:
            effects += self.received(frame, now, wall)
        return effects

    def _hold(self, claims: Claims, now: float, wall: float) -> None:
        self._end, self._warned = TokenEnd(claims, now, wall), False
        self._may_write = claims.allows("console.write")

    def _renew(self, claims: Claims, now: float, wall: float) -> Sequence[Effect]:
        mine = self.claims
        if mine is None or (claims.user_id, claims.server_id) != (mine.user_id, mine.server_id):
            return [_error("unauthorized", "the token is for another user or server")]
        if wall >= claims.expires_at or not claims.allows("console.read"):
            return [_error("unauthorized", "the token has expired or does not allow console.read")]
        self._hold(claims, now, wall)
        answer: dict[str, Json] = {"type": "auth.ok", "expiresAt": claims.expires_at, "canWrite": self._may_write}
        answer["permissions"] = [*sorted(claims.permissions)]
        return [Renewed(claims), Say(answer), *self._warn(now, wall)]

    # ---------------------------------------------------------------- frames

    def grants(self, data: bytes, now: float) -> bool:
        """Whether a binary message is keystrokes that may go to the PTY now. Where not, `received` tells what it is.

        What is asked of the most frequent message by far, whose sender waits for an echo.
        """
        if self._phase is not _OPEN or not self._may_write or self._encoding is not Encoding.RAW or not data:
            return False
        if not self._messages.take(1, now):
            return False
        granted = self._bytes.take(len(data), now)
        if not granted:
            self._messages.give_back(1)
        return granted

    def received(self, frame: str | bytes, now: float, wall: float) -> Sequence[Effect]:
        """A text (str) or binary (bytes) message from the viewer, at most 64 KiB."""
        match self._phase:
            case _Phase.OPEN:
                return self._frame(frame, now, wall)
            case _Phase.WAITING:
                token = _auth_token(frame)
                if token is None:
                    return self._close(CloseCode.UNAUTHORIZED, "the first frame must be auth")
                self._phase, self._judging = _Phase.JUDGED, True
                return [Verify(token)]
            case _Phase.JUDGED | _Phase.OPENING if len(self._early) < _EARLY_FRAMES:
                self._early.append(frame)
                return []
            case _Phase.JUDGED | _Phase.OPENING:
                return self._close(CloseCode.POLICY, "too many frames before ready")
        return []

    def _frame(self, frame: str | bytes, now: float, wall: float) -> Sequence[Effect]:
        if not self._messages.take(1, now):
            return self._limited(now, _ordered(frame))
        if isinstance(frame, bytes):
            return self._keys(frame, now) if self._encoding is Encoding.RAW else self._bad_frame("binary frame")
        message = _object(frame)
        match message.get("type") if message is not None else None:
            case "input" if message is not None:
                return self._input(message, now)
            case "resize" if message is not None:
                return self._resize(message)
            case "ping":
                return [Say({"type": "pong", "timestamp": wall})]
            case "history" if message is not None:
                return self._history(message)
            case "auth" if message is not None:
                return self._auth(message)
            case "power" if message is not None:
                return self._order(message, now)
        return self._bad_frame("no message of this protocol")

    def _input(self, message: Mapping[str, object], now: float) -> Sequence[Effect]:
        text = message.get("data")
        if not isinstance(text, str):
            return self._bad_frame("data must be a string")
        try:
            return self._keys(text.encode(), now)
        except UnicodeEncodeError:
            return self._bad_frame("data has half a surrogate pair")

    def _keys(self, data: bytes, now: float) -> Sequence[Effect]:
        if not self._may_write:
            return [_error("forbidden", "the token does not allow console.write")]
        if not self._bytes.take(len(data), now):
            return self._limited(now)
        return [Keys(data)] if data else []

    def entered(self, data: bytes) -> Sequence[str]:
        """The lines that keystrokes end. To be asked of all of them, in order."""
        return self._lines.feed(data)

    def typed(self, lines: Sequence[str], now: float) -> Sequence[Effect]:
        """What the audit is told of lines that were entered."""
        return [Audit(line) for line in self._audit.feed(lines, now)]

    def not_typed(self) -> None:
        """The PTY did not take the keystrokes: what was begun of a line is gone."""
        self._lines = EnteredLines()

    def _order(self, message: Mapping[str, object], now: float) -> Sequence[Effect]:
        action = message.get("action")
        if not isinstance(action, str) or action not in POWER_ACTIONS:
            return self._bad_frame("action must be start, stop, restart or kill")
        if self.claims is None or not self.claims.allows(f"control.{action}"):
            return [_error("forbidden", f"the token does not allow control.{action}", action)]
        return [Power(action)] if self._power.take(1, now) else self._limited(now, action)

    def _resize(self, message: Mapping[str, object]) -> Sequence[Effect]:
        cols, rows = message.get("cols"), message.get("rows")
        if not (_whole(cols, 1, 1000) and _whole(rows, 1, 1000)):
            return self._bad_frame("cols and rows must be whole numbers from 1 to 1000")
        if not self._may_write:
            return [_error("forbidden", "the token does not allow console.write")]
        assert isinstance(cols, int) and isinstance(rows, int)
        return [Resize(PtySize(cols, rows))]

    def _history(self, message: Mapping[str, object]) -> Sequence[Effect]:
        before, limit = message.get("before"), message.get("limit")
        if not _whole(limit, 1, HISTORY_MAX) or not (before is None or _whole(before, 0, 2**63)):
            return self._bad_frame(f"limit must be 1 to {HISTORY_MAX}, before an offset")
        assert isinstance(limit, int) and (before is None or isinstance(before, int))
        return [History(before, limit)]

    def _auth(self, message: Mapping[str, object]) -> Sequence[Effect]:
        token = message.get("token")
        if not isinstance(token, str):
            return self._bad_frame("token must be a string")
        if self._judging:
            return [_error("busy", "another token is being judged")]
        self._judging = True
        return [Verify(token)]

    def _bad_frame(self, why: str) -> Sequence[Effect]:
        self._bad += 1
        said = _error("invalid_frame", why)
        return [said, *self._close(CloseCode.POLICY, "bad frames")] if self._bad >= _BAD_FRAMES else [said]

    def _limited(self, now: float, action: str | None = None) -> Sequence[Effect]:
        self._strikes.append(now)
        while self._strikes[0] <= now - _STRIKE_WINDOW:
            self._strikes.popleft()
        said = _error("rate_limited", "slower, please", action)
        if len(self._strikes) >= _RATE_STRIKES:
            return [said, *self._close(CloseCode.POLICY, "rate limited too often")]
        return [said]

    # ---------------------------------------------------------------- time

    def woken(self, now: float, wall: float) -> Sequence[Effect]:
        """Some time has passed: `next_wake` said when to look."""
        if self._phase in (_Phase.WAITING, _Phase.JUDGED):
            late = now >= self._auth_until
            return self._close(CloseCode.UNAUTHORIZED, "no authentication in time") if late else []
        if self._phase is _Phase.CLOSED or self._end is None:
            return []
        if self._end.left(now, wall) <= 0:
            return self._close(CloseCode.EXPIRED, "the token has expired")
        return [*self._warn(now, wall), *(Audit(line) for line in self._audit.woken(now))]

    def next_wake(self, now: float, wall: float) -> float | None:
        """Seconds until `woken` has something to do; None: never."""
        if self._phase is _Phase.CLOSED:
            return None
        if self._end is None:
            return max(0.0, self._auth_until - now)
        told = self._warned or self._phase is _Phase.OPENING
        times = [self._end.next_look(now, wall, warned=told)]
        if self._audit.due is not None:
            times.append(self._audit.due - now)
        return max(0.0, min(times))

    def _warn(self, now: float, wall: float) -> Sequence[Effect]:
        if self._phase is not _Phase.OPEN or self._end is None or self._warned or not self._end.to_warn(now, wall):
            return []
        self._warned = True
        left = round(self._end.left(now, wall), 3)
        return [Say({"type": "token.expiring", "expiresIn": max(0.0, left)})]

    def ended(self) -> Sequence[Effect]:
        """The connection is gone: what the audit still counts."""
        self._phase = _Phase.CLOSED
        return [Audit(line) for line in self._audit.rest()]

    def _close(self, code: int, reason: str) -> Sequence[Effect]:
        self._phase = _Phase.CLOSED
        return [Close(code, reason)]


def close_code_of(error: StellarError) -> int:
    """The close code that tells `error` (PROTOCOL 8's table)."""
    match error:
        case TokenExpired():
            return CloseCode.EXPIRED
        case Forbidden():
            return CloseCode.FORBIDDEN
        case ServerNotFound():
            return CloseCode.NOT_FOUND
    return CloseCode.UNAUTHORIZED


def _error(code: str, message: str, action: str | None = None) -> Say:
    """`action`: the power action that is refused; an error of anything else has none."""
    told: dict[str, Json] = {"type": "error", "code": code, "message": message}
    return Say(told if action is None else {**told, "action": action})


def _object(text: str) -> Mapping[str, object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _auth_token(frame: str | bytes) -> str | None:
    message = _object(frame) if isinstance(frame, str) else None
    token = message.get("token") if message is not None and message.get("type") == "auth" else None
    return token if isinstance(token, str) else None


def _ordered(frame: str | bytes) -> str | None:
    """The action of a power frame; None: it is another frame."""
    message = _object(frame) if isinstance(frame, str) else None
    action = message.get("action") if message is not None and message.get("type") == "power" else None
    return action if isinstance(action, str) and action in POWER_ACTIONS else None


def _whole(found: object, low: int, high: int) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and low <= found <= high
