"""Makes a server's state what the engine says of its container, and asks until that is sure (SECURITY K03, K04)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stellarstack.core.records import ServerStatus, StatusReason
from stellarstack.errors import ContainerGone, StellarError
from stellarstack.interfaces import ContainerState
from stellarstack.servers.ready import ReadyWatch
from stellarstack.tasks import sleep

if TYPE_CHECKING:
    from stellarstack.servers.server import Server

HOLD = 1.0  # seconds after which an engine that takes its containers along must still answer
LOOK_WAITS = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds between questions to an engine that stumbles
MOVED_MOST = 8  # times that a server may move under our eyes before the next event is waited for
_log = Logger()


async def look(server: Server, cause: StatusReason | None = None) -> None:
    """Asks for the server's container and takes the answer into the books. `cause`: why it would have ended.

    While a start is under way nothing is done: it looks itself, and what is asked meanwhile is asked again after it.
    """
    for _ in range(MOVED_MOST):
        if server.starting_up:
            server.asked_meanwhile = True
            return
        before = _mark(server)
        state = await _state_of(server)
        if _mark(server) == before and not server.starting_up:
            await _take(server, state, cause)
            return


async def _engine_stays(server: Server) -> None:
    """Of an end that nobody asked for: waits until it is sure that the engine does not end too, and was its cause.

    DockerUnavailable: it went away.
    """
    if server.status not in (ServerStatus.STARTING, ServerStatus.RUNNING) or server.killing or server.starting_up:
        return
    state = await _state_of(server)
    if state is None or state.running or state.oom_killed or server.outage is not None:
        return
    await sleep(server.around.clock, HOLD)
    await server.around.engine.version()


async def sure(server: Server) -> None:
    """Looks at a server that this daemon has not yet compared with the engine. DockerUnavailable: nobody can know."""
    if not server.seen:
        await look(server)


def doubt(server: Server, after: float = 0.0) -> None:
    """Something may have happened: looks, `after` so many seconds, and again until the engine has answered."""
    server.doubts += 1
    if not server.doubting:
        server.doubting = True
        server.around.tasks.spawn("look at a container", _until_sure(server, after))


async def _until_sure(server: Server, after: float) -> None:
    attempt = 0
    try:
        if after:
            await sleep(server.around.clock, after)
        while server.doubts and not server.retired:
            heard = server.doubts
            try:
                if server.engine_takes_along:
                    await _engine_stays(server)
                await look(server)
            except StellarError as error:
                _log.warn("{server}: cannot be looked at: {reason}", server=server.id, reason=str(error))
                await sleep(server.around.clock, LOOK_WAITS[min(attempt, len(LOOK_WAITS) - 1)])
                attempt += 1
                continue
            if server.doubts == heard:
                server.doubts = 0
    finally:
        server.doubting = False


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


def _mark(server: Server) -> tuple[str | None, ServerStatus]:
    return server.record.container_id, server.status


async def _state_of(server: Server) -> ContainerState | None:
    try:
        state = await server.around.engine.inspect(server.container_name)
    except ContainerGone:
        return None
    return state if server.around.ownership.ours(state) else None


async def _take(server: Server, state: ContainerState | None, cause: StatusReason | None) -> None:
    first, server.seen = not server.seen, True
    if state is not None and state.running:
        await _take_running(server, state, first)
        return
    if first and server.status is ServerStatus.STARTING and (state is None or state.started_at is None):
        server.moved(server.lifecycle.start_failed())  # the daemon died before its process was there
    if first and state is not None and state.started_at is not None and server.status.has_process:
        server.around.tasks.spawn("the last words of a run", server.console.recall(state.id))
    server.note_end(state, cause or server.outage)
    if server.status is ServerStatus.INSTALLING and not server.busy:
        server.moved(server.lifecycle.install_ended())


async def _take_running(server: Server, state: ContainerState, first: bool) -> None:
    if server.record.container_id != state.id:
        server.keep(replace(server.record, container_id=state.id))
    abandoned = server.status is ServerStatus.STOPPING and not server.busy
    taken_up = server.status is ServerStatus.STARTING and server.watch is None
    if taken_up:
        server.watch = ReadyWatch(server, state.started_at)  # before its console goes on: it may be told ready there
    elif first or abandoned or not server.status.has_process:
        server.killing = False
        if first and abandoned:
            server.want(True)  # who ordered that stop orders it again, or never did: a typed one was not obeyed
        if server.status is ServerStatus.INSTALLING:
            server.moved(server.lifecycle.install_ended())
        server.moved(server.lifecycle.found_running())
    measure(server, state)
    if server.watch is not None:
        server.watch.process_started()
    if not server.console.attached:
        await server.console.attach(state.id, rejoin=True)
    if taken_up and server.watch is not None:
        server.watch.take_up()
