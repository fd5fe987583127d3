"""What may go wrong with a blueprint that can be read: told at its import, not when a customer's server hangs.

Performs no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from stellarstack.core.blueprint import Blueprint, Variable
from stellarstack.core.images import parse_image
from stellarstack.core.placeholders import Values, egg_value, unknown_names
from stellarstack.core.ports import PortMapping
from stellarstack.core.ready import LinePattern, ReadyKind
from stellarstack.core.rules import broken_rule
from stellarstack.core.spec import ServerConfig, resolve
from stellarstack.errors import BlueprintInvalid, InvalidPayload

# What authors of templates leave where nobody knew a line to wait for.
_PLACEHOLDER = re.compile(
    r"(?i)change (?:this|me)|changeme|no idea|(?:put|text|string|line) (?:goes )?here|replace (?:this|me)|placeholder"
)
_STARTUP_NAME = re.compile(r"\{\{\s?([A-Za-z_][A-Za-z0-9_]*)\s?\}\}")
_GIVEN = frozenset({"TZ", "HOME", "STARTUP", "P_SERVER_UUID", "SERVER_IP", "SERVER_PORT", "SERVER_MEMORY"})
_TRIAL_PORT = 25565


def needed_variables(blueprint: Blueprint) -> tuple[str, ...]:
    """Keys of the variables whose default breaks their own rules: each order must set them."""
    return tuple(item.key for item in blueprint.variables if broken_rule(item.rules, item.default))


def advice(blueprint: Blueprint) -> tuple[str, ...]:
    """One line for each thing that its reader should know before servers are made of it; none of them forbids it."""
    tellers = (_images, _ready, _variables, _startup, _config_files, _install, _trial)
    return tuple(line for teller in tellers for line in teller(blueprint))


def _images(blueprint: Blueprint) -> Iterator[str]:
    if not blueprint.images:
        yield "no image: no server can be made of it"
    for choice in blueprint.images:
        try:
            parse_image(choice.image)
        except BlueprintInvalid as error:
            yield f"image: {error}"


def _ready(blueprint: Blueprint) -> Iterator[str]:
    if blueprint.ready.kind is not ReadyKind.LOG:
        return
    patterns = blueprint.ready.patterns
    for pattern in patterns:
        if not pattern.text:
            yield "ready: an empty done pattern is met by the first line that is printed"
        elif pattern.text.startswith("regex:") and not pattern.regex:
            yield f"ready: {pattern.text!r:.80} is no expression that can be run; it is looked for as it is written"
    if patterns and all(_is_placeholder(pattern) for pattern in patterns):
        limit = f"{blueprint.ready.timeout:g} s" if blueprint.ready.timeout else "it is stopped"
        yield (
            f"ready: the done pattern {patterns[0].text!r:.60} is a placeholder that never matches; a server stays "
            f"`starting` until {limit}"
        )


def _is_placeholder(pattern: LinePattern) -> bool:
    return bool(_PLACEHOLDER.search(pattern.text))


def _variables(blueprint: Blueprint) -> Iterator[str]:
    for key in needed_variables(blueprint):
        variable = blueprint.variable(key)
        rule = broken_rule(variable.rules, variable.default) if variable is not None else None
        yield f"variable {key}: its default breaks the rule {rule!r:.120}, so every server must be given one"
    seen: dict[str, Variable] = {}
    for variable in blueprint.variables:
        if variable.env in seen:
            yield f"variables {seen[variable.env].key} and {variable.key} are the same one to the container"
        seen[variable.env] = variable


def _startup(blueprint: Blueprint) -> Iterator[str]:
    """An egg's line is put in by its image; what no variable answers becomes empty there."""
    if not blueprint.egg:
        return
    if not blueprint.startup:
        yield "startup: there is no command; what runs is up to the image"
        return
    for name in dict.fromkeys(_STARTUP_NAME.findall(str(blueprint.startup))):
        if blueprint.variable(name) is None and name not in _GIVEN:
            yield f"startup: {{{{{name}}}}} is no variable; unless the image sets it, it is empty"


def _config_files(blueprint: Blueprint) -> Iterator[str]:
    if not blueprint.egg:
        return
    values = Values("", "0.0.0.0", 1, 1, {item.key: "x" for item in blueprint.variables}, "x", "x")
    for file in blueprint.config_files:
        if not file.replacements:
            yield f"config file {file.path}: nothing in it is replaced; it is only made where it is missing"
        texts = [item.value for item in file.replacements if isinstance(item.value, str)]
        for name in dict.fromkeys(name for text in texts for name in unknown_names(text, lambda _: None)):
            found = egg_value(values, name)
            if found is None:
                yield f"config file {file.path}: {{{{{name}}}}} is not known and stays as it is written"
            elif not found:
                yield f"config file {file.path}: {{{{{name}}}}} is not known and becomes empty"


def _install(blueprint: Blueprint) -> Iterator[str]:
    plan = blueprint.install
    if plan is None:
        return
    if plan.image:
        try:
            parse_image(plan.image)
        except BlueprintInvalid as error:
            yield f"install image: {error}"
    else:
        yield "install: no image is named; the script runs in the server's own"


def _trial(blueprint: Blueprint) -> Iterator[str]:
    """A server made of it with nothing ordered but a port, rules aside."""
    if not blueprint.images:
        return
    plain = replace(blueprint, variables=tuple(replace(item, rules=()) for item in blueprint.variables))
    ports = (PortMapping(_TRIAL_PORT, blueprint.ports[0].container if blueprint.ports else _TRIAL_PORT),)
    try:
        resolve("trial", "", plain, ServerConfig(ports=ports), allow_unlimited=True)
    except InvalidPayload as error:
        yield f"with its defaults no server can be made of it: {error}"
    except BlueprintInvalid as error:
        if "is no image name" not in str(error):
            yield f"no server can be made of it: {error}"
