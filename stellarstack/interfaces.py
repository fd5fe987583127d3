"""The few seams: what one room may ask of another. daemon.py hands each room the objects that meet these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from stellarstack.core.claims import Claims
from stellarstack.core.engine import ContainerState as ContainerState
from stellarstack.core.engine import EngineEvent as EngineEvent
from stellarstack.core.engine import EngineVersion as EngineVersion
from stellarstack.core.engine import PullProgress as PullProgress
from stellarstack.core.engine import RegistryLogin as RegistryLogin
from stellarstack.core.messages import Command, Event, Json, Origin, OutboxRow
from stellarstack.core.records import PtySize, ServerStatus, StatusReason

# ------------------------------------------------------------------ docker: the engine


class OutputSink(Protocol):
    """Who receives a container's terminal."""

    def output_received(self, data: bytes) -> None:
        """Called with each piece as it comes, at most 256 KiB; must not block."""

    def output_ended(self) -> None:
        """Called once, when the attach ends for whatever cause (also after `Attachment.close`)."""


class Attachment(Protocol):
    """A container's PTY, held open."""

    def write(self, data: bytes) -> None:
        """Sends keystrokes to the PTY. Dropped once the attach has ended."""

    def close(self) -> None:
        """Lets go of the PTY; the container runs on."""


