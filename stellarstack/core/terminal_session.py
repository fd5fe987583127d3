"""One console session of a bare terminal (SSH), by the rules of PROTOCOL 8: keys and times in, effects out.

What is typed too fast is not refused as on the WebSocket: it waits, and whoever sends it has to wait with it, so a
paste arrives whole. Performs no I/O, reads no clock: `now` only goes forward, `wall` is Unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stellarstack.core.console_audit import AuditLines, EnteredLines
from stellarstack.core.console_session import Audit, Bucket, Close, CloseCode, Keys, Resize, SessionLimits
from stellarstack.core.records import PtySize
from stellarstack.core.token_end import TokenEnd

LEAVE_KEY = b"\x1d"  # Ctrl-]
LEFT = 1000  # the close code of a viewer that leaves by itself
_PIECE = 4096  # bytes of keys that are handed on at a time
_TRY_AGAIN = 0.05  # seconds after which keys that wait are looked at
_MOST_CELLS = 1000


@dataclass(frozen=True, slots=True)
class Tell:
    """One line of ours on this viewer's terminal."""

    text: str


TerminalEffect: TypeAlias = "Tell | Keys | Resize | Audit | Close"


class TerminalSession:
    """The rules of one session. Each method answers what is to be done, in order."""

    def __init__(self, *, end: TokenEnd, limits: SessionLimits, now: float) -> None:
        self.claims = end.claims
        self._end = end
        self._bytes = Bucket(limits.input_bytes, now)
        self._messages = Bucket(limits.input_messages, now)
        self._lines = EnteredLines()
        self._audit = AuditLines(limits.audit)
        self._waiting = bytearray()
        self._leaving = False
        self._told_read_only = False
        self._warned = False
        self._over = False

    @property
    def may_write(self) -> bool:
        return self.claims.allows("console.write")

    @property
    def waiting(self) -> int:
        """Bytes of keys that wait for their turn."""
        return len(self._waiting)

    def keys(self, data: bytes, now: float) -> Sequence[TerminalEffect]:
        """Keystrokes. Ctrl-] leaves, and what follows it is not heard."""
        if self._leaving or self._over:
            return []
        before, leave, _ = data.partition(LEAVE_KEY)
        self._leaving = bool(leave)
        told: list[TerminalEffect] = []
        if before and self.may_write:
            self._waiting += before
        elif before and not self._told_read_only:
            self._told_read_only = True
            told = [Tell("read-only: this login may watch, not type")]
        return [*told, *self._granted(now)]

    def _granted(self, now: float) -> Sequence[TerminalEffect]:
        """What may go on to the PTY by now."""
        granted: list[TerminalEffect] = []
        while self._waiting:
            piece = bytes(self._waiting[:_PIECE])
            if not (self._bytes.take(len(piece), now) and self._messages.take(1, now)):
                return granted
            del self._waiting[:_PIECE]
            granted.append(Keys(piece))
        if self._leaving:
            granted += self._close(LEFT, "left")
        return granted

    def entered(self, data: bytes) -> Sequence[str]:
        """The lines that keystrokes end. To be asked of all of them, in order."""
        return self._lines.feed(data)

    def typed(self, lines: Sequence[str], now: float) -> Sequence[TerminalEffect]:
        """What the audit is told of lines that were entered."""
        return [Audit(line) for line in self._audit.feed(lines, now)]

    def not_typed(self) -> None:
        """The PTY did not take the keystrokes: what was begun of a line is gone."""
        self._lines = EnteredLines()

    def resized(self, cols: int, rows: int) -> Sequence[TerminalEffect]:
        """The viewer's terminal has another size; 0 means that it does not know."""
        if not (self.may_write and 1 <= cols <= _MOST_CELLS and 1 <= rows <= _MOST_CELLS):
            return []
        return [Resize(PtySize(cols, rows))]

    def woken(self, now: float, wall: float) -> Sequence[TerminalEffect]:
        """Some time has passed: `next_wake` said when to look."""
        if self._over:
            return []
        left = self._end.left(now, wall)
        if left <= 0:
            return self._close(CloseCode.EXPIRED, "the login has expired")
        effects: list[TerminalEffect] = []
        if not self._warned and self._end.to_warn(now, wall):
            self._warned = True
            effects.append(Tell(f"this login ends in {max(1, round(left))} s"))
        return [*effects, *(Audit(line) for line in self._audit.woken(now)), *self._granted(now)]

    def next_wake(self, now: float, wall: float) -> float | None:
        """Seconds until `woken` has something to do; None: never."""
        if self._over:
            return None
        times = [self._end.next_look(now, wall, warned=self._warned)]
        if self._audit.due is not None:
            times.append(self._audit.due - now)
        if self._waiting:
            times.append(_TRY_AGAIN)
        return max(0.0, min(times))

    def ended(self) -> Sequence[Audit]:
        """The session is over: what the audit still counts."""
        self._over = True
        return [Audit(line) for line in self._audit.rest()]

    def _close(self, code: int, reason: str) -> Sequence[TerminalEffect]:
        self._over = True
        return [Close(code, reason)]
