"""What every session at the console's door shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IReactorTime

from stellarstack.config import ConsoleConfig
from stellarstack.core.claims import Claims
from stellarstack.interfaces import EventBus, ServerDirectory, TokenVerifier
from stellarstack.tasks import Tasks
from stellarstack.viewing import ConsoleFeeds

if TYPE_CHECKING:
    from stellarstack.api.websocket_session import SocketSession


class Admission(Protocol):
    """The door's bounds on how many there are."""

    def admit(self, session: SocketSession, claims: Claims) -> bool:
        """Takes a place among the server's and the user's sessions."""

    def gone(self, session: SocketSession) -> None:
        """Gives every place back."""


@dataclass(frozen=True, slots=True)
class Door:
    """What every session at the door shares."""

    consoles: ConsoleFeeds
    directory: ServerDirectory
    tokens: TokenVerifier
    config: ConsoleConfig
    node_id: str
    bus: EventBus
    clock: IReactorTime
    now: Callable[[], float]
    tasks: Tasks
    admission: Admission
