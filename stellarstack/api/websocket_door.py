"""What every session at the console's door shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from stellarstack.api.websocket_lobby import Lobby
from stellarstack.config import ConsoleConfig
from stellarstack.interfaces import EventBus, Intake, ServerDirectory, TokenVerifier
from stellarstack.tasks import Tasks
from stellarstack.viewing import ConsoleFeeds, Seats, TypedLines

if TYPE_CHECKING:
    from stellarstack.api.websocket_session import SocketSession


@dataclass(frozen=True, slots=True)
class Door:
    """What every session at the door shares."""

    consoles: ConsoleFeeds
    directory: ServerDirectory
    tokens: TokenVerifier
    config: ConsoleConfig
    node_id: str
    bus: EventBus
    intake: Intake
    typed_lines: TypedLines
    clock: IReactorTime
    now: Callable[[], float]
    tasks: Tasks
    seats: Seats
    lobby: Lobby
    gone: Callable[[SocketSession], None]  # called with each session whose connection is no more
