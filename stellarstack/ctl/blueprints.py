"""`stellarctl blueprint`: imports, lists, shows and checks blueprints and eggs, without the daemon's help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from stellarstack.core.advice import advice, needed_variables
from stellarstack.core.blueprint import Blueprint, Limits, Variable
from stellarstack.core.messages import Json
from stellarstack.core.ready import ReadyCheck, ReadyKind
from stellarstack.core.stop import StopKind
from stellarstack.ctl import output
from stellarstack.ctl.blueprint_folder import BlueprintFolder, BlueprintRefused, Sheet, read_sheet

_LINE = 200


class Blueprints:
    """One run of `stellarctl blueprint …`. `folder` is asked for only by the words that need one."""

    def __init__(
        self, options: argparse.Namespace, folder: Callable[[], BlueprintFolder], out: TextIO, err: TextIO
    ) -> None:
        self._options = options
        self._folder = folder
        self._out = out
        self._err = err

    def import_files(self) -> int:
        """Each file is judged by itself; those that are good are taken, whatever the others are."""
        folder, force = self._folder(), self._options.force

        def take(sheet: Sheet) -> None:
            taken, warnings = folder.take(sheet, force=force), advice(sheet.blueprint)
            told = {"id": sheet.blueprint.id, "file": str(sheet.path), "format": sheet.format}
            self._tell({**told, "outcome": taken.outcome, "changes": list(taken.changes), "warnings": list(warnings)},
                       _import_line(told, taken.outcome, taken.changes) + _warning_lines(warnings))  # fmt: skip

        return self._each(take)

    def check(self) -> int:
        """Says what the daemon would understand, and changes nothing."""
        return self._each(lambda sheet: self._tell({"file": str(sheet.path), **summary(sheet)}, text_of(sheet)))

    def list_all(self) -> int:
        """All that is installed; a file that cannot be used stands on standard error and makes the status 1."""
        found = list(self._folder().sheets())
        sheets = sorted((one for one in found if isinstance(one, Sheet)), key=lambda sheet: sheet.blueprint.id)
        if self._options.json:
            output.as_json([_row(sheet) for sheet in sheets], self._out)
        else:
            cells = [tuple(_row(sheet).values())[:5] for sheet in sheets]
            self._out.write(output.table(("BLUEPRINT", "FORMAT", "NAME", "IMAGE", "FILE"), cells))
        return self._refusals([one for one in found if isinstance(one, BlueprintRefused)])

    def show(self) -> int:
        """One that is installed."""
        sheet = self._folder().find(self._options.id)
        self._tell({"file": str(sheet.path), **summary(sheet)}, text_of(sheet))
        return 0

    def _each(self, work: Callable[[Sheet], None]) -> int:
        refused: list[BlueprintRefused] = []
        for path in self._options.files:
            try:
                work(read_sheet(path))
            except BlueprintRefused as error:
                refused.append(error)
        return self._refusals(refused)

    def _refusals(self, refused: list[BlueprintRefused]) -> int:
        for error in refused:
            self._err.write(f"stellarctl: {output.plain(error, 1000)}\n")
        return 1 if refused else 0

    def _tell(self, answer: Mapping[str, Any], text: str) -> None:
        if self._options.json:
            output.as_json(answer, self._out)
        else:
            self._out.write(text)


def _import_line(told: Mapping[str, Any], outcome: str, changes: tuple[str, ...]) -> str:
    words = {"new": "installed", "unchanged": "is installed already, nothing changed", "replaced": "replaced"}[outcome]
    what = f": {', '.join(changes)}" if changes else ""
    return output.plain(f"{told['id']} ({told['format']}) {words}{what}", 1000) + "\n"


def _warning_lines(warnings: tuple[str, ...]) -> str:
    return "".join(f"  warning: {output.plain(line, 400)}\n" for line in warnings)


def _row(sheet: Sheet) -> dict[str, Any]:
    """The first five are the table's columns."""
    blueprint = sheet.blueprint
    return {
        "id": blueprint.id,
        "format": sheet.format,
        "name": blueprint.name,
        "image": blueprint.images[0].image if blueprint.images else None,
        "file": sheet.path.name,
        "version": blueprint.version,
        "variables": len(blueprint.variables),
        "warnings": len(advice(blueprint)),
    }


# ------------------------------------------------------------------ what the daemon understands


