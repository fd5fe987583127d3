"""Starting a game server: folder, image, network, container, terminal, process, and the wait until it is ready."""

from __future__ import annotations

from dataclasses import replace

from stellarstack.core.container_spec import run_body
from stellarstack.core.events import node_alert
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.errors import ContainerGone, EngineConflict, InvalidState, StellarError, TimedOut
from stellarstack.interfaces import ContainerState
from stellarstack.servers.folders import prepare_root
from stellarstack.servers.lane import Step
from stellarstack.servers.patching import patch_files
from stellarstack.servers.placement import ensure_image, ensure_network, placement_of
from stellarstack.servers.ports import try_ports
from stellarstack.servers.ready import ReadyWatch
from stellarstack.servers.server import Server
from stellarstack.tasks import within


async def start(server: Server, step: Step) -> dict[str, Json]:
    """Brings a server to `running`; of one that runs: `already`. Where no process came of it, it is `crashed`."""
    if server.status is ServerStatus.RUNNING:
        return {"status": "running", "already": True}
    if server.status is ServerStatus.STARTING and server.watch is not None:
        await step.begin()
        await _until_ready(server, server.watch)
        return {"status": "running", "already": True}
    if not server.record.installed:
        raise InvalidState(f"server {server.id} was never installed to its end; send server.reinstall")
    await server.around.threads(try_ports, server.spec.ports)
    await step.begin()
    await launch(server)
    return {"status": "running"}


async def launch(server: Server) -> None:
    """Starts a server that does not run. InvalidState: it died before it was ready. TimedOut: it lives, not ready."""
    server.begin_run()
    try:
        watch = await _bring_up(server)
    except StellarError:
        if server.status is ServerStatus.STARTING:
            server.moved(server.lifecycle.start_failed())
        raise
    await _until_ready(server, watch)


async def _bring_up(server: Server) -> ReadyWatch:
    around = server.around
    user = (around.docker.uid, around.docker.gid)
    await around.threads(prepare_root, server.root, *user, server.spec.subfolders)
    await _patch(server, user)
    await ensure_image(server.spec.image, server)
    await ensure_network(server)
    server.progress("creating_container")
    container = await _create(server)
    server.keep(replace(server.record, container_id=container))
    await server.console.attach(container)
    server.watch = ReadyWatch(server)
    server.progress("starting")
    await around.engine.start(container)
    await _note_started(server, container)
    server.watch.process_started()
    return server.watch


async def _patch(server: Server, user: tuple[int, int]) -> None:
    around = server.around
    try:
        await around.threads(patch_files, server.spec, server.root, user, server.record.subnet)
    except StellarError as error:
        text = f"server {server.id} was not started: {error}"
        await around.bus.emit(node_alert(around.node_id, around.now(), "warning", "config_file", text, server.id))
        raise


async def _create(server: Server) -> str:
    engine, name = server.around.engine, server.container_name
    body = run_body(server.spec, placement_of(server))
    await engine.remove(name)
    try:
        return await engine.create_container(name, body)
    except EngineConflict:
        # an earlier removal was still under way in the engine
        await engine.remove(name)
        return await engine.create_container(name, body)


async def _note_started(server: Server, container: str) -> None:
    try:
        state = await server.around.engine.inspect(container)
    except ContainerGone:
        state = None
    if state is None or not state.running:
        await server.container_died(container)
        return
    measure(server, state)
    await server.console.resize_pty()


def measure(server: Server, state: ContainerState) -> None:
    """Has the gauges measure a running container from now on."""
    server.started_at = state.started_at or server.around.now()
    server.around.gauges.track(
        server.id,
        pid=state.pid,
        started_at=server.started_at,
        memory_limit=server.spec.memory_mb * 2**20,
        root=server.root,
    )


async def _until_ready(server: Server, watch: ReadyWatch) -> None:
    limit = server.spec.blueprint.ready.timeout
    try:
        await within(server.around.clock, limit, f"the ready check of server {server.id}", watch.settled())
    except TimedOut:
        await _tell_overdue(server, limit)
        raise
    if not server.status.has_process:
        code = server.record.exit_code
        raise InvalidState(f"server {server.id} ended with status {code} before it was ready; its console tells why")


async def _tell_overdue(server: Server, limit: float) -> None:
    """It goes on, and a late match still makes it `running`: many templates name a line that never comes."""
    around = server.around
    if server.status is ServerStatus.STARTING:
        server.moved(server.lifecycle.ready_overdue())
    text = f"server {server.id} runs, but its ready check was not met in {limit:g} s"
    await around.bus.emit(node_alert(around.node_id, around.now(), "warning", "ready_timeout", text, server.id))
