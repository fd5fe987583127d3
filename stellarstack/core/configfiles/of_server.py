"""Patches one server's config files: its own values for its blueprint's placeholders. Performs no I/O."""

from __future__ import annotations

import re
from dataclasses import replace

from stellarstack.core.blueprint import ConfigFile
from stellarstack.core.configfiles import patch
from stellarstack.core.placeholders import egg_value, expand, native_value
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import BlueprintInvalid, PathForbidden, TooLarge

_SHELL_NAME = re.compile(r"\$\{([A-Za-z0-9_]{1,191})\}")
_PATH_MOST = 4096


def patch_file(spec: ServerSpec, file: ConfigFile, content: bytes | None, *, interface: str = "") -> bytes:
    """The new content of `file`, None being that of a file that is not there. Call it in a thread.

    `interface`: the node's address in the server's network (`{{config.docker.interface}}`). BlueprintInvalid and
    TooLarge name the file; it is to be left as it is, and the server not to be started.
    """
    values = spec.values(interface)
    native = replace(values, env=spec.env)

    def look_up(name: str) -> str | None:
        return egg_value(values, name) if spec.blueprint.egg else native_value(native, name)

    try:
        return patch(file.parser, content, file.replacements, look_up)
    except (BlueprintInvalid, TooLarge) as error:
        raise type(error)(f"{file.path}: {error}") from error


def file_path(spec: ServerSpec, file: ConfigFile) -> str:
    """Where `file` stands below the server's root, `{{NAME}}` and `${NAME}` of its variables put in.

    PathForbidden: a variable leads it elsewhere. Whoever opens it still follows no link out of the root.
    """
    values = spec.values()

    def look_up(name: str) -> str | None:
        return values.variable(name.removeprefix("env.").removeprefix("server.build.env."))

    path = expand(file.path, look_up)
    if path == file.path:
        path = _SHELL_NAME.sub(lambda found: look_up(found[1]) or "", file.path)
    path = path.lstrip("/")
    if not path or len(path) > _PATH_MOST or re.search(r"[\x00-\x1f\x7f]", path) or ".." in path.split("/"):
        raise PathForbidden(f"{file.path:.80}: leads to no place below the server's root")
    return path
