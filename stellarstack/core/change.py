"""Another config for a server that is there: only what is named changes, and all of it is checked anew.

Performs no I/O. `server.update` of PROTOCOL 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from stellarstack.core.blueprint import Blueprint, Limits
from stellarstack.core.environment import environment_of, given_from
from stellarstack.core.messages import Json
from stellarstack.core.ports import address_inside, port_inside
from stellarstack.core.reading import Fields
from stellarstack.core.spec import (
    ServerSpec,
    check_config_names,
    command_of,
    final_limits,
    parse_server_config,
)
from stellarstack.errors import InvalidPayload


def change(spec: ServerSpec, payload: Mapping[str, Json], *, allow_unlimited: bool) -> ServerSpec:
    """The spec that follows from `config` of a server.update payload, in the form of server.create's.

    A key that is absent or null stays as it is; `ports` are replaced as a whole, of `env` only the named ones, where
    null brings a variable back to its default and takes any other key away. InvalidPayload names key, variable, rule.
    """
    config = parse_server_config(payload)
    named = Fields(payload, InvalidPayload).object("config")
    ports = config.ports if config.ports is not None else spec.ports
    limits = _limits(spec, config.limits, allow_unlimited)
    given = _given(spec, named.mapping("env", most=2000), config.env)
    blueprint, memory = spec.blueprint, limits.memory_mb or 0
    env, variables = environment_of(
        blueprint,
        given,
        server_id=spec.server_id,
        memory=memory,
        ip=address_inside(ports),
        port=port_inside(blueprint, ports),
    )
    check_config_names(blueprint, variables, env)
    changed = replace(
        spec,
        env=env,
        variables=variables,
        ports=ports,
        memory_mb=memory,
        swap_mb=limits.swap_mb or 0,
        cpu=limits.cpu or 0,
        disk_mb=limits.disk_mb or 0,
        pids=limits.pids or 0,
        blkio_weight=config.blkio_weight if config.blkio_weight is not None else spec.blkio_weight,
        network=config.network if config.network is not None else spec.network,
    )
    return replace(changed, command=command_of(changed))


def _limits(spec: ServerSpec, ordered: Limits, allow_unlimited: bool) -> Limits:
    """What is ordered, checked; of the rest what the server has, which an older rule of the node may have allowed."""
    checked = final_limits(Limits(), ordered, allow_unlimited)
    kept = {item.name: getattr(spec, item.name) for item in fields(Limits) if getattr(ordered, item.name) is None}
    return replace(checked, **kept)


def _given(spec: ServerSpec, asked: Mapping[str, Json], values: Mapping[str, str]) -> dict[str, str]:
    given = given_from(spec.blueprint, spec.env, spec.variables)
    for key, value in asked.items():
        spelt = _spelt(spec.blueprint, key, asked)
        if spelt != key and spelt in asked:
            continue  # the exact spelling counts
        if value is None:
            given.pop(spelt, None)
        else:
            given[spelt] = values[key]
    return given


def _spelt(blueprint: Blueprint, key: str, asked: Mapping[str, Json]) -> str:
    """As the blueprint spells it, whatever the case of the order."""
    variable = blueprint.variable(key)
    return variable.key if variable is not None else key
