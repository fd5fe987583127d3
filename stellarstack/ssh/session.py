"""One viewer's session at a terminal: does what core/terminal_session.py says is to be done (PROTOCOL 8 over SSH)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from stellarstack.audit_trail import AuditTrail
from stellarstack.config import ConsoleConfig
from stellarstack.core.console_session import Audit, Close, CloseCode, Keys, Resize, SessionLimits
from stellarstack.core.frames import Encoding, terminal_line
from stellarstack.core.records import ServerStatus
from stellarstack.core.terminal_session import LEFT, Tell, TerminalEffect, TerminalSession
from stellarstack.core.token_end import TokenEnd
from stellarstack.errors import StellarError
from stellarstack.interfaces import EventBus, ServerDirectory
from stellarstack.ssh.terminal import Terminal
from stellarstack.ssh.wire import SshWire
from stellarstack.tasks import Tasks
from stellarstack.viewing import ConsoleFeed, ConsoleFeeds, Frame, Seat, Seats, TypedLines, Viewer, ViewRequest

LAST_WORDS = 5.0  # seconds that a terminal which has ended, and a connection without another, may stay
LOGIN_OVER = (CloseCode.EXPIRED, CloseCode.FORBIDDEN)  # that ends the connection, and not only a terminal of it
_EARLY_MOST = 1 << 20  # bytes that wait for the viewer beside the output: notices, lines of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Hall:
    """What every session at the SSH console shares."""

    feeds: ConsoleFeeds
    directory: ServerDirectory
    seats: Seats
    lines: TypedLines
    config: ConsoleConfig
    node_id: str
    bus: EventBus
    clock: IReactorTime
    now: Callable[[], float]
    tasks: Tasks


class ShellSession:
    """From the shell's start to its end. It is its viewer's ViewerWire, its terminal's Screen and a SeatedSession."""

    _log = Logger()

    def __init__(
        self, hall: Hall, wire: SshWire, end: TokenEnd, terminal: Terminal, ended: Callable[[Close | None], None]
    ) -> None:
        self._hall = hall
        self._ended = ended
        self._wire = wire
        self._claims = end.claims
        self._terminal = terminal
        config = hall.config
        limits = SessionLimits(
            auth_deadline=config.auth_deadline, input_bytes=config.input_bytes_per_second,
            input_messages=config.input_messages_per_second, audit=config.audit_commands,
        )  # fmt: skip
        self._rules = TerminalSession(end=end, limits=limits, now=hall.clock.seconds())
        self._feed: ConsoleFeed | None = None
        self._viewer: Viewer | None = None
        self._early: list[bytes] = []
        self._deaf = False  # nobody reads what is typed, and the viewer knows
        self._audit = AuditTrail(hall, wire.peer, wire.peer_version)
        self._begun = False
        self._timer: IDelayedCall | None = None
        self._moved: tuple[int, int] = (0, 0)
        self._moved_at: float | None = None
        self.closed = False

    # ---------------------------------------------------------------- the beginning

    def begin(self) -> None:
        """The terminal is there. A login that is over opens nothing (K23)."""
        self._wake()
        if not self.closed:
            self._spawn("opening a console", self._begin())

    async def _begin(self) -> None:
        try:
            await self._open()
        except CancelledError:  # the daemon stops
            raise
        except Exception:
            self._log.failure("a console could not be opened for {peer}", peer=self._wire.peer)
            self.close(CloseCode.STOPPING, "the console could not be opened")

    async def _open(self) -> None:
        hall, claims = self._hall, self._claims
        feed = hall.feeds.feed(claims.server_id)
        if feed is None or hall.directory.status_of(claims.server_id) is None:
            return self.close(CloseCode.NOT_FOUND, "no such server on this node")
        seat = Seat(claims, "ssh", self._wire.peer, self._wire.peer_version, hall.now())
        if not hall.seats.take(self, seat):
            return self.close(CloseCode.TOO_MANY, "too many connections to this server, of this user or to this node")
        self._feed = feed
        try:
            viewer = await feed.view(ViewRequest(Encoding.PLAIN), self)
        except StellarError as error:
            return self.close(CloseCode.NOT_FOUND, str(error))
        self._viewer = viewer
        if self.closed:
            viewer.leave()
            return None
        if self._terminal.blocked:
            viewer.full()
        self._begun = True
        self._audit.began(claims)
        if self._terminal.size is not None:
            self._do(self._rules.resized(*self._terminal.size))
        early, self._early = self._early, []
        self.keys(b"".join(early))
        return None

    def _spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self._hall.tasks.spawn(name, coroutine)

    # ---------------------------------------------------------------- told by the terminal

    def keys(self, data: bytes) -> None:
        if self.closed:
            return
        if not self._begun:
            self._early.append(data)  # no more than the window takes
            return
        self._do(self._rules.keys(data, self._hall.clock.seconds()))

    def resized(self, cols: int, rows: int) -> None:
        if self._begun:
            self._do(self._rules.resized(cols, rows))

    def full(self) -> None:
        if self._viewer is not None:
            self._viewer.full()

    def free(self) -> None:
        if self._viewer is not None:
            self._viewer.free()

    def over(self) -> None:
        if not self.closed:
            self.closed = True
            self._let_go(None)
        self._no_timer()
        self._hall.seats.leave(self)  # held until now: who does not let go counts, too

    # ---------------------------------------------------------------- what is to be done

    def _do(self, effects: Sequence[TerminalEffect]) -> None:
        for effect in effects:
            if self.closed:
                return
            match effect:
                case Tell(text):
                    self._terminal.write(terminal_line(text))
                case Keys():
                    self._type(effect)
                case Resize(size):
                    if self._feed is not None:
                        self._feed.resize(size)
                case Audit(typed):
                    self._audit.entered(typed)
                case Close(code, reason):
                    self.close(code, reason)
        if not self.closed:
            self._terminal.held(self._rules.waiting + sum(map(len, self._early)))
            self._wake_later()

    def _type(self, keys: Keys) -> None:
        feed, hall = self._feed, self._hall
        if feed is None:
            return
        lines = self._rules.entered(keys.data)
        for line in filter(None, lines):
            hall.lines(self._claims.server_id, line)
        try:
            feed.type(keys.data)
        except StellarError as error:
            self._rules.not_typed()
            if not self._deaf:
                self._deaf = True
                self._terminal.write(terminal_line(str(error)))
            return
        self._deaf = False
        hall.seats.typed(self)
        self._do(self._rules.typed(lines, hall.clock.seconds()))

    # ---------------------------------------------------------------- what its viewer says

    def ready(self, start: int, end: int, status: ServerStatus) -> None:
        """See ViewerWire.ready: one line that says where one is, and how to leave."""
        watching = "" if self._rules.may_write else "; read-only"
        text = f"[stellarstack: {self._claims.server_id} is {status.value}{watching}; Ctrl-] leaves]\r\n"
        self._terminal.write(text.encode())

    def write(self, frame: Frame) -> None:
        if self.closed:  # what the last line made room for
            return
        self._terminal.write(bytes(frame))
        if self._terminal.waiting > self._hall.config.viewer_buffer + _EARLY_MOST:
            self.close(CloseCode.POLICY, "the terminal takes nothing")

    def straight(self) -> Callable[[Frame], None]:
        """See ViewerWire.straight."""
        return self.write

    def close(self, code: int, reason: str) -> None:
        """Ends the session, from whatever side. Exit status 0: its viewer left.

        What was written before is still shown, but not to one whose login is over (K23, W11).
        """
        if self.closed:
            return
        self.closed = True
        if code in LOGIN_OVER:
            self._terminal.forget()
        self._terminal.write(b"\r\n" if code == LEFT else terminal_line(reason))
        self._terminal.finish(0 if code == LEFT else 1)
        self._let_go(Close(code, reason))
        if self._terminal.screen is self:
            self._timer = self._hall.clock.callLater(LAST_WORDS, self._terminal.abandon)

    def _let_go(self, why: Close | None) -> None:
        self._no_timer()
        if self._viewer is not None:
            self._viewer.leave()
        for effect in self._rules.ended():
            self._audit.entered(effect.typed)
        self._audit.ended()
        self._ended(why)

    # ---------------------------------------------------------------- time

    def _no_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _wake_later(self) -> None:
        self._no_timer()
        after = self._rules.next_wake(self._hall.clock.seconds(), self._hall.now())
        self._timer = None if after is None else self._hall.clock.callLater(after, self._wake)

    def _wake(self) -> None:
        self._do(self._rules.woken(self._hall.clock.seconds(), self._hall.now()))

    def tick(self, now: float) -> None:
        """Every few seconds: the end of a viewer that takes nothing."""
        waiting, acked = self._wire.progress()
        moved = (acked, self._terminal.granted)
        if self._terminal.buf:  # its window is shut: that TCP moves tells nothing
            waiting, moved = True, (0, self._terminal.granted)
        if not waiting or moved != self._moved or self._moved_at is None:
            self._moved_at, self._moved = (now if waiting else None), moved
        elif now - self._moved_at >= self._hall.config.stall_deadline:
            self.close(CloseCode.POLICY, "the terminal takes nothing")
