"""How a server comes (server.create, server.reinstall) and goes (server.delete)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from stellarstack.core.events import error_body
from stellarstack.core.messages import Command, Json
from stellarstack.core.records import ServerRecord, ServerStatus
from stellarstack.core.requests import CreateServer, DeleteServer, ReinstallServer
from stellarstack.core.spec import ServerSpec, parse_server_config, resolve
from stellarstack.errors import Cancelled, InvalidState, StellarError, TimedOut
from stellarstack.servers.blueprints import BlueprintShelf
from stellarstack.servers.folders import keep_newest, remove_own
from stellarstack.servers.household import Household
from stellarstack.servers.install import FAILED_LOGS, Installation, install_folder, install_name
from stellarstack.servers.lane import Step
from stellarstack.servers.placement import ensure_image
from stellarstack.servers.ports import try_ports
from stellarstack.servers.server import Server
from stellarstack.servers.start import start
from stellarstack.servers.steady import steady
from stellarstack.servers.stop import strike
from stellarstack.servers.surroundings import Surroundings
from stellarstack.servers.truth import sure


class Arrivals:
    """Brings servers into the household and takes them out again."""

    _log = Logger()

    def __init__(self, *, household: Household, around: Surroundings, shelf: BlueprintShelf) -> None:
        self._household = household
        self._around = around
        self._shelf = shelf

    async def create(self, command: Command, request: CreateServer, step: Step) -> dict[str, Json]:
        """A server that is not installed to its end leaves nothing behind; one that only fails to start stays."""
        try:
            server = await self._bring_in(command, request, step)
        except (StellarError, CancelledError):
            await self._take_back(command, request.server_id)
            raise
        failed = await self._first_start(server, step) if request.start else None
        answer: dict[str, Json] = {"serverId": server.id, "containerId": server.record.container_id}
        return {**answer, "ports": server.ports(), "status": server.status.value, **failed_start(failed)}

    async def reinstall(self, request: ReinstallServer, step: Step) -> dict[str, Json]:
        """Runs the install script again on a server that does not run."""
        server = self._household.get(request.server_id)
        self._household.refuse_while_draining()
        await sure(server)
        if server.status.has_process:
            raise InvalidState(f"server {server.id} is {server.status.value}; stop it before it is installed again")
        await step.begin()
        server.rest()
        await self._install(server, renew=not request.keep_files)
        return {"status": server.status.value}

    async def delete(self, request: DeleteServer, step: Step) -> dict[str, Json]:
        """Ends, removes and forgets. What could not be removed is told, and the record stays for another try."""
        if self._household.find(request.server_id) is None and (step.begun or step.overtook_arrival):
            return {}  # the daemon died right after it was gone, or its create has taken it back
        server = self._household.get(request.server_id)
        await step.begin()
        server.rest()
        with server.at_work("delete"):
            if server.status.has_process:
                await self._end(server)
            await self._erase(server, files=request.delete_files)
        await self._around.in_thread(remove_own, install_folder(self._around, server.id))
        return {}

    async def _end(self, server: Server) -> None:
        """An engine that has much to do may tell of the end late; the removal, which comes next, ends it too."""
        try:
            await strike(server)
        except TimedOut as error:
            self._log.warn("{reason}; it is removed all the same", reason=str(error))

    async def _bring_in(self, command: Command, request: CreateServer, step: Step) -> Server:
        """The server, installed."""
        server, renew = self._household.find(request.server_id), False
        if server is None or server.record.created_by != command.id:
            self._household.refuse_while_draining()
            if server is not None and not server.record.arrived:
                await self._erase(server, files=server.record.own_root)  # what a failed create could not take away
            server = await self._arrive(command, request, step)
        else:
            await step.begin()
            renew = server.record.own_root  # the daemon died in this very command: half an install may be here
        if not server.record.installed:
            await self._install(server, request.skip_install, renew)
        return server

    async def _take_back(self, command: Command, server_id: str) -> None:
        """The create's own error is the one to tell; what stays is taken away by the next create or delete."""
        server = self._household.find(server_id)
        if server is None or server.record.created_by != command.id or server.record.arrived or self._household.closing:
            return
        try:
            await self._erase(server, files=server.record.own_root)
            here = {one.id for one in self._household.all()}
            logs = install_folder(self._around, server_id).parent
            await self._around.in_thread(keep_newest, logs, here | self._household.coming(), FAILED_LOGS)
        except (StellarError, CancelledError) as error:
            self._log.warn("{server} could not be taken away: {reason}", server=server.id, reason=str(error))
            if not server.told:
                server.tell()  # it is here now

    async def _arrive(self, command: Command, request: CreateServer, step: Step) -> Server:
        spec = await self._spec_of(request)
        with self._household.room_for(spec):
            await self._around.in_thread(try_ports, spec.ports)
            await step.begin()
            return await steady(self._around.clock, "an arrival", self._settle_in(command, spec))

    async def _settle_in(self, command: Command, spec: ServerSpec) -> Server:
        """Record and household have a server both, or neither."""
        around = self._around
        subnet = "" if spec.network else await around.subnets.take()  # a shared one comes with its network
        try:
            there = await around.in_thread((around.servers_root / spec.server_id).exists)
            uid = self._household.free_uid(around.docker.uid) if around.docker.uid_per_server else None
            record = ServerRecord(spec, subnet, created_by=command.id, own_root=not there, uid=uid)
            server = await self._keep(record)
        except BaseException:
            around.subnets.give_back(subnet)
            raise
        server.seen = True
        return server

    async def _keep(self, record: ServerRecord) -> Server:
        """Writes the record and makes a server of it. Where the daemon stops meanwhile, its next start goes on."""
        store, server_id = self._around.store, record.spec.server_id
        try:
            await store.put_server(server_id, record.to_document())
            return await self._household.take_in(record, self._around)
        except BaseException:
            if not self._household.closing:
                with suppress(CancelledError):
                    await self._take_out(server_id)
            raise

    async def _take_out(self, server_id: str) -> None:
        try:
            await self._around.store.remove_server(server_id)
        except StellarError as error:
            self._log.error(
                "{server}: the record of a failed create stays: {reason}", server=server_id, reason=str(error)
            )

    async def _spec_of(self, request: CreateServer) -> ServerSpec:
        blueprint = await self._shelf.find(request.blueprint)
        return resolve(
            request.server_id,
            request.name or request.server_id,
            blueprint,
            parse_server_config({"config": dict(request.config)}),
            request.version,
            allow_unlimited=self._around.docker.allow_unlimited,
        )

    async def _install(self, server: Server, skip: bool = False, renew: bool = False) -> None:
        """Fetches the image and runs the script. The record says `installed` only when all of it is done."""
        if server.status is not ServerStatus.INSTALLING:
            server.moved(server.lifecycle.install_began())
        try:
            with server.at_work("install"):
                await ensure_image(server.spec.image, server, anew=True)
                await self._around.bridges.ensure(server)
                installation = Installation(server, skip)
                await installation.prepare()
                server.keep(replace(server.record, installed=False))
                await installation.run(renew)
                server.keep(replace(server.record, installed=True, arrived=True))
        finally:
            if not self._household.closing:
                server.moved(server.lifecycle.install_ended())

    async def _first_start(self, server: Server, step: Step) -> StellarError | None:
        try:
            self._household.refuse_while_draining()
            await start(server, step)
        except StellarError as error:
            return error
        except CancelledError:
            if self._household.closing:
                raise
            return Cancelled(f"the start of server {server.id} was overtaken; the server stays")
        return None

    async def _erase(self, server: Server, *, files: bool) -> None:
        around = self._around
        await self._remove(server.container_name)
        server.note_end(None)
        await self._remove(install_name(server))
        await around.bridges.leave(server)
        if files:
            await around.trees.remove(server.root)
        await around.fence.forget(server.id, server.root)
        await steady(around.clock, "a farewell", self._forget(server))

    async def _remove(self, container: str) -> None:
        """Where the engine's answer was late, it is asked once more: what is gone meanwhile is no error."""
        try:
            await self._around.hands.remove(container)
        except TimedOut:
            await self._around.hands.remove(container)

    async def _forget(self, server: Server) -> None:
        await server.retire()
        self._household.let_go(server.id)
        self._around.subnets.give_back(server.record.subnet)
        self._around.gauges.forget(server.id)
        await self._around.consoles.discard(server.id)


def failed_start(error: StellarError | None) -> Mapping[str, Json]:
    """`startError` of a create's result."""
    return {} if error is None else {"startError": error_body(error)}
