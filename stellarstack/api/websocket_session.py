"""One viewer's session at the WebSocket door: does what core/console_session.py says is to be done."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from stellarstack.api.websocket_answers import history, ready
from stellarstack.api.websocket_door import Door
from stellarstack.api.websocket_power import PowerOrders
from stellarstack.api.websocket_pulse import Pulse
from stellarstack.api.websocket_request import Refused, UpgradeRequest, close_code_of, refusal
from stellarstack.api.websocket_wire import ConsoleWire
from stellarstack.audit_trail import AuditTrail
from stellarstack.core.claims import Claims
from stellarstack.core.console_effects import (
    Audit,
    Begin,
    Close,
    CloseCode,
    Effect,
    History,
    Keys,
    Power,
    Renewed,
    Resize,
    Say,
    Verify,
)
from stellarstack.core.console_session import ConsoleSession, SessionLimits
from stellarstack.core.frames import text_frame
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.errors import InvalidState, StellarError, Unauthorized
from stellarstack.tasks import within
from stellarstack.viewing import ConsoleFeed, Seat, Viewer, ViewRequest

_VERIFY_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 10.0  # seconds for the viewer's answer to a close frame
_END_TIMEOUT = 1.0  # the same where nothing more may be shown, not even what waits in its buffers (K23, W11)
_LET_GO = 0.2  # seconds in which a close frame has left for the wire
_ANSWERS_MOST = 1 << 20  # bytes of answers to a viewer that asks and does not read


class SocketSession:
    """From the upgrade to the lost connection. It is its wire's `Received` and its viewer's `ViewerWire`."""

    _log = Logger()

    def __init__(self, door: Door, request: UpgradeRequest, peer: str) -> None:
        self._door = door
        self._request = request
        self._peer = peer
        limits = SessionLimits(
            auth_deadline=door.config.auth_deadline,
            input_bytes=door.config.input_bytes_per_second,
            input_messages=door.config.input_messages_per_second,
            audit=door.config.audit_commands,
        )
        self._rules = ConsoleSession(
            encoding=request.encoding, limits=limits, path_server=request.path_server, now=door.clock.seconds()
        )
        self._wire: ConsoleWire | None = None
        self._viewer: Viewer | None = None
        self._feed: ConsoleFeed | None = None
        self._close: Close | None = None  # decided; nothing follows it
        self._seated = False
        self._audit = AuditTrail(door, peer, request.user_agent)
        self._power = PowerOrders(door, self._write_answer)
        self._timer: IDelayedCall | None = None
        self._drop_timer: IDelayedCall | None = None
        self._history_under_way = False
        self._answered = 0  # bytes of answers since the wire was last free
        self._pulse = Pulse(door.config, door.clock.seconds())

    @property
    def claims(self) -> Claims | None:
        """Whose session it is, once that is known."""
        return self._rules.claims

    # ---------------------------------------------------------------- before the upgrade

    async def judge_header(self, token: str) -> None:
        """The token of the Authorization header. Refused: with what HTTP answer."""
        if not self._request.origin_allowed:
            raise refusal(CloseCode.FORBIDDEN, "this Origin is not allowed")
        door = self._door
        try:
            claims = await within(door.clock, _VERIFY_TIMEOUT, "judging the token", door.tokens.verify(token))
            effects = self._rules.verified(claims, door.clock.seconds(), door.now())
        except StellarError as error:
            effects = self._rules.refused(error)
        for effect in effects:
            if isinstance(effect, Close):
                raise refusal(effect.code, effect.reason)
            if isinstance(effect, Begin):
                await self._find(effect.claims)

    async def _find(self, claims: Claims) -> ConsoleFeed:
        """The console these claims open. Refused: there is none, no place, or no such byte."""
        feed = self._door.consoles.feed(claims.server_id)
        if self._close is not None:
            raise refusal(self._close.code, self._close.reason)
        if feed is None or self._door.directory.status_of(claims.server_id) is None:
            raise refusal(CloseCode.NOT_FOUND, "no such server on this node")
        if not self._take_seat(claims):
            raise refusal(CloseCode.TOO_MANY, "too many connections to this node, to this server or of this user")
        since = self._request.since
        if since is not None and not await feed.reaches(since):
            raise Refused(400, "invalid_request", "since lies above the end of the output")
        if self._close is not None:
            raise refusal(self._close.code, self._close.reason)
        return feed

    def _take_seat(self, claims: Claims) -> bool:
        seat = Seat(claims, "websocket", self._peer, self._request.user_agent, self._door.now())
        self._seated = self._door.seats.take(self, seat)
        if self._seated:
            self._door.lobby.admitted(self)
        return self._seated

    def upgrade_failed(self) -> None:
        """There will be no WebSocket."""
        self._over()

    # ---------------------------------------------------------------- told by the wire

    def opened(self, wire: ConsoleWire) -> None:
        self._wire = wire
        self._pulse.opened(self._door.clock.seconds())
        if self._close is not None:
            wire.close_with(self._close.code, self._close.reason)
        elif not self._request.origin_allowed:
            self.close(CloseCode.FORBIDDEN, "this Origin is not allowed")
        elif self.claims is not None:
            self._do([Begin(self.claims)])
        self._wake_later()

    def message(self, frame: str | bytes) -> None:
        self._do(self._rules.received(frame, self._door.clock.seconds(), self._door.now()))

    def heard(self) -> None:
        self._pulse.heard(self._door.clock.seconds())

    def wire_full(self) -> None:
        if self._viewer is not None:
            self._viewer.full()

    def wire_free(self) -> None:
        self._answered = 0
        if self._viewer is not None:
            self._viewer.free()

    def closing(self) -> None:
        if self._close is None:  # Autobahn's doing: the viewer's close frame, or a broken one
            self._close = Close(1000, "closed by the viewer")
            self._let_go()
        self._drop_later()

    def lost(self) -> None:
        self._over()

    def _over(self) -> None:
        for timer in (self._timer, self._drop_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._drop_timer = None
        if self._viewer is not None:
            self._viewer.leave()
        if self._close is None:
            self._close = Close(1000, "gone")
        for effect in self._rules.ended():
            if isinstance(effect, Audit):
                self._audit.entered(effect.typed)
        self._audit.ended()
        self._power.stop()
        self._door.seats.leave(self)
        self._door.lobby.gone(self)
        self._door.gone(self)

    # ---------------------------------------------------------------- what is to be done

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if self._close is not None:
                break
            match effect:
                case Say(message):
                    self._say(message)
                case Keys():
                    self._type(effect)
                case Close(code, reason):
                    self.close(code, reason)
                case Verify(token):
                    self._spawn("judging a token", self._verify(token))
                case Begin(claims):
                    self._spawn("opening a console", self._begin(claims))
                case Renewed(claims):
                    self._take_seat(claims)
                    if self._viewer is not None:
                        self._viewer.stats = claims.allows("stats.read")
                case Resize(size):
                    if self._feed is not None:
                        self._feed.resize(size)
                case History():
                    self._history(effect)
                case Power(action):
                    self._order(action)
                case Audit(typed):
                    self._audit.entered(typed)
        self._wake_later()

    def _spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self._door.tasks.spawn(name, coroutine)

    def _say(self, message: Mapping[str, Json]) -> None:
        self._write_answer(text_frame(message))

    def _write_answer(self, frame: bytes) -> None:
        if self._wire is None or self._close is not None:
            return None
        if self._wire.full:
            self._answered += len(frame)
            if self._answered > _ANSWERS_MOST:
                return self.close(CloseCode.POLICY, "asks and does not read")
        self._wire.write_frame(frame)
        return None

    def _error(self, code: str, message: str, **more: Json) -> None:
        self._say({"type": "error", "code": code, "message": message, **more})

    async def _verify(self, token: str) -> None:
        door = self._door
        if self._wire is not None and self._viewer is None:
            self._wire.read(False)
        try:
            claims = await within(door.clock, _VERIFY_TIMEOUT, "judging the token", door.tokens.verify(token))
            effects = self._rules.verified(claims, door.clock.seconds(), door.now())
        except StellarError as error:
            effects = self._rules.refused(error)
        except CancelledError:  # the daemon stops
            raise
        except Exception:
            self._log.failure("a token of {peer} could not be judged", peer=self._peer)
            effects = self._rules.refused(Unauthorized("the token could not be judged"))
        if not any(isinstance(effect, Begin) for effect in effects):
            self._read_on()
        self._do(effects)

    def _read_on(self) -> None:
        if self._wire is not None and self._close is None:
            self._wire.read(True)

    async def _begin(self, claims: Claims) -> None:
        try:
            await self._open(claims)
        except CancelledError:  # the daemon stops
            raise
        except Exception:
            self._log.failure("a console could not be opened for {peer}", peer=self._peer)
            self.close(CloseCode.STOPPING, "the console could not be opened")

    async def _open(self, claims: Claims) -> None:
        door = self._door
        if self._wire is not None:
            self._wire.read(False)  # what the viewer says waits for `ready`
        try:
            self._feed = feed = await self._find(claims)
            request = ViewRequest(
                encoding=self._request.encoding, since=self._request.since, scrollback=self._request.scrollback,
                stats=claims.allows("stats.read"),
            )  # fmt: skip
            viewer = await feed.view(request, self)
        except Refused as refused:
            return self.close(close_code_of(refused), f"{refused.wire_code}: {refused}")
        except InvalidState as error:
            return self.close(CloseCode.NOT_FOUND, str(error))
        self._viewer = viewer
        if self._close is not None:
            viewer.leave()
            return None
        if self._wire is not None and self._wire.full:
            viewer.full()
        self._read_on()
        self._audit.began(claims)
        self._do(self._rules.begun(door.clock.seconds(), door.now()))
        return None

    def _type(self, keys: Keys) -> None:
        claims, door = self.claims, self._door
        if self._feed is None or claims is None:
            return
        for line in keys.lines:
            if line:
                door.typed_lines(claims.server_id, line)
        try:
            self._feed.type(keys.data)
        except StellarError as error:
            self._rules.not_typed()
            self._error(error.code, str(error))
        else:
            door.seats.typed(self)
            self._do(self._rules.typed(keys.lines, door.clock.seconds()))

    def _order(self, action: str) -> None:
        claims = self.claims
        command_id = self._power.order(claims.server_id, action) if claims is not None else None
        if command_id is None:
            self._error("busy", "enough power actions are under way; wait for their results", action=action)
        else:
            self._audit.ordered(action, command_id)

    def _history(self, asked: History) -> None:
        if self._history_under_way or (self._wire is not None and self._wire.full):
            self._error("busy", "one page of history at a time, and none while output waits for you")
        elif self._feed is not None:
            self._history_under_way = True
            self._spawn("reading history", self._answer_history(self._feed, asked))

    async def _answer_history(self, feed: ConsoleFeed, asked: History) -> None:
        try:
            page = await feed.history(asked.before, asked.limit)
        finally:
            self._history_under_way = False
        runs = feed.runs(page.start, page.start + len(page.data))
        self._say(history(page, runs, self._request.encoding))

    # ---------------------------------------------------------------- what its viewer says

    def ready(self, start: int, end: int, status: ServerStatus) -> None:
        """See ViewerWire.ready: the first frame."""
        claims = self.claims
        if claims is None or self._wire is None or self._close is not None:
            return
        runs = self._feed.runs(start, end + 1) if self._feed else []
        name = self._door.directory.name_of(claims.server_id)
        self._wire.write_frame(text_frame(ready(claims, status, start, end, name, runs)))

    def write(self, frame: bytes) -> None:
        if self._close is None and self._wire is not None:
            self._wire.write_frame(frame)

    def close(self, code: int, reason: str) -> None:
        """Ends the session, from whatever side. What was written before is still sent."""
        if self._close is not None:
            return
        self._close = Close(code, reason)
        self._let_go()
        if self._wire is not None:
            self._wire.close_with(code, reason)
            self._wire.read(True)

    def _let_go(self) -> None:
        if not self._seated:
            self._door.lobby.leaves(self)
        if self._viewer is not None:
            self._viewer.leave()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _drop_later(self) -> None:
        if self._drop_timer is None and self._wire is not None:
            at_once = self._close is not None and self._close.code in (CloseCode.EXPIRED, CloseCode.FORBIDDEN)
            self._drop_timer = self._door.clock.callLater(_END_TIMEOUT if at_once else _CLOSE_TIMEOUT, self.drop)

    def let_go(self) -> None:
        """See Caller.let_go."""
        if self._drop_timer is not None and self._drop_timer.active():
            self._drop_timer.reset(_LET_GO)

    def drop(self) -> None:
        """Ends the connection, whether or not the viewer has answered the close frame."""
        if self._wire is not None:
            self._wire.drop()

    # ---------------------------------------------------------------- time

    def _wake_later(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        after = self._rules.next_wake(self._door.clock.seconds(), self._door.now())
        if after is not None and self._close is None and self._wire is not None:
            self._timer = self._door.clock.callLater(after, self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._do(self._rules.woken(self._door.clock.seconds(), self._door.now()))

    def tick(self) -> None:
        """Every few seconds: a ping where it is quiet, and the end of a TCP connection that takes nothing."""
        if self._wire is None or self._close is not None:
            return
        if self._pulse.stalled(self._wire, self._door.clock.seconds()):
            self.close(CloseCode.POLICY, "the connection takes nothing")
