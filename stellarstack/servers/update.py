"""Another config for a server: at once where the engine can change its container, else from its next start on.

`server.update` of PROTOCOL 4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from stellarstack.core.change import change
from stellarstack.core.container_spec import UpdatePlan, update_body
from stellarstack.core.messages import Json
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import ContainerGone, StellarError
from stellarstack.servers.lane import Step
from stellarstack.servers.neighbours import added_ports
from stellarstack.servers.placement import placement_of
from stellarstack.servers.ports import try_ports
from stellarstack.servers.server import Server
from stellarstack.servers.steady import steady
from stellarstack.servers.truth import measure, sure

Room = Callable[[ServerSpec], AbstractContextManager[None]]


async def update(
    server: Server,
    config: Mapping[str, Json],
    step: Step,
    *,
    room: Room,
    fence: Callable[[Server], Awaitable[None]] | None = None,
) -> dict[str, Json]:
    """Answers `applied` and `pending`: the keys of `config` that hold from now on, and those that wait for a start.

    A key that changes nothing is in neither. Of a server that does not run all is applied. `warnings`, where there are
    any, are the engine's. `room` holds the new ports meanwhile (PortInUse); `fence` puts the new disk limit in force,
    without it that waits.

    InvalidPayload: the config cannot be. EngineRefused: a limit cannot be had now, say less memory than is in use;
    nothing has changed then.
    """
    new = change(server.spec, {"config": dict(config)}, allow_unlimited=server.around.docker.allow_unlimited)
    if new == server.spec:
        return _answer((), ())
    await sure(server)
    with room(new):
        await server.around.in_thread(try_ports, added_ports(new.ports, server.held.ports))
        await step.begin()
        plan = update_body(server.spec, new, placement_of(server))
        warnings = await _change_container(server, plan)
        live = warnings is not None
        server.keep(replace(server.record, spec=new))
    if "network" in plan.waits and not server.status.has_process:
        await server.around.bridges.left_behind(server)
    if fence is not None and "disk" in plan.waits:
        await fence(server)
        plan = replace(plan, at_once=(*plan.at_once, "disk"), waits=tuple(key for key in plan.waits if key != "disk"))
    if live:
        await _measure_anew(server)
        return _answer(plan.at_once, plan.waits, warnings or ())
    return _answer((*plan.at_once, *plan.waits), ())


async def _change_container(server: Server, plan: UpdatePlan) -> Sequence[str] | None:
    """The engine's warnings; None: no container runs, and the next one is made with the new config anyway."""
    container = server.record.container_id
    if not server.status.has_process or container is None:
        return None
    if not plan.live:
        return ()
    around = server.around
    try:
        return await steady(around.clock, "an update", _ask(server, container, plan))
    except ContainerGone:
        return None


async def _ask(server: Server, container: str, plan: UpdatePlan) -> Sequence[str]:
    return await server.around.engine.update_container(container, plan.live)


async def _measure_anew(server: Server) -> None:
    """The gauges know the memory's limit; where the engine does not answer now, the next look tells them."""
    try:
        state = await server.around.engine.inspect(server.container_name)
    except StellarError as error:
        server.note(f"its container cannot be looked at: {error}")
        return
    if state.running and state.id == server.record.container_id and server.status.has_process:
        measure(server, state)


def _answer(applied: Sequence[str], pending: Sequence[str], warnings: Sequence[str] = ()) -> dict[str, Json]:
    answer: dict[str, Json] = {"applied": list(applied), "pending": list(pending)}
    return {**answer, "warnings": list(warnings)} if warnings else answer
