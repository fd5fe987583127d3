"""Stopping a game server: its own stop first, then SIGTERM, then SIGKILL (PROTOCOL 12); and the kill at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.defer import CancelledError

from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.core.stop import (
    ConsoleLine,
    ControlByte,
    Signal,
    StopKind,
    StopMethod,
    Wait,
    stop_steps,
)
from stellarstack.errors import ContainerGone, DockerUnavailable, InvalidState, StellarError, TimedOut
from stellarstack.servers.lane import Step
from stellarstack.servers.ports import try_ports
from stellarstack.servers.server import LOOK_MOST, Server
from stellarstack.servers.start import launch, refuse_not_installed
from stellarstack.servers.truth import doubt, sure
from stellarstack.tasks import within

SIGNAL_WAIT = 2.0  # seconds for the engine to take a signal before the stop goes on without its word
KILL_SENT_WAIT = 5.0  # the same for SIGKILL
KILL_WAIT = 18.0  # seconds from SIGKILL in which the engine tells of the end
KILL_WAIT_LONGER = 30.0  # seconds more where the engine answers, but has much to do
ANSWER_WAIT = 2.0  # seconds in which an engine answers that is not hung


async def stop(server: Server, step: Step, timeout: float | None) -> dict[str, Json]:
    """Brings a server to `stopped`; of one that does not run: `already`. `timeout` in seconds, 0 kills."""
    await sure(server)
    if not server.status.has_process:
        server.rest()
        return {"status": "stopped", "exitCode": server.record.exit_code, "forced": False, "already": True}
    await step.begin()
    forced = await bring_down(server, timeout)
    return {"status": "stopped", "exitCode": server.record.exit_code, "forced": forced}


async def restart(server: Server, step: Step, timeout: float | None) -> dict[str, Json]:
    """Stops and starts; starts one that is stopped."""
    await sure(server)
    refuse_not_installed(server)
    if server.status.has_process:
        await step.begin()
        await bring_down(server, timeout)
        await strike(server)  # what somebody has started by hand meanwhile
    else:
        await server.around.in_thread(try_ports, server.spec.ports)
        await step.begin()
    await launch(server, step)
    return {"status": "running"}


async def kill(server: Server, step: Step) -> dict[str, Json]:
    """Ends a server's process at once; of one that does not run: `already`."""
    await sure(server)
    if not server.status.has_process:
        server.rest()
        return {"status": "stopped", "exitCode": server.record.exit_code, "already": True}
    await step.begin()
    await strike(server)
    return {"status": "stopped", "exitCode": server.record.exit_code}


async def bring_down(server: Server, timeout: float | None) -> bool:
    """Walks the blueprint's way to stop. Answers whether more than its own stop was needed."""
    server.rest()
    if not server.status.has_process:
        return False  # it ended by itself a moment ago
    server.moved(server.lifecycle.stop_began())
    limit = server.spec.blueprint.stop_timeout if timeout is None else timeout
    with _ending(server):
        return await _walk(server, server.spec.blueprint.stop, limit)


async def strike(server: Server) -> None:
    """SIGKILL, and the wait for the end. A container that was never started counts as ended."""
    server.rest()
    if not server.status.has_process:
        return
    server.moved(server.lifecycle.stop_began())
    with _ending(server):
        await _strike(server)


async def typed(server: Server) -> None:
    """Somebody typed the server's stop command: the same as server.stop, but where it goes on it runs again."""
    server.rest()
    server.moved(server.lifecycle.stop_began())
    with server.at_work("stop"):
        if await server.ended_within(server.spec.blueprint.stop_timeout, server.run):
            return
    if server.status is ServerStatus.STOPPING and not server.busy:
        server.want(True)
        starting = server.watch is not None and server.watch.open
        server.moved(server.lifecycle.not_obeyed() if starting else server.lifecycle.found_running())


@contextmanager
def _ending(server: Server) -> Iterator[None]:
    """Whatever breaks a stop off, the state does not stay `stopping` over a process that runs on."""
    try:
        with server.at_work("stop"):
            yield
    except (StellarError, CancelledError):
        server.killing = False
        if server.status.has_process and not server.closing():
            doubt(server, after=1.0)
        raise


async def _walk(server: Server, method: StopMethod, limit: float) -> bool:
    forced, clock, run = False, server.around.clock, server.run
    due = clock.seconds()  # what an engine that hangs takes longer for a signal is taken from the wait after it
    for number, part in enumerate(stop_steps(method, limit)):
        forced = (isinstance(part, Signal) and (number > 0 or limit <= 0) and part.name != "SIGINT") or forced
        match part:
            case Signal("SIGKILL"):
                await _strike(server)
            case Signal(name):
                await _signal(server, name)
            case Wait(seconds):
                due += seconds
                await server.ended_within(max(0.0, due - clock.seconds()), run)
            case _ if not _pressed(server, part):
                instead = StopMethod(StopKind.SIGNAL, method.signal)  # at once, and with all the time (EGGS.md 2)
                return await _walk(server, instead, limit) or method.kind is StopKind.COMMAND
        if server.is_over(run):
            return forced
    return forced


async def _strike(server: Server) -> None:
    server.killing = True
    clock, run = server.around.clock, server.run
    until = clock.seconds() + KILL_WAIT
    try:
        await within(clock, KILL_SENT_WAIT, "SIGKILL", server.around.hands.kill(server.container_name, "SIGKILL"))
        await server.glance(LOOK_MOST)
    except ContainerGone:
        server.note_end(None)
        return
    except TimedOut as error:
        if not await _answers(server):
            raise TimedOut(f"server {server.id} could not be killed: the engine does not answer") from None
        server.note(f"{error}; it may have come all the same")
    if await server.ended_within(max(LOOK_MOST, until - clock.seconds()), run):
        return
    if not (await _answers(server) and await server.ended_within(KILL_WAIT_LONGER, run)):
        raise TimedOut(f"server {server.id} did not end within {KILL_WAIT:g} s of SIGKILL; is the engine healthy?")


async def _answers(server: Server) -> bool:
    """Whether the engine is busy rather than hung."""
    try:
        await within(server.around.clock, ANSWER_WAIT, "the engine", server.around.engine.version())
    except StellarError:
        return False
    return True


def _pressed(server: Server, part: ConsoleLine | ControlByte) -> bool:
    """Whether there is a terminal to type into."""
    try:
        if isinstance(part, ConsoleLine):
            server.console.enter(part.text)
        else:
            server.console.type(part.byte)
    except InvalidState:
        server.note("its terminal is not attached; the stop goes on with a signal")
        return False
    return True


async def _signal(server: Server, name: str) -> None:
    try:
        sent = server.around.hands.kill(server.container_name, name)
        await within(server.around.clock, SIGNAL_WAIT, name, sent)
    except ContainerGone:
        server.note_end(None)
    except (DockerUnavailable, TimedOut) as error:
        server.note(f"{name} could not be sent: {error}")
