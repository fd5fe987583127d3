"""The seams between the consoles and the doors by which people watch and type: WebSocket, SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stellarstack.core.claims import Claims
from stellarstack.core.frames import Encoding
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize, ServerStatus


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What a viewer wants to see: output from byte `since` on, or the last `scrollback` bytes and what follows."""

    encoding: Encoding
    since: int | None = None
    scrollback: int = 65536
    stats: bool = False


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Scrollback [start, start + len(data)); `first` is the oldest byte kept."""

    start: int
    data: bytes
    first: int


class ViewerWire(Protocol):
    """One viewer's way out: a WebSocket, say. Its viewer is told by `Viewer.full` and `free` what it can take."""

    def ready(self, start: int, end: int, status: ServerStatus) -> None:
        """Called first, once: output begins at byte `start`; `end` is the newest byte now."""

    def write(self, frame: bytes) -> None:
        """A whole frame in the viewer's encoding. The same object goes to every viewer."""

    def close(self, code: int, reason: str) -> None:
        """The console is gone; `code` as PROTOCOL 8's table."""


class Viewer(Protocol):
    """One viewer's place in a console's output."""

    stats: bool

    def full(self) -> None:
        """The wire takes no more for now: what comes is kept (bounded), then skipped and told by one `gap`."""

    def free(self) -> None:
        """All that was written is on the wire."""

    def leave(self) -> None:
        """No more frames."""


class ConsoleFeed(Protocol):
    """A server's console as its viewers see it (PROTOCOL 8)."""

    async def reaches(self, offset: int) -> bool:
        """Whether `offset` is not above the end; waits up to 3 s while a join with the engine's log is under way."""

    async def view(self, request: ViewRequest, wire: ViewerWire) -> Viewer:
        """Shows the console on `wire`: `ready`, the scrollback asked for, then everything that comes."""

    async def history(self, before: int | None, limit: int) -> HistoryPage:
        """The `limit` bytes (at most 256 KiB) that end at `before`, or at the end."""

    def type(self, data: bytes) -> None:
        """Keystrokes to the PTY. InvalidState: nothing is attached."""

    async def resize(self, size: PtySize) -> None:
        """The terminal's size from now on, for all viewers and later starts."""


class ConsoleFeeds(Protocol):
    """The consoles that can be viewed."""

    def feed(self, server_id: str) -> ConsoleFeed | None: ...


# ------------------------------------------------------------------ who sits where


@dataclass(frozen=True, slots=True)
class Seat:
    """Who sits where: one admitted session. `via`: `websocket` or `ssh`. Times are Unix seconds."""

    claims: Claims
    via: str
    peer: str
    user_agent: str
    since: float


class SeatedSession(Protocol):
    """A session that holds a seat, of whatever door."""

    def close(self, code: int, reason: str) -> None:
        """Ends it; `code` as PROTOCOL 8's table."""


class Seats(Protocol):
    """All sessions of the node, over all doors: the bounds on how many, and who they are (W13, W11, P03)."""

    def take(self, session: SeatedSession, seat: Seat) -> bool:
        """Takes a place on the node and among the server's and the user's sessions. False: one of them is full.

        Counting and taking are one step. Taking again with other claims of the same user and server is a renewal.
        """

    def typed(self, session: SeatedSession) -> None:
        """It has sent keystrokes just now."""

    def leave(self, session: SeatedSession) -> None:
        """Gives the place back; of one that has none: no error."""

    def revoke(self, jti: str | None = None, user_id: str | None = None, server_id: str | None = None) -> int:
        """Closes with 4403 those that match all that is given; answers how many. Nothing given: none."""

    def rows(self) -> Sequence[Mapping[str, Json]]:
        """One row a session, as `stellarctl sessions` lists them: never a token."""


class TypedLines(Protocol):
    """Hears the lines that people type, before their keys reach the PTY: a typed stop command is a stop."""

    def __call__(self, server_id: str, line: str) -> None: ...
