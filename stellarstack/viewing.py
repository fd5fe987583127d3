"""The seams between the consoles and the doors by which people watch and type: WebSocket, SSH."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from socket import socket
from typing import NamedTuple, Protocol, TypeAlias

from stellarstack.core.claims import Claims
from stellarstack.core.frames import Encoding
from stellarstack.core.line_search import LineMatcher
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize, ServerStatus


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What a viewer wants to see: output from byte `since` on, or the last `scrollback` bytes and what follows."""

    encoding: Encoding
    since: int | None = None
    scrollback: int = 65536
    stats: bool = False


class RunEvent(NamedTuple):
    """A run of the server began (`started`) or ended (`exited`, `crashed`) at byte `offset`, at Unix seconds `at`.

    `reason` is `server.status`'s, where it gave one.
    """

    offset: int
    at: float
    event: str
    exit_code: int | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Json]:
        """As it stands on the wire."""
        told: dict[str, Json] = {"offset": self.offset, "at": self.at, "event": self.event}
        if self.exit_code is not None:
            told["exitCode"] = self.exit_code
        return told if self.reason is None else {**told, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Scrollback [start, start + len(data)); `first` is the oldest byte kept."""

    start: int
    data: bytes
    first: int


class OutputFrame(Protocol):
    """A large frame, the same object for every viewer of its encoding; `bytes()` of it is the frame, made once."""

    def __len__(self) -> int: ...

    def __bytes__(self) -> bytes: ...

    def send(self, to: socket) -> int:
        """Sends its beginning, as much as a stream socket takes now; answers how much is left. OSError: all of it."""


Frame: TypeAlias = bytes | OutputFrame


class ViewerWire(Protocol):
    """One viewer's way out: a WebSocket, say. Its viewer is told by `Viewer.full` and `free` what it can take."""

    def ready(self, start: int, end: int, status: ServerStatus) -> None:
        """Called first, once: output begins at byte `start`; `end` is the newest byte now."""

    def write(self, frame: Frame) -> None:
        """A whole frame in the viewer's encoding. The same object goes to every viewer."""

    def straight(self) -> Callable[[Frame], None]:
        """A shorter way for frames than `write`, which asks no more whether it is open.

        To be asked for before `ready`, and to be used from then on until the viewer leaves, not after.
        """

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
        """The `limit` bytes (at most 256 KiB) that end at `before`, or at the end.

        Fewer where some of them are lost: those after what is lost, or those before it where `before` follows it.
        """

    def runs(self, start: int, end: int) -> Sequence[RunEvent]:
        """What befell the server's runs in the bytes [start, end), in order."""

    def type(self, data: bytes) -> None:
        """Keystrokes to the PTY. InvalidState: nothing is attached."""

    def resize(self, size: PtySize) -> None:
        """The terminal's size from now on, for all viewers and later starts; of many in 0.1 s the last counts."""


class ConsoleFeeds(Protocol):
    """The consoles that can be viewed."""

    def feed(self, server_id: str) -> ConsoleFeed | None: ...


# ------------------------------------------------------------------ the past, for search and download


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Lines that begin before byte `before` (None: all), the newest `limit` of them that match."""

    matcher: LineMatcher
    limit: int
    before: int | None = None


@dataclass(frozen=True, slots=True)
class SearchMatch:
    """`offset` is the line's first byte; `at` (Unix seconds) is None where nobody knows when it came."""

    offset: int
    text: str
    at: float | None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Newest first. `before`: where an older page goes on; None: all that is kept, [first, end), was searched."""

    matches: Sequence[SearchMatch]
    first: int
    end: int
    before: int | None


class DownloadFormat(Enum):
    """How scrollback is handed out: as plain text, or as a recording."""

    TEXT = "text"
    ASCIINEMA = "asciinema"


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """The bytes [start, to); None: from the oldest, up to the newest of now. `last_run`: from that run's first."""

    format: DownloadFormat
    start: int | None = None
    to: int | None = None
    last_run: bool = False


class Download(Protocol):
    """A download under way. Not to be called again before it has answered."""

    async def next(self) -> bytes:
        """The next piece, at most some 512 KiB; empty: that was all."""


class ConsoleArchive(Protocol):
    """What a console said, as far as it is kept (PROTOCOL 9)."""

    async def search(self, request: SearchRequest) -> SearchPage:
        """Stops early, with `before` set, after some seconds of work."""

    def download(self, request: DownloadRequest) -> Download:
        """What is not kept any more when its turn comes is told in its place."""


class ConsoleArchives(Protocol):
    """The consoles whose past can be searched."""

    def archive(self, server_id: str) -> ConsoleArchive | None: ...


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
