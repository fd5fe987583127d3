"""How a server comes (server.create, server.reinstall) and goes (server.delete)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from stellarstack.core.events import error_body
from stellarstack.core.messages import Command, Json
from stellarstack.core.records import ServerRecord, ServerStatus
from stellarstack.core.requests import CreateServer, DeleteServer, ReinstallServer
from stellarstack.core.spec import ServerSpec, parse_server_config, resolve
from stellarstack.errors import InvalidState, StellarError
from stellarstack.servers.blueprints import BlueprintShelf
from stellarstack.servers.folders import remove_tree
from stellarstack.servers.household import Household
from stellarstack.servers.install import Installation
from stellarstack.servers.lane import Step
from stellarstack.servers.placement import ensure_image, ensure_network
from stellarstack.servers.ports import try_ports
from stellarstack.servers.server import Server
from stellarstack.servers.start import launch
from stellarstack.servers.stop import strike
from stellarstack.servers.surroundings import Surroundings


class Arrivals:
    """Brings servers into the household and takes them out again."""

    _log = Logger()

    def __init__(self, *, household: Household, around: Surroundings, shelf: BlueprintShelf) -> None:
        self._household = household
        self._around = around
        self._shelf = shelf

    async def create(self, command: Command, request: CreateServer, step: Step) -> dict[str, Json]:
        """A server that is not installed to its end leaves nothing behind; one that only fails to start stays."""
        known = self._household.find(request.server_id)
        if known is not None and known.record.created_by == command.id:
            server = known  # this very command was under way when the daemon died
            await step.begin()
        else:
            self._household.refuse_while_draining()
            server = await self._arrive(command, request, step)
        if not server.record.installed:
            await self._install_or_erase(server, request.skip_install)
        failed = await self._first_start(server) if request.start else None
        answer: dict[str, Json] = {"serverId": server.id, "containerId": server.record.container_id}
        return {**answer, "ports": server.ports(), "status": server.status.value, **failed_start(failed)}

    async def reinstall(self, request: ReinstallServer, step: Step) -> dict[str, Json]:
        """Runs the install script again on a server that does not run."""
        server = self._household.get(request.server_id)
        self._household.refuse_while_draining()
        if server.status.has_process:
            raise InvalidState(f"server {server.id} is {server.status.value}; stop it before it is installed again")
        await step.begin()
        server.rest()
        if not request.keep_files:
            await self._around.threads(remove_tree, server.root)
        server.keep(replace(server.record, installed=False))
        await self._install(server)
        return {"status": server.status.value}

    async def delete(self, request: DeleteServer, step: Step) -> dict[str, Json]:
        """Ends, removes and forgets. What could not be removed is told, and the record stays for another try."""
        server = self._household.get(request.server_id)
        await step.begin()
        if server.status.has_process:
            await strike(server)
        await self._erase(server, files=request.delete_files)
        return {}

    async def _arrive(self, command: Command, request: CreateServer, step: Step) -> Server:
        spec = await self._spec_of(request)
        with self._household.room_for(spec):
            await self._around.threads(try_ports, spec.ports)
            await step.begin()
            subnet = await self._around.subnets.take()
            record = ServerRecord(spec, subnet, created_by=command.id)
            await self._around.store.put_server(spec.server_id, record.to_document())
            return await self._household.take_in(record, self._around)

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

    async def _install_or_erase(self, server: Server, skip_install: bool) -> None:
        try:
            await self._install(server, skip_install)
        except (StellarError, CancelledError):
            if not self._household.closing:
                await self._erase(server, files=True)
            raise

    async def _install(self, server: Server, skip: bool = False) -> None:
        """Fetches the image and runs the script. The record says `installed` only when all of it is done."""
        if server.status is not ServerStatus.INSTALLING:
            server.moved(server.lifecycle.install_began())
        try:
            await ensure_image(server.spec.image, server)
            await ensure_network(server)
            await Installation(server).run(skip)
            server.keep(replace(server.record, installed=True))
        finally:
            if not self._household.closing:
                server.moved(server.lifecycle.install_ended())

    async def _first_start(self, server: Server) -> StellarError | None:
        if server.status is ServerStatus.RUNNING:
            return None
        try:
            self._household.refuse_while_draining()
            await launch(server)
        except StellarError as error:
            return error
        return None

    async def _erase(self, server: Server, *, files: bool) -> None:
        engine = self._around.engine
        await engine.remove(server.container_name)
        await engine.remove(f"{server.container_name}.install")
        await engine.remove_network(server.container_name)
        if files:
            await self._around.threads(remove_tree, server.root)
        server.retire()
        await self._around.store.remove_server(server.id)
        self._household.let_go(server.id)
        self._around.subnets.give_back(server.record.subnet)
        self._around.gauges.forget(server.id)
        await self._around.consoles.discard(server.id)


def failed_start(error: StellarError | None) -> Mapping[str, Json]:
    """`startError` of a create's result."""
    return {} if error is None else {"startError": error_body(error)}
