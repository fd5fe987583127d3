"""What `console.audit` is told of one session: that it began, what lines were entered, that it ended (PROTOCOL 5).

The same over all doors (P03).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from stellarstack.config import ConsoleConfig
from stellarstack.core.claims import Claims
from stellarstack.core.console_audit import Typed
from stellarstack.core.messages import Event, Json
from stellarstack.interfaces import EventBus
from stellarstack.tasks import Tasks


class AuditedDoor(Protocol):
    """What a door has for its sessions' audit."""

    @property
    def node_id(self) -> str: ...

    @property
    def config(self) -> ConsoleConfig: ...

    @property
    def bus(self) -> EventBus: ...

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def now(self) -> Callable[[], float]:
        """Unix seconds."""

    @property
    def tasks(self) -> Tasks: ...


class AuditTrail:
    """One session's. Nothing is told before `began` nor after `ended`."""

    def __init__(self, door: AuditedDoor, peer: str, user_agent: str) -> None:
        self._door = door
        self._peer = peer
        self._user_agent = user_agent
        self._claims: Claims | None = None
        self._began_at = 0.0

    def began(self, claims: Claims) -> None:
        """`session_start`."""
        self._claims = claims
        self._began_at = self._door.clock.seconds()
        self._tell("session_start", {})

    def entered(self, typed: Typed) -> None:
        """`command_sent`: a line, or how many there were that are not told one by one."""
        self._tell("command_sent", {"count": typed.count} if typed.command is None else {"command": typed.command})

    def ordered(self, action: str, command_id: str) -> None:
        """`command_sent` of a power action: `power:stop`, and the id of the command it became."""
        if self._door.config.audit_commands != "off":
            self._tell("command_sent", {"command": f"power:{action}", "commandId": command_id})

    def ended(self) -> None:
        """`session_end`, with its duration in seconds."""
        self._tell("session_end", {"duration": round(self._door.clock.seconds() - self._began_at, 3)})
        self._claims = None

    def _tell(self, action: str, told: dict[str, Json]) -> None:
        claims, door = self._claims, self._door
        if claims is None:
            return
        body: dict[str, Json] = {"nodeId": door.node_id, "serverId": claims.server_id, "userId": claims.user_id}
        body |= {"action": action, "data": told, "ip": self._peer, "userAgent": self._user_agent}
        event = Event("console.audit", {**body, "timestamp": door.now()}, durable=True)
        door.tasks.spawn("console audit", door.bus.emit(event))
