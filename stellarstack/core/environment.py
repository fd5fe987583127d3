"""The environment of a server's containers, and the rules it must keep (PROTOCOL 12, EGGS.md 5). Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from stellarstack.core.blueprint import Blueprint, Variable
from stellarstack.core.placeholders import Values
from stellarstack.core.rules import broken_rule
from stellarstack.errors import InvalidPayload

ENV_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,190}")
ENV_BYTES_MOST = 1 << 20
ENV_VALUE_MOST = 128 << 10  # longer ones the kernel does not take
TIMEZONE = "UTC"


def environment_of(
    blueprint: Blueprint, given: Mapping[str, str], *, server_id: str, memory: int, ip: str, port: int
) -> tuple[dict[str, str], dict[str, str]]:
    """The container's environment, and the variables as the blueprint spells them.

    InvalidPayload names the variable and the rule that it breaks.

    What the daemon says (TZ, STARTUP, SERVER_MEMORY, SERVER_IP, SERVER_PORT) comes first and is never overridden. Keys
    that the blueprint does not know are passed on. `memory` is in MB.
    """
    chosen = {variable.key: _chosen(blueprint, variable, given) for variable in blueprint.variables}
    for key, value in given.items():
        _check_given(key, value, known=blueprint.variable(key) is not None)
    for variable in blueprint.variables:
        _check_variable(variable, chosen[variable.key])
    env = _own(blueprint, server_id, memory, ip, port)
    for variable in blueprint.variables:
        env.setdefault(variable.env, chosen[variable.key])
    for key, value in given.items():
        if blueprint.variable(key) is None:
            env.setdefault(key, value)
    if not blueprint.egg:
        env.setdefault("HOME", blueprint.root)
    if sum(len(key) + len(value.encode("utf-8", "surrogatepass")) + 2 for key, value in env.items()) > ENV_BYTES_MOST:
        raise InvalidPayload(f"config.env: all together is over {ENV_BYTES_MOST} bytes")
    return env, chosen


def given_from(blueprint: Blueprint, env: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """What would give `environment_of` this outcome again: each variable's value, and the keys that were passed on."""
    own = {*_own(blueprint, "", 0, "", 0), *(variable.env for variable in blueprint.variables)}
    if not blueprint.egg and env.get("HOME") == blueprint.root:
        own.add("HOME")
    return {**{key: value for key, value in env.items() if key not in own}, **variables}


def native_environment_names(values: Values, env: Mapping[str, str]) -> Values:
    """`values` for a native startup command: {{NAME}} is whatever the container's environment holds."""
    return replace(values, env=env)


def _own(blueprint: Blueprint, server_id: str, memory: int, ip: str, port: int) -> dict[str, str]:
    env = {"TZ": TIMEZONE} if blueprint.egg else {}
    if blueprint.egg:
        env["STARTUP"] = blueprint.startup if isinstance(blueprint.startup, str) else ""
    env |= {"SERVER_MEMORY": str(memory), "SERVER_IP": ip, "SERVER_PORT": str(port)}
    env["P_SERVER_UUID" if blueprint.egg else "SERVER_ID"] = server_id
    return env


def _chosen(blueprint: Blueprint, variable: Variable, given: Mapping[str, str]) -> str:
    """Given by its key as spelt, else in capitals or any other spelling, else its default."""
    if variable.key in given:
        return given[variable.key]
    for key, value in given.items():
        if blueprint.variable(key) is variable:
            return value
    return variable.default


def _check_variable(variable: Variable, value: str) -> None:
    """The value is never shown: it may be a password."""
    if rule := broken_rule(variable.rules, value):
        label = f" ({variable.name:.80})" if variable.name and variable.name != variable.key else ""
        raise InvalidPayload(f"config.env.{variable.key}{label}: breaks the rule {rule:.200}")


def _check_given(key: str, value: str, *, known: bool) -> None:
    """One environment entry cannot hold a NUL; a newline is refused too, since entries are lines to many a program.

    `known`: the blueprint has this variable, and its reader has checked the name, which may be of any alphabet.
    """
    if not known and not ENV_KEY.fullmatch(key):
        raise InvalidPayload(f"config.env: {key!r:.80} is no name for an environment variable")
    if "\0" in value or "\n" in value or "\r" in value:
        raise InvalidPayload(f"config.env.{key}: must be one line without NUL")
    if len(value) > ENV_VALUE_MOST:
        raise InvalidPayload(f"config.env.{key}: is over {ENV_VALUE_MOST} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidPayload(f"config.env.{key}: is no text")