class Engine(Protocol):
    """The Docker Engine. Raises DockerUnavailable (or a subclass), ImageNotFound, PortInUse, TimedOut."""

    async def version(self) -> EngineVersion: ...

    async def create_container(self, name: str, body: Mapping[str, Json]) -> str:
        """Answers the new id. EngineConflict: the name is taken. ImageNotFound: no such image here."""

    async def start(self, container: str) -> None:
        """Starting a running one is no error. PortInUse: a host port has a holder."""

    async def kill(self, container: str, signal: str) -> None:
        """Sends a signal (`SIGKILL`). Of one that does not run: no error. ContainerGone: there is none."""

    async def remove(self, container: str) -> None:
        """Removes by force. Of one that is gone: no error."""

    async def inspect(self, container: str) -> ContainerState:
        """By id or name. ContainerGone: there is none."""

    async def containers(self, labels: Mapping[str, str]) -> Sequence[ContainerState]:
        """All, running or not, that carry these labels (from the list call: exit_code and times are not filled)."""

    async def wait(self, container: str) -> int:
        """Fires with the exit status when it stops running (at once where it does not run). No timeout of its own."""

    async def resize(self, container: str, size: PtySize) -> None:
        """Of one that does not run: no error, and nothing is done (it has no terminal yet)."""

    async def update_container(self, container: str, body: Mapping[str, Json]) -> Sequence[str]:
        """Changes limits of a container, running or not: Memory with MemorySwap, NanoCpus, PidsLimit, BlkioWeight.

        To the engine 0 is no change (of PidsLimit -1 takes the limit away). Answers its warnings, where it could not do
        all. EngineRefused: it does none of it, and its words say why.
        """

    async def attach(self, container: str, sink: OutputSink) -> Attachment:
        """Joins the PTY, before the start too. Output begins with what is printed after this is answered."""

    async def logs(self, container: str, since: float | None = None, tail: int | None = None) -> bytes:
        """The engine's own copy of the terminal, whole lines only. Bounded to 16 MiB: the newest are kept."""

    async def stats(self, container: str) -> Mapping[str, Json]:
        """One raw sample of the engine's stats API."""

    async def has_image(self, image: str) -> bool: ...

    async def image_id(self, image: str) -> str:
        """Which content the name stands for (`sha256:…`); empty: no such image here."""

    async def remove_image(self, image: str) -> bool:
        """Takes the name away, and the content where no other name has it. False: a container uses it, so it stays."""

    async def pull(self, image: str, login: RegistryLogin | None, progress: Callable[[PullProgress], None]) -> None:
        """ImagePullFailed with the engine's own words where none can be reached or it does not exist."""

    async def create_network(self, name: str, subnet: str, labels: Mapping[str, str]) -> str:
        """A bridge of its own. EngineConflict: the name or the subnet is taken."""

    async def remove_network(self, name: str) -> None:
        """Of one that is gone: no error."""

    async def networks(self, labels: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        """Name -> subnets of the networks with these labels; with no labels, of all."""

    async def follow_events(
        self, since: float, received: Callable[[EngineEvent], None], connected: Callable[[], None]
    ) -> None:
        """Runs until the feed breaks (DockerUnavailable) or is cancelled. Past events from `since` come first."""


# ------------------------------------------------------------------ store


class AcceptStatus(Enum):
    """What the journal says to a command."""

    NEW = "new"
    COPY = "copy"  # of one that waits or runs: its own result follows when that ends
    REPEATED = "repeated"  # of one that has ended: its result was repeated at once
    CONFLICT = "conflict"  # the id belongs to another command: nothing was kept


@dataclass(frozen=True, slots=True)
class Accepted:
    status: AcceptStatus
    rows: tuple[OutboxRow, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A command without a result. `begun`: when its first effect was about to be done, None where none was."""

    command: Command
    accepted: float
    begun: float | None


@dataclass(frozen=True, slots=True)
class OutboxState:
    """`last_seq`: newest committed, `delivered_seq`: newest delivered (0: none); `pending_*`: not yet delivered."""

    last_seq: int
    delivered_seq: int
    pending_rows: int
    pending_bytes: int


class Store(Protocol):
    """SQLite in its own thread. Each method answers after the commit. StoreFailed: nothing was kept."""

    async def accept(self, command: Command, ack: Event) -> Accepted:
        """Journals a command and its ack in one commit."""

    async def begin(self, command_id: str) -> None:
        """Marks that the command's first effect is about to be done."""

    async def finish(self, command_id: str, result: Event) -> Sequence[OutboxRow]:
        """Keeps the result and sends it once, and once more with `repeat` for each copy that waited."""

    async def unfinished(self) -> Sequence[JournalEntry]: ...

    async def append(self, events: Sequence[Event]) -> Sequence[OutboxRow]:
        """Commits durable events to the outbox, in order."""

    async def outbox_after(self, seq: int, limit: int) -> Sequence[OutboxRow]:
        """Undelivered rows above `seq`, in order, `limit` at most."""

    async def delivered(self, up_to: int) -> None: ...

    async def outbox_state(self) -> OutboxState: ...

    async def raise_sequence(self, seq: int) -> None:
        """The stream is ahead of us (lost database): the next seq is above `seq`; undelivered rows are renumbered."""

    async def rewind(self, seq: int) -> int:
        """The stream lost its tail: rows above `seq` count as undelivered again. Answers how many there are."""

    async def put_server(self, server_id: str, document: Mapping[str, Json]) -> None: ...

    async def remove_server(self, server_id: str) -> None: ...

    async def servers(self) -> Mapping[str, Mapping[str, Json]]: ...

    async def get_value(self, key: str) -> Json: ...

    async def put_value(self, key: str, value: Json) -> None: ...

    async def deny(self, jti: str, expires_at: float) -> None: ...

    async def denied(self) -> Mapping[str, float]:
        """jti -> when it may be forgotten."""

    async def healthy(self) -> bool: ...


# ------------------------------------------------------------------ bus: events out


class EventBus(Protocol):
    """Where every event goes: the outbox and Redis, and whoever listens on the control socket."""

    async def emit(self, *events: Event) -> None:
        """Durable events are committed when this answers; transient ones are published or dropped."""

    def publish(self, event: Event) -> None:
        """A transient event, from code that cannot wait. Never raises."""

    def listen(self, listener: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Calls `listener(type, body)` with every event from now on, as on the wire. Answers how to stop."""


class Publisher(Protocol):
    """The way out over Redis, as the bus sees it."""

    def wake(self) -> None:
        """New durable rows are in the outbox."""

    def publish(self, channel: str, body: bytes) -> Awaitable[int] | None:
        """Publishes a transient event; None where Redis is away (dropped). Fires when Redis has answered."""


# ------------------------------------------------------------------ intake: commands in


class Intake(Protocol):
    """Where every command enters, whatever the door."""

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        """Answers once the message is journaled or refused: only then is a queue entry acked. StoreFailed: keep it."""


# ------------------------------------------------------------------ console


class LineWatcher(Protocol):
    """Who reads a console line by line, escape codes removed."""

    def __call__(self, line: str) -> None: ...


class ServerConsole(Protocol):
    """One server's terminal as the household uses it. Lives as long as the server, over runs and daemon restarts."""

    @property
    def attached(self) -> bool: ...

    async def attach(self, container: str, *, rejoin: bool = False) -> None:
        """Holds the PTY of `container`. `rejoin`: it ran meanwhile; the engine's log fills in soon."""

    async def recall(self, container: str) -> None:
        """`container` ended while we were away: fill in its last words from the engine's log, or tell of a gap."""

    def type(self, data: bytes) -> None:
        """Keystrokes to the PTY. InvalidState: nothing is attached."""

    def enter(self, line: str) -> None:
        """Types a line and Enter; what somebody has half typed is taken away first. InvalidState: as `type`."""

    def watch(self, watcher: LineWatcher) -> Callable[[], None]:
        """Each line from now on; also the unfinished last line as it grows. Answers how to stop watching."""

    def set_status(
        self, status: ServerStatus, exit_code: int | None = None, reason: StatusReason | None = None
    ) -> None:
        """Tells every viewer, and marks the end of a run in the scrollback."""

    def send_stats(self, metrics: Mapping[str, Json]) -> None:
        """Tells every viewer that may read stats."""

    def tail(self, lines: int) -> list[str]:
        """The last lines, escape codes removed: for crash reports."""

    async def resize_pty(self) -> None:
        """Gives a container that has just started the size that the viewers last asked for."""


class Consoles(Protocol):
    """All consoles of the node, by server id."""

    async def open(self, server_id: str, status: ServerStatus) -> ServerConsole:
        """Opens (or makes) a server's console; the same object as long as it is not discarded."""

    async def discard(self, server_id: str) -> None:
        """The server is gone: viewers are closed with 4404 and its scrollback is removed."""


# ------------------------------------------------------------------ doors


class ServerDirectory(Protocol):
    """Which servers there are, for the doors."""

    def status_of(self, server_id: str) -> ServerStatus | None:
        """None: no such server on this node."""

    def name_of(self, server_id: str) -> str | None:
        """What people call it; None: no such server on this node."""

    def listing(self) -> Sequence[Mapping[str, Json]]:
        """One row a server: serverId, name, status, containerId, ports, and so on; the result of `server.list`."""


class TokenVerifier(Protocol):
    """Judges console tokens (PROTOCOL 1)."""

    async def verify(self, token: str) -> Claims:
        """Unauthorized, TokenExpired (its `exp` has passed) or Forbidden (its `jti` is denied)."""
