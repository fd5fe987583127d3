"""One viewer's session at the WebSocket door: does what core/console_session.py says is to be done."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from stellarstack.api.websocket_admission import Admission, rules_of
from stellarstack.api.websocket_answers import ready
from stellarstack.api.websocket_door import Door
from stellarstack.api.websocket_pages import Pages
from stellarstack.api.websocket_parting import Parting
from stellarstack.api.websocket_power import PowerOrders
from stellarstack.api.websocket_pulse import Pulse
from stellarstack.api.websocket_request import UpgradeRequest
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
from stellarstack.core.frames import text_frame
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.errors import StellarError
from stellarstack.viewing import ConsoleFeed, Frame, Viewer

_ANSWERS_MOST = 1 << 20  # bytes of answers to a viewer that asks and does not read


class SocketSession:
    """From the upgrade to the lost connection. It is its wire's `Received` and its viewer's `ViewerWire`."""

    def __init__(self, door: Door, request: UpgradeRequest, peer: str) -> None:
        self._door = door
        self._request = request
        self._rules = rules_of(door, request)
        self._wire: ConsoleWire | None = None
        self._viewer: Viewer | None = None
        self._feed: ConsoleFeed | None = None
        self._close: Close | None = None  # decided; nothing follows it
        self.admission = Admission(self, self._rules, door, request, peer)
        self._audit = AuditTrail(door, peer, request.user_agent)
        self._power = PowerOrders(door, self._write_answer)
        self._timer: IDelayedCall | None = None
        self._parting = Parting(door.clock, self.drop)
        self._pages = Pages(door, request.encoding, self._say, self._error)
        self._answered = 0  # bytes of answers since the wire was last free
        self._pulse = Pulse(door.config, door.clock.seconds())

    @property
    def claims(self) -> Claims | None:
        """Whose session it is, once that is known."""
        return self._rules.claims

    # ---------------------------------------------------------------- before the upgrade

    def ended(self) -> Close | None:
        """See Comer.ended."""
        return self._close

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
        door = self._door
        now = door.clock.seconds()
        if isinstance(frame, bytes) and self._close is None and self._rules.grants(frame, now):
            self._type(frame)  # changes no deadline
        else:
            self._do(self._rules.received(frame, now, door.now()))

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
        if self._wire is not None:
            self._parting.begin(self._close)

    def lost(self) -> None:
        self._over()

    def _over(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._parting.over()
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
                case Keys(data):
                    self._type(data)
                case Close(code, reason):
                    self.close(code, reason)
                case Verify(token):
                    self._spawn("judging a token", self._verify(token))
                case Begin(claims):
                    self._spawn("opening a console", self._begin(claims))
                case Renewed(claims):
                    self.admission.take_seat(claims)
                    if self._viewer is not None:
                        self._viewer.stats = claims.allows("stats.read")
                case Resize(size):
                    if self._feed is not None:
                        self._feed.resize(size)
                case History():
                    self._pages.ask(self._feed, effect, busy=self._wire is not None and self._wire.full)
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
        if self._wire is not None and self._viewer is None:
            self._wire.read(False)
        effects = await self.admission.judge(token)
        if not any(isinstance(effect, Begin) for effect in effects):
            self._read_on()
        self._do(effects)

    def _read_on(self) -> None:
        if self._wire is not None and self._close is None:
            self._wire.read(True)

    async def _begin(self, claims: Claims) -> None:
        if self._wire is not None:
            self._wire.read(False)  # what the viewer says waits for `ready`
        await self.admission.enter(claims)

    def found(self, feed: ConsoleFeed) -> None:
        """See Comer.found."""
        self._feed = feed

    def entered(self, claims: Claims, viewer: Viewer) -> None:
        """See Comer.entered."""
        self._viewer = viewer
        if self._close is not None:
            viewer.leave()
            return
        if self._wire is not None and self._wire.full:
            viewer.full()
        self._read_on()
        self._audit.began(claims)
        self._do(self._rules.begun(self._door.clock.seconds(), self._door.now()))

    def _type(self, keys: bytes) -> None:
        if self._feed is None:
            return
        ends = b"\r" in keys or b"\n" in keys
        lines = self._entered(keys) if ends else ()
        try:
            self._feed.type(keys)  # first, where it ends no line: whoever types waits for the echo
        except StellarError as error:
            self._rules.not_typed()
            self._error(error.code, str(error))
            return
        self._door.seats.typed(self)
        if not ends:
            self._rules.entered(keys)
        elif lines:
            self._do(self._rules.typed(lines, self._door.clock.seconds()))

    def _entered(self, keys: bytes) -> Sequence[str]:
        """The lines that these keystrokes end, told before a game can know of them: one may be its stop command."""
        claims, lines = self.claims, self._rules.entered(keys)
        for line in filter(None, lines):
            if claims is not None:
                self._door.typed_lines(claims.server_id, line)
        return lines

    def _order(self, action: str) -> None:
        claims = self.claims
        command_id = self._power.order(claims.server_id, action) if claims is not None else None
        if command_id is None:
            self._error("busy", "enough power actions are under way; wait for their results", action=action)
        else:
            self._audit.ordered(action, command_id)

    # ---------------------------------------------------------------- what its viewer says

    def ready(self, start: int, end: int, status: ServerStatus) -> None:
        """See ViewerWire.ready: the first frame."""
        claims = self.claims
        if claims is None or self._wire is None or self._close is not None:
            return
        runs = self._feed.runs(start, end + 1) if self._feed else []
        name = self._door.directory.name_of(claims.server_id)
        self._wire.write_frame(text_frame(ready(claims, status, start, end, name, runs)))

    def write(self, frame: Frame) -> None:
        if self._close is None and self._wire is not None:
            self._wire.write_frame(frame)

    def straight(self) -> Callable[[Frame], None]:
        """See ViewerWire.straight: whether it is open need not be asked for a viewer that has not left."""
        return self.write if self._wire is None else self._wire.straight()

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
        if not self.admission.seated:
            self._door.lobby.leaves(self)
        if self._viewer is not None:
            self._viewer.leave()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def let_go(self) -> None:
        """See Caller.let_go."""
        self._parting.hurry()

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
