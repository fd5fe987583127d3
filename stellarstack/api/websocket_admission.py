"""Whether a viewer may come in: its token, a place for it, and the console that the token opens (PROTOCOL 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from stellarstack.api.websocket_door import Door
from stellarstack.api.websocket_lobby import Caller
from stellarstack.api.websocket_request import Refused, UpgradeRequest, close_code_of, refusal
from stellarstack.core.claims import Claims
from stellarstack.core.console_effects import Begin, Close, CloseCode, Effect
from stellarstack.core.console_session import ConsoleSession, SessionLimits
from stellarstack.errors import InvalidState, StellarError, Unauthorized
from stellarstack.tasks import within
from stellarstack.viewing import ConsoleFeed, Seat, SeatedSession, Viewer, ViewerWire, ViewRequest

_VERIFY_TIMEOUT = 10.0


class Comer(Caller, SeatedSession, ViewerWire, Protocol):
    """The session that comes in."""

    def ended(self) -> Close | None:
        """How it was ended meanwhile, if it was."""

    def found(self, feed: ConsoleFeed) -> None:
        """The console it will see; `ready` comes next."""

    def entered(self, claims: Claims, viewer: Viewer) -> None:
        """It sees the console: `ready` is out."""


def rules_of(door: Door, request: UpgradeRequest) -> ConsoleSession:
    """What a session at this door, with this request, may do."""
    config = door.config
    limits = SessionLimits(
        auth_deadline=config.auth_deadline, input_bytes=config.input_bytes_per_second,
        input_messages=config.input_messages_per_second, audit=config.audit_commands,
    )  # fmt: skip
    return ConsoleSession(
        encoding=request.encoding, limits=limits, path_server=request.path_server, now=door.clock.seconds()
    )


class Admission:
    """One session's. `seated`: it has a place among those who may watch."""

    _log = Logger()

    def __init__(self, comer: Comer, rules: ConsoleSession, door: Door, request: UpgradeRequest, peer: str) -> None:
        self._comer = comer
        self._rules = rules
        self._door = door
        self._request = request
        self._peer = peer
        self.seated = False

    async def judge_header(self, token: str) -> None:
        """The token of the Authorization header. Refused: with what HTTP answer."""
        if not self._request.origin_allowed:
            raise refusal(CloseCode.FORBIDDEN, "this Origin is not allowed")
        for effect in await self._verify(token):
            if isinstance(effect, Close):
                raise refusal(effect.code, effect.reason)
            if isinstance(effect, Begin):
                await self.find(effect.claims)

    async def judge(self, token: str) -> Sequence[Effect]:
        """The token of a frame: what the rules say to it. One that cannot be judged is bad."""
        try:
            return await self._verify(token)
        except CancelledError:  # the daemon stops
            raise
        except Exception:
            self._log.failure("a token of {peer} could not be judged", peer=self._peer)
            return self._rules.refused(Unauthorized("the token could not be judged"))

    async def _verify(self, token: str) -> Sequence[Effect]:
        door = self._door
        try:
            claims = await within(door.clock, _VERIFY_TIMEOUT, "judging the token", door.tokens.verify(token))
            return self._rules.verified(claims, door.clock.seconds(), door.now())
        except StellarError as error:
            return self._rules.refused(error)

    async def find(self, claims: Claims) -> ConsoleFeed:
        """The console these claims open. Refused: there is none, no place, or no such byte."""
        feed = self._door.consoles.feed(claims.server_id)
        self._refuse_ended()
        if feed is None or self._door.directory.status_of(claims.server_id) is None:
            raise refusal(CloseCode.NOT_FOUND, "no such server on this node")
        if not self.take_seat(claims):
            raise refusal(CloseCode.TOO_MANY, "too many connections to this node, to this server or of this user")
        since = self._request.since
        if since is not None and not await feed.reaches(since):
            raise Refused(400, "invalid_request", "since lies above the end of the output")
        self._refuse_ended()
        return feed

    def _refuse_ended(self) -> None:
        close = self._comer.ended()
        if close is not None:
            raise refusal(close.code, close.reason)

    def take_seat(self, claims: Claims) -> bool:
        """A place for these claims, the one it has for renewed ones. False: there is none."""
        seat = Seat(claims, "websocket", self._peer, self._request.user_agent, self._door.now())
        self.seated = self._door.seats.take(self._comer, seat)
        if self.seated:
            self._door.lobby.admitted(self._comer)
        return self.seated

    async def enter(self, claims: Claims) -> None:
        """Opens the console these claims are for, or ends the session."""
        try:
            viewer = await self._view(claims)
            if viewer is not None:
                self._comer.entered(claims, viewer)
        except CancelledError:  # the daemon stops
            raise
        except Exception:
            self._log.failure("a console could not be opened for {peer}", peer=self._peer)
            self._comer.close(CloseCode.STOPPING, "the console could not be opened")

    async def _view(self, claims: Claims) -> Viewer | None:
        asked = self._request
        wishes = ViewRequest(
            encoding=asked.encoding, since=asked.since, scrollback=asked.scrollback, stats=claims.allows("stats.read")
        )
        try:
            feed = await self.find(claims)
            self._comer.found(feed)
            return await feed.view(wishes, self._comer)
        except Refused as refused:
            self._comer.close(close_code_of(refused), f"{refused.wire_code}: {refused}")
        except InvalidState as error:
            self._comer.close(CloseCode.NOT_FOUND, str(error))
        return None
