"""Starting a game server: folder, image, network, container, terminal, process, and the wait until it is ready."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import CancelledError

from stellarstack.core.container_spec import run_body
from stellarstack.core.events import node_alert
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.errors import ContainerGone, EngineConflict, InvalidState, StellarError
from stellarstack.servers.folders import prepare_root
from stellarstack.servers.lane import Step
from stellarstack.servers.patching import patch_files
from stellarstack.servers.placement import ensure_image, placement_of
from stellarstack.servers.ports import try_ports
from stellarstack.servers.ready import ReadyWatch, until_ready
from stellarstack.servers.server import Server
from stellarstack.servers.truth import doubt, look, measure, sure


async def start(server: Server, step: Step) -> dict[str, Json]:
    """Brings a server to `running`; of one that runs: `already`. Where no process came of it, it is `crashed`."""
    await sure(server)
    if server.status is ServerStatus.RUNNING:
        return {"status": "running", "already": True}
    if server.status is ServerStatus.STARTING and server.watch is not None:
        await step.begin()
        step.only_waits()
        await until_ready(server, server.watch)
        return {"status": "running", "already": True}
    if server.status.has_process:
        raise InvalidState(f"server {server.id} is {server.status.value}; kill it before it is started again")
    refuse_not_installed(server)
    await server.around.in_thread(try_ports, server.spec.ports)
    await step.begin()
    await launch(server, step)
    return {"status": "running"}


def refuse_not_installed(server: Server) -> None:
    """InvalidState: there is nothing to start."""
    if not server.record.installed:
        raise InvalidState(f"server {server.id} was never installed to its end; send server.reinstall")


async def launch(server: Server, step: Step) -> None:
    """Starts a server that does not run. InvalidState: it died before it was ready. TimedOut: it lives, not ready.

    Whatever breaks it off, the server's state is then what the engine says, or is asked for until it is known.
    """
    server.begin_run()
    try:
        with server.at_work("start"):
            watch = await _bring_up(server)
    except CancelledError:
        _broken_off(server)
        raise
    except Exception:
        await _failed(server)
        raise
    step.only_waits()
    await until_ready(server, watch)


def _broken_off(server: Server) -> None:
    """Overtaken: whoever did that ends the process, where there is one."""
    if server.closing():
        return
    server.rest()
    if server.status is not ServerStatus.STARTING:
        return
    if server.process_asked:
        doubt(server, after=1.0)
    else:
        server.close_watch()
        server.moved(server.lifecycle.start_cancelled())


async def _failed(server: Server) -> None:
    if server.came_up:
        doubt(server)
        return
    server.rest()
    if server.process_asked:
        try:
            await look(server)
        except StellarError as error:
            server.note(f"what came of its start is not known yet: {error}")
            doubt(server)
    elif server.status is ServerStatus.STARTING:
        server.close_watch()
        server.moved(server.lifecycle.start_failed())
    if server.status.has_process:
        server.want(True)


async def _bring_up(server: Server) -> ReadyWatch:
    around = server.around
    user = server.user
    await around.in_thread(prepare_root, server.root, *user, server.spec.subfolders)
    await around.fence.limit(server.id, server.root, server.spec.disk_mb * 2**20)
    await around.bridges.ensure(server)
    await _patch(server, user)
    await ensure_image(server.spec.image, server)
    server.progress("creating_container")
    container = await _create(server)
    server.keep(replace(server.record, container_id=container, bound=server.spec.ports))
    await server.console.attach(container)
    watch = server.watch = ReadyWatch(server)
    server.progress("starting")
    server.process_asked = True
    await around.hands.start(container)
    server.came_up = True
    await _note_started(server, container)
    watch.process_started()
    return watch


async def _patch(server: Server, user: tuple[int, int]) -> None:
    around = server.around
    try:
        await around.in_thread(patch_files, server.spec, server.root, user, server.record.subnet)
    except StellarError as error:
        text = f"server {server.id} was not started: {error}"
        await around.bus.emit(node_alert(around.node_id, around.now(), "warning", "config_file", text, server.id))
        raise


async def _create(server: Server) -> str:
    hands, name = server.around.hands, server.container_name
    body = run_body(server.spec, placement_of(server))
    await hands.remove(name)
    try:
        return await hands.create_container(name, body)
    except EngineConflict:
        # an earlier removal was still under way in the engine
        await hands.remove(name)
        return await hands.create_container(name, body)


async def _note_started(server: Server, container: str) -> None:
    try:
        state = await server.around.engine.inspect(container)
    except ContainerGone:
        state = None
    if state is None or not state.running:
        server.note_end(state)
        return
    measure(server, state)
    await server.console.resize_pty()