def summary(sheet: Sheet) -> dict[str, Any]:
    """All that the daemon reads in it, for programs; scripts only by their size."""
    found = sheet.blueprint.to_json()
    plan = sheet.blueprint.install
    if plan is not None:
        install: dict[str, Json] = {
            "image": plan.image,
            "entrypoint": list(plan.entrypoint),
            "timeout": plan.timeout,
            "root": plan.root,
        }
        found["install"] = {**install, "scriptLines": plan.script.count("\n") + 1}
    return {
        "format": sheet.format,
        **{_camel(key): _camel_keys(value) for key, value in found.items() if key != "egg"},
        "needed": list(needed_variables(sheet.blueprint)),
        "warnings": list(advice(sheet.blueprint)),
    }


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _camel_keys(value: Json) -> Json:
    """`value` with all its keys in the wire's spelling; what a config file is to hold stays as it is."""
    if isinstance(value, list):
        return [_camel_keys(item) for item in value]
    if isinstance(value, dict):
        return {_camel(key): item if key == "value" else _camel_keys(item) for key, item in value.items()}
    return value


def text_of(sheet: Sheet) -> str:
    """The same for people: one fact a line."""
    lines = [f"{sheet.blueprint.id}  {output.plain(sheet.blueprint.name)} ({sheet.format})"]
    for word, facts in _facts(sheet.blueprint):
        for index, fact in enumerate(facts):
            lines.append(f"  {word if not index else '':<14}{output.plain(fact, _LINE)}")
    return "\n".join(lines) + "\n" + _warning_lines(advice(sheet.blueprint))


def _facts(blueprint: Blueprint) -> list[tuple[str, list[str]]]:
    return [
        ("image", [choice.image if choice.label in ("", choice.image) else f"{choice.image}  ({choice.label})"
                   for choice in blueprint.images] or ["none"]),
        ("versions", [offered.tag for offered in blueprint.versions]),
        ("startup", [_startup(blueprint)]),
        ("ready", _ready(blueprint.ready)),
        ("stop", [_stop(blueprint)]),
        ("limits", _limits(blueprint.limits)),
        ("ports", [f"{port.container}/{port.protocol}  {port.description}".rstrip() for port in blueprint.ports]),
        ("variables", [_variable(variable) for variable in blueprint.variables]),
        ("volumes", [volume.container for volume in blueprint.volumes]),
        ("install", _install(blueprint)),
        ("config files", [f"{file.path}  {file.parser}, {len(file.replacements)} replaced"
                          + ("" if file.create else ", only where it is") for file in blueprint.config_files]),
        ("crash", [f"restart, {blueprint.crash.limit} times in {blueprint.crash.window:g} s"
                   if blueprint.crash.restart else "no restart"]),
    ]  # fmt: skip


def _startup(blueprint: Blueprint) -> str:
    if not blueprint.startup:
        return "the image's own command"
    return blueprint.startup if isinstance(blueprint.startup, str) else " ".join(blueprint.startup)


def _ready(ready: ReadyCheck) -> list[str]:
    limit = f", within {ready.timeout:g} s" if ready.timeout else ""
    if ready.kind is ReadyKind.NONE:
        return ["at once"]
    if ready.kind is ReadyKind.LOG:
        return [f"a line {'matches' if one.regex else 'has'} {one.text!r}{limit}" for one in ready.patterns]
    where = f"port {ready.port or 'of the server'}"
    return [f"{where} answers HTTP {ready.path}{limit}" if ready.kind is ReadyKind.HTTP else f"{where} is open{limit}"]


def _stop(blueprint: Blueprint) -> str:
    stop = blueprint.stop
    how = {StopKind.COMMAND: f"types {stop.value!r}", StopKind.CONTROL: f"types Ctrl-{stop.value}"}
    first = how.get(stop.kind, f"sends {stop.value}")
    return f"{first}, SIGTERM after {blueprint.stop_timeout:g} s, then SIGKILL"


def _limits(limits: Limits) -> list[str]:
    rows = (("memory", limits.memory_mb, " MB"), ("swap", limits.swap_mb, " MB"), ("cpu", limits.cpu, " cores"),
            ("disk", limits.disk_mb, " MB"), ("pids", limits.pids, ""))  # fmt: skip
    told = [f"{name} {value:g}{unit}" for name, value, unit in rows if value is not None]
    return [", ".join(told)] if told else []


def _variable(variable: Variable) -> str:
    default = f" = {variable.default!r:.60}" if variable.default else ""
    rules = f"  [{'|'.join(variable.rules)}]" if variable.rules else ""
    return f"{variable.key}{default}{rules}"


def _install(blueprint: Blueprint) -> list[str]:
    plan = blueprint.install
    if plan is None:
        return []
    lines = plan.script.count("\n") + 1
    who = "root with five capabilities" if plan.root else "the server's user"
    image = plan.image or "the server's own image"
    return [f"{' '.join(plan.entrypoint)}, {lines} lines, in {image}, as {who}, within {plan.timeout:g} s"]
