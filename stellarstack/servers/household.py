"""All game servers of this node: who is here, who comes, who goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from stellarstack.core.messages import Json
from stellarstack.core.records import ServerRecord, ServerStatus
from stellarstack.core.server_lifecycle import Transition
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import Draining, ServerExists, ServerNotFound
from stellarstack.servers.neighbours import refuse_clash, refuse_crowd
from stellarstack.servers.server import Server
from stellarstack.servers.stop import typed
from stellarstack.servers.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator


class Household:
    """Meets interfaces.ServerDirectory. `draining` says whether the node starts nothing new.

    `on_end` is told of each end of a process. `closing` is set when the daemon stops: what breaks off then is neither
    undone nor told, the next start takes it up.
    """

    def __init__(self, *, draining: Callable[[], bool], on_end: Callable[[Server, Transition], None]) -> None:
        self._draining = draining
        self._on_end = on_end
        self._servers: dict[str, Server] = {}
        self._uids: set[int | None] = set()  # given out by this process
        self._coming: dict[str, ServerSpec] = {}
        self.closing = False

    def status_of(self, server_id: str) -> ServerStatus | None:
        server = self._servers.get(server_id)
        return server.status if server is not None else None

    def name_of(self, server_id: str) -> str | None:
        server = self._servers.get(server_id)
        return server.spec.name if server is not None else None

    def listing(self) -> Sequence[Mapping[str, Json]]:
        return [self._servers[server_id].row() for server_id in sorted(self._servers)]

    def get(self, server_id: str) -> Server:
        """ServerNotFound: none of that id is here."""
        server = self._servers.get(server_id)
        if server is None:
            raise ServerNotFound(f"no server {server_id} on this node")
        return server

    def find(self, server_id: str) -> Server | None:
        return self._servers.get(server_id)

    def all(self) -> list[Server]:
        return list(self._servers.values())

    def of_container(self, container_id: str) -> Server | None:
        """The server whose container of now this is."""
        return next((one for one in self._servers.values() if one.record.container_id == container_id), None)

    def free_uid(self, above: int) -> int:
        """The lowest user id above `above` that no server has; nobody else gets it while this process lives."""
        taken = self._uids | {server.record.uid for server in self._servers.values()}
        uid = next(uid for uid in count(above + 1) if uid not in taken)
        self._uids.add(uid)
        return uid

    def subnets(self) -> Iterable[str]:
        """Those that belong to servers, whether their network stands or not."""
        return [server.record.subnet for server in self._servers.values()]

    async def take_in(self, record: ServerRecord, around: Surroundings) -> Server:
        """Makes a server of a record and opens its console."""
        console = await around.consoles.open(record.spec.server_id, record.status)
        server = Server(record, console, around, self._on_end, lambda: self.closing)
        self._servers[server.id] = server
        return server

    def line_typed(self, server_id: str, line: str) -> None:
        """Somebody enters `line` into the server's console: its stop command counts as a stop (EGGS.md 2)."""
        server = self._servers.get(server_id)
        if server is None or not server.spec.blueprint.stop.is_typed(line):
            return
        if server.status in (ServerStatus.STARTING, ServerStatus.RUNNING) and not server.busy:
            server.around.tasks.spawn("a typed stop", typed(server))

    def let_go(self, server_id: str) -> None:
        self._servers.pop(server_id, None)

    def refuse_while_draining(self) -> None:
        """Draining: the node is being emptied."""
        if self._draining():
            raise Draining("this node is draining and starts nothing new")

    def coming(self) -> set[str]:
        """Ids of those that are not here yet."""
        return set(self._coming)

    @contextmanager
    def room_for(self, spec: ServerSpec) -> Iterator[None]:
        """Holds id and ports while a server comes, so that no other takes them meanwhile. ServerExists, PortInUse."""
        if spec.server_id in self._servers or spec.server_id in self._coming:
            raise ServerExists(f"server {spec.server_id} is on this node already")
        with self.room_to_change(spec):
            yield

    @contextmanager
    def room_to_change(self, spec: ServerSpec) -> Iterator[None]:
        """Holds the ports of `spec`, beside those it has, while a server changes. PortInUse, InsufficientResources."""
        others = [*self._coming.values(), *(server.held for server in self._servers.values())]
        refuse_clash(spec, others)
        refuse_crowd(spec, others)
        self._coming[spec.server_id] = spec
        try:
            yield
        finally:
            self._coming.pop(spec.server_id, None)
