"""`{{…}}` in blueprints: looked up in a closed list, put in once, never looked at again. Performs no I/O.

Nothing of the daemon itself can be named (SECURITY W17, C02): what is on no list stays as it was written or is
refused by whoever asks.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_NAME = re.compile(r"\{\{\s?([A-Za-z0-9_.-]{1,256})\s?\}\}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Values:
    """What placeholders may be replaced by. `env` by the blueprint's spelling of each key; `memory` in MB."""

    server_id: str
    ip: str
    port: int
    memory: int
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    interface: str = ""

    def variable(self, key: str) -> str | None:
        """As spelt, else in any spelling of its case (the container sees eggs' variables in capitals)."""
        if key in self.env:
            return self.env[key]
        return next((value for name, value in self.env.items() if name.upper() == key.upper()), None)


def expand(text: str, look_up: Callable[[str], str | None]) -> str:
    """Each `{{NAME}}` once; what `look_up` answers None to stays as it is."""

    def put(found: re.Match[str]) -> str:
        value = look_up(found[1])
        return found[0] if value is None else value

    return _NAME.sub(put, text)


def unknown_names(text: str, look_up: Callable[[str], str | None]) -> list[str]:
    """The names in `text` that `look_up` does not know, in order."""
    return [name for name in _NAME.findall(text) if look_up(name) is None]


def native_value(values: Values, name: str) -> str | None:
    """PROTOCOL 12: `server.id`, `server.ip`, `server.port`, `server.memory`, or an environment variable's NAME."""
    server = {
        "server.id": values.server_id,
        "server.ip": values.ip,
        "server.port": str(values.port),
        "server.memory": str(values.memory),
        "server.name": values.name,
    }
    if name in server:
        return server[name]
    return values.env.get(name)


def egg_value(values: Values, name: str) -> str | None:
    """EGGS.md 4: names below `server.`, `env.` and `config.` alone; a server's unknown ones are empty, others stay."""
    for prefix in ("server.build.env.", "server.environment.", "env."):
        if name.startswith(prefix):
            key = name.removeprefix(prefix)
            return _built_in(values).get(key) or values.variable(key) or ""
    if name in ("config.docker.interface", "config.docker.network.interface"):
        return values.interface
    if name.startswith("server."):
        return _server_value(values, name.removeprefix("server."))
    return None


def _built_in(values: Values) -> dict[str, str]:
    return {"SERVER_PORT": str(values.port), "SERVER_IP": values.ip, "SERVER_MEMORY": str(values.memory)}


def _server_value(values: Values, name: str) -> str:
    return {
        "build.default.port": str(values.port),
        "allocations.default.port": str(values.port),
        "build.default.ip": values.ip,
        "allocations.default.ip": values.ip,
        "build.memory": str(values.memory),
        "build.memory_limit": str(values.memory),
        "uuid": values.server_id,
        "id": values.server_id,
        "ip": values.ip,
        "port": str(values.port),
        "memory": str(values.memory),
        "name": values.name,
    }.get(name, "")


def expand_shell(command: str, look_up: Callable[[str], str | None]) -> str:
    """As `expand`, for a line that a POSIX shell will run: no value can become part of the shell's language.

    A value of harmless letters is put in as it is. Any other of an environment variable becomes a reference to that
    variable, quoted as the place asks for: outside of quotes it is split into words, as `$NAME` is. ValueError: an
    unsafe value of a name that no shell can refer to.
    """
    pieces: list[str] = []
    quote, index = "", 0
    for found in _NAME.finditer(command):
        literal = command[index : found.start()]
        quote = _quote_after(literal, quote)
        value = look_up(found[1])
        pieces += [literal, found[0] if value is None else _for_shell(found[1], value, quote)]
        index = found.end()
    return "".join([*pieces, command[index:]])


def _for_shell(name: str, value: str, quote: str) -> str:
    if not value or shlex.quote(value) == value:
        return value
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{{{{{name}}}}} cannot stand in a shell command with this value")
    return f"'\"${{{name}}}\"'" if quote == "'" else f"${{{name}}}"


def _quote_after(text: str, quote: str) -> str:
    """Which quote is open behind `text`, `quote` being open before it."""
    escaped = False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
    return quote
