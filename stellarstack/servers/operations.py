"""What each command does: from its request to the procedure that answers its result (PROTOCOL 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.defer import Deferred, DeferredList

from stellarstack.core.messages import Command, Json
from stellarstack.core.requests import (
    ConsoleRevoke,
    CreateServer,
    DeleteServer,
    KillServer,
    ListServers,
    NodeDrain,
    NodeInfo,
    NodeShutdown,
    ReinstallServer,
    Request,
    RestartServer,
    StartServer,
    StopServer,
    TypeLine,
    UpdateServer,
)
from stellarstack.errors import InvalidState, StellarError
from stellarstack.servers import start as starting
from stellarstack.servers import stop as stopping
from stellarstack.servers.create import Arrivals
from stellarstack.servers.household import Household
from stellarstack.servers.lane import Step
from stellarstack.servers.server import Server
from stellarstack.servers.surroundings import Surroundings
from stellarstack.servers.update import update


class Operations:
    """`node_info` and `revoke` are the daemon's: its facts, its sessions. `queue` is Dispatch.add_internal."""

    def __init__(
        self,
        *,
        household: Household,
        arrivals: Arrivals,
        around: Surroundings,
        node_info: Callable[[], Awaitable[Mapping[str, Json]]],
        revoke: Callable[[ConsoleRevoke], Awaitable[int]],
        queue: Callable[..., None],
        drain: Callable[[NodeDrain, Step], Awaitable[Mapping[str, Json]]] | None = None,
    ) -> None:
        self._household = household
        self._arrivals = arrivals
        self._around = around
        self._node_info = node_info
        self._revoke = revoke
        self._queue = queue
        self._drain = drain

    def __call__(self, command: Command, request: Request) -> Callable[[Step], Awaitable[Mapping[str, Json]]]:
        """What `request` does, to be awaited when its turn has come."""
        return lambda step: self._perform(command, request, step)

    async def _perform(self, command: Command, request: Request, step: Step) -> Mapping[str, Json]:
        match request:
            case CreateServer():
                return await self._arrivals.create(command, request, step)
            case DeleteServer():
                return await self._arrivals.delete(request, step)
            case ReinstallServer():
                return await self._arrivals.reinstall(request, step)
            case ListServers():
                return {"servers": [dict(row) for row in self._household.listing()]}
            case NodeInfo():
                return await self._node_info()
            case NodeShutdown():
                return await self._close_down(request, step)
            case NodeDrain() if self._drain is not None:
                return await self._drain(request, step)
            case ConsoleRevoke():
                await step.begin()
                return {"closed": await self._revoke(request)}
        return await self._power(request, step)

    async def _power(self, request: Request, step: Step) -> Mapping[str, Json]:
        match request:
            case StartServer(server_id):
                server = self._household.get(server_id)
                self._household.refuse_while_draining()
                return await starting.start(server, step)
            case StopServer(server_id, timeout):
                return await stopping.stop(self._household.get(server_id), step, timeout)
            case RestartServer(server_id, timeout):
                server = self._household.get(server_id)
                self._household.refuse_while_draining()
                return await stopping.restart(server, step, timeout)
            case KillServer(server_id):
                if step.overtook_arrival and self._household.find(server_id) is None:
                    return {"status": "stopped", "exitCode": None}  # its install was what there was to end
                return await stopping.kill(self._household.get(server_id), step)
            case UpdateServer(server_id, config):
                return await update(
                    self._household.get(server_id),
                    config,
                    step,
                    room=self._household.room_to_change,
                    fence=self._refence,
                )
            case TypeLine(server_id, line):
                return await self._type(self._household.get(server_id), line, step)
        raise AssertionError(f"no operation for {type(request).__name__}")

    async def _refence(self, server: Server) -> None:
        await self._around.fence.limit(server.id, server.root, server.spec.disk_mb * 2**20)

    async def _type(self, server: Server, line: str, step: Step) -> Mapping[str, Json]:
        if not server.status.has_process or not server.console.attached:
            raise InvalidState(f"server {server.id} is {server.status.value}: there is no console to type into")
        await step.begin()
        self._household.line_typed(server.id, line)
        server.console.enter(line)
        return {}

    async def _close_down(self, request: NodeShutdown, step: Step) -> Mapping[str, Json]:
        """The process ends when this command's result is committed; see Dispatch's `finished`."""
        await step.begin()
        if request.stop_servers:
            running = [server for server in self._household.all() if server.status.has_process]
            await DeferredList([self._stopped(server, request.timeout) for server in running])
        return {}

    def _stopped(self, server: Server, timeout: float | None) -> Deferred[None]:
        """Fires when the server's lane has stopped it, or could not."""
        done: Deferred[None] = Deferred()

        async def stop(step: Step) -> Mapping[str, Json]:
            return await stopping.stop(server, step, timeout)

        try:
            self._queue(server.id, "stop before the end", stop, lambda _: done.callback(None), True)
        except StellarError as error:
            server.note(f"it is not stopped before the end: {error}")
            done.callback(None)
        return done
