"""Sends each accepted command to its lane and its result to the bus, exactly one each (PROTOCOL 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from twisted.internet.defer import CancelledError, DeferredSemaphore
from twisted.logger import Logger

from stellarstack.bus import Bus
from stellarstack.core.events import command_failed, command_result
from stellarstack.core.messages import Command, Json
from stellarstack.core.requests import (
    ConsoleRevoke,
    CreateServer,
    DeleteServer,
    KillServer,
    ReinstallServer,
    Request,
    RestartServer,
    StartServer,
    StopServer,
    TypeLine,
    UpdateServer,
)
from stellarstack.errors import Cancelled, Expired, StellarError
from stellarstack.interfaces import Store
from stellarstack.servers.lane import Lane, Outcome, Step, Work
from stellarstack.tasks import Tasks

Operation: TypeAlias = Callable[[Step], Awaitable[Mapping[str, Json]]]
Operations: TypeAlias = Callable[[Command, Request], Operation]

_OVERTAKES = (KillServer, DeleteServer)
_YIELDS = (CreateServer, StartServer, StopServer, RestartServer, ReinstallServer, UpdateServer, TypeLine)
# What ends a start's wait for its ready check: a server that never says it is ready can be stopped at any moment.
_ENDS_WAITS = (StopServer, RestartServer)
# What takes a slot of `[limits] parallel_commands`. Ends do not: they must work while sixteen installs are under way.
_HEAVY = (CreateServer, StartServer, RestartServer, ReinstallServer)


class Dispatch:
    """`operations` answers what a request does; node requests (no server id) run beside all lanes.

    Nothing runs before `open`: what comes earlier waits for the household to be true. `finished(request)` is told when
    a command's result has been committed.
    """

    _log = Logger()

    def __init__(
        self, *, operations: Operations, finished: Callable[[Request], None], bus: Bus, store: Store, node_id: str,
        now: Callable[[], float], tasks: Tasks, parallel: int, lane_length: int,
    ) -> None:  # fmt: skip
        self._operations = operations
        self._finished = finished
        self._bus = bus
        self._store = store
        self._node_id = node_id
        self._now = now
        self._tasks = tasks
        self._slots = DeferredSemaphore(parallel)
        self._lane_length = lane_length
        self._lanes: dict[str, Lane] = {}
        self._early: list[tuple[Command, Request]] | None = []
        self._closed = False

    def open(self, resume: Callable[[], Sequence[tuple[Command, Request, bool]]]) -> None:
        """Lets the lanes run: first what `resume` answers (command, request, had begun), then what came meanwhile."""
        if self._early is None:
            return
        early, self._early = self._early, None
        for command, request, begun in resume():
            self._place(command, request, begun)
        for command, request in early:
            self._place(command, request, False)

    def submit(self, command: Command, request: Request) -> None:
        """Takes over an accepted command."""
        if self._early is not None:
            self._early.append((command, request))
        else:
            self._place(command, request, False)

    def _place(self, command: Command, request: Request, begun: bool) -> None:
        work = self._work(command, request)
        work.begun = begun
        server_id = getattr(request, "server_id", None) if _has_lane(request) else None
        if server_id is None:
            self._tasks.spawn(work.name, self._beside(work))
            return
        try:
            self.lane(server_id).add(work)
        except StellarError as error:
            self._tasks.spawn(work.name, work.settle(Outcome(None, error, False)))

    def lane(self, server_id: str) -> Lane:
        """The lane of a server, made when first asked for; lanes at rest are let go."""
        if server_id not in self._lanes:
            for idle in [key for key, lane in self._lanes.items() if lane.idle]:
                del self._lanes[idle]
            self._lanes[server_id] = Lane(slots=self._slots, now=self._now, tasks=self._tasks, limit=self._lane_length)
            if self._closed:
                self._lanes[server_id].close()
        return self._lanes[server_id]

    def add_internal(
        self, server_id: str, name: str, operation: Operation, settled: Callable[[Outcome], None], ends: bool = False
    ) -> None:
        """Queues something of the daemon's own in a server's lane. InvalidState: it is full.

        `ends`: it is a stop, which takes no slot and does not wait for a ready check.
        """

        async def settle(outcome: Outcome) -> None:
            settled(outcome)

        self.lane(server_id).add(Work(name, operation, settle, _nothing, yields=True, ends_waits=ends, heavy=not ends))

    def close(self) -> None:
        """The daemon stops: what is under way stays in the journal for the next start."""
        self._closed = True
        for lane in self._lanes.values():
            lane.close()

    def _work(self, command: Command, request: Request) -> Work:
        began = self._now()

        async def settle(outcome: Outcome) -> None:
            await self._settled(command, began, outcome)
            self._finished(request)

        return Work(
            name=f"{command.type} {command.server_id or ''}".strip(),
            perform=self._operations(command, request),
            settle=settle,
            note_begin=lambda: self._store.begin(command.id),
            expires_at=command.expires_at,
            yields=isinstance(request, _YIELDS),
            overtakes=isinstance(request, _OVERTAKES),
            ends_waits=isinstance(request, _ENDS_WAITS),
            heavy=isinstance(request, _HEAVY),
            arrival=isinstance(request, CreateServer),
        )

    async def _settled(self, command: Command, began: float, outcome: Outcome) -> None:
        now = self._now()
        duration = max(0.0, now - began)
        if outcome.error is None:
            event = command_result(command, self._node_id, now, duration, outcome.result or {})
            self._log.info("{command} {server} succeeded", command=command.type, server=command.server_id or "")
        else:
            status = _status_of(outcome.error, outcome.begun)
            event = command_failed(command, self._node_id, now, duration, status, outcome.error)
            self._log.warn(
                "{command} {server} {status}: {reason}",
                command=command.type, server=command.server_id or "", status=status, reason=str(outcome.error),
            )  # fmt: skip
        await self._bus.finish(command.id, event)

    async def _beside(self, work: Work) -> None:
        """A command without a lane. One that has expired is not run."""
        try:
            if work.expires_at is not None and work.expires_at <= self._now():
                raise Expired(f"{work.name} came after its expiresAt")
            outcome = Outcome(await work.perform(work), None, work.begun)
        except StellarError as error:
            outcome = Outcome(None, error, work.begun)
        except CancelledError:
            if not self._closed:
                raise
            return  # the daemon stops: the journal has it
        except Exception:
            self._log.failure("{work} broke", work=work.name)
            outcome = Outcome(None, StellarError(f"{work.name}: a fault of the daemon's own; its log tells more"), True)
        if not self._closed:
            await work.settle(outcome)


async def _nothing() -> None:
    """An internal work has no journal entry to mark."""


def _has_lane(request: Request) -> bool:
    return not isinstance(request, ConsoleRevoke)


def _status_of(error: StellarError, begun: bool) -> str:
    if isinstance(error, Expired):
        return "expired"
    if isinstance(error, Cancelled):
        return "cancelled"
    return "failed" if begun else "rejected"
