"""Reads daemon.toml strictly: what is not known or not in bounds is one clear line, never a guess (PROTOCOL 2)."""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from stellarstack.config import Config, Secret
from stellarstack.config_checks import check_together
from stellarstack.core.redis_url import parse_redis_url
from stellarstack.errors import ConfigError

SIZE_LIMIT = 2**20

# environment variable -> the section and key that it overrides; an empty one counts as absent
ENVIRONMENT = {
    "NODE_ID": ("node", "id"),
    "NODE_API_TOKEN": ("node", "api_token"),
    "REDIS_URL": ("redis", "url"),
    "CONTROL_PLANE_URL": ("control_plane", "url"),
    "JWT_SECRET": ("auth", "jwt_secret"),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", list: "a list"}

_T = TypeVar("_T")


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Reads the file, lays the environment over it and checks all. Relative paths count from the file's folder.

    Raises ConfigError: one line that names file, section, key, what was found and what is allowed.
    """
    table = _parse(path)
    places = _overlay(table, environ)
    config = _Reader(path, places).section(Config, table, ())
    _check_redis_url(config, _place(path, places, ("redis", "url")))
    check_together(config, path)
    return config


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(raw) > SIZE_LIMIT:
        raise ConfigError(f"{path}: found more than {SIZE_LIMIT} bytes, allowed is a file of {SIZE_LIMIT} at most")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: found bytes that are no UTF-8 in line {line}, allowed is TOML in UTF-8") from None
    except (ValueError, RecursionError) as error:  # a plain ValueError: a number of thousands of digits
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: found no valid TOML: {reason}; allowed is TOML 1.0") from None


def _overlay(table: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Puts the variables into `table`; answers which key came from which variable."""
    places: dict[tuple[str, ...], str] = {}
    for variable, (section, key) in ENVIRONMENT.items():
        value = environ.get(variable, "")
        if value and isinstance(table.setdefault(section, {}), dict):
            table[section][key] = value
            places[section, key] = variable
    return places


class _Reader:
    """Turns tables into dataclasses. `where` is the way to a value: (section, key) or (section, table, name, key)."""

    def __init__(self, path: Path, places: Mapping[tuple[str, ...], str]) -> None:
        self._path = path
        self._places = places

    def section(self, cls: type[_T], table: object, where: tuple[str, ...]) -> _T:
        if not isinstance(table, dict):
            self._refuse(where, _kind_of(table), "a section", brackets=True)
        known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
        for name in table:
            if name not in known:
                self._unknown(where, name, list(known))
        hints = get_type_hints(cls)
        values = {
            name: self._value(field, hints[name], table[name], (*where, name))
            for name, field in known.items()
            if name in table
        }
        for name, field in known.items():
            if name not in table and field.default is MISSING and field.default_factory is MISSING:
                self._refuse((*where, name), "nothing", "needed here")
        return cls(**values)

    def _value(self, field: Field[Any], hint: Any, value: object, where: tuple[str, ...]) -> Any:
        if get_origin(hint) in (Union, types.UnionType):
            hint = next(part for part in get_args(hint) if part is not type(None))
        if is_dataclass(hint) and isinstance(hint, type):
            return self.section(hint, value, where)
        if get_origin(hint) is Mapping:
            return self._named(get_args(hint)[1], value, where)
        if get_origin(hint) is tuple:
            return self._strings(value, where)
        if hint in (int, float, bool):
            return self._scalar(field, hint, value, where)
        return self._text(field, hint, value, where)

    def _named(self, cls: type[Any], value: object, where: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._refuse(where, _kind_of(value), "sections by name", brackets=True)
        for name in value:
            if not _NAME.fullmatch(name):
                self._refuse(where, f"the name {_shown(name)}", "1–128 of letters, digits and _ . : / -", brackets=True)
        return {name: self.section(cls, entry, (*where, name)) for name, entry in value.items()}

    def _strings(self, value: object, where: tuple[str, ...]) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self._refuse(where, _kind_of(value), "a list of strings")
        return tuple(value)

    def _scalar(self, field: Field[Any], hint: type, value: object, where: tuple[str, ...]) -> bool | int | float:
        low, high = field.metadata["low"], field.metadata["high"]
        allowed = _KINDS[hint]
        if low is not None:
            allowed += f" from {low:g} to {high:g}" if hint is float else f" from {low} to {high}"
        if hint is float and type(value) is int:
            value = float(value)
        if type(value) is not hint:
            self._refuse(where, _kind_of(value), allowed)
        # written so that `nan` is out of bounds
        if low is not None and not low <= value <= high:
            self._refuse(where, f"{value}", allowed)
        return value  # type: ignore[return-value]

    def _text(self, field: Field[Any], hint: type, value: object, where: tuple[str, ...]) -> Any:
        allowed = "a path" if hint is Path else "a network such as 10.213.0.0/16" if hint is IPv4Network else "a string"
        if not isinstance(value, str):
            self._refuse(where, _kind_of(value), allowed)
        if not value or "\0" in value:
            self._refuse(where, "an empty string" if not value else "a NUL in the string", allowed)
        if hint is Secret:
            return self._secret(field, value, where)
        if hint is Path:
            return self._path.absolute().parent / value
        if hint is IPv4Network:
            return self._network(value, where, allowed)
        return self._string(field, value, where)

    def _string(self, field: Field[Any], value: str, where: tuple[str, ...]) -> str:
        choices, pattern = field.metadata["one_of"], field.metadata["matches"]
        if choices and value not in choices:
            self._refuse(where, _shown(value), " | ".join(choices) + _did_you_mean(value, choices))
        if pattern and not re.fullmatch(pattern, value):
            self._refuse(where, _shown(value), f"a string of the form {pattern}")
        return value

    def _secret(self, field: Field[Any], value: str, where: tuple[str, ...]) -> Secret:
        least = field.metadata["bytes_min"]
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            self._refuse(where, "a value that is no UTF-8", "a secret in UTF-8")
        if size < least:
            self._refuse(where, f"a secret of {size} bytes", f"{least} bytes or more")
        if field.metadata["one_line"] and not value.isprintable():
            self._refuse(where, "a control character in the secret", "one line of letters, digits and signs")
        return Secret(value)

    def _network(self, value: str, where: tuple[str, ...], allowed: str) -> IPv4Network:
        try:
            network = IPv4Network(value)
        except ValueError:
            self._refuse(where, _shown(value), allowed)
        if network.prefixlen > 28:
            self._refuse(where, _shown(value), "a network of /28 or wider, since each server takes a /28 of it")
        return network

    def _unknown(self, where: tuple[str, ...], name: str, known: list[str]) -> NoReturn:
        kind = "key" if where else "section"
        found = f"the unknown {kind} {_shown(name)}"
        self._refuse(where, found, ", ".join(known) + _did_you_mean(name, known), brackets=True)

    def _refuse(self, where: tuple[str, ...], found: str, allowed: str, *, brackets: bool = False) -> NoReturn:
        """`brackets`: `where` is a section, else its last part is a key."""
        place = _place(self._path, self._places, where)
        if where and (brackets or len(where) == 1):
            place += f": [{'.'.join(where)}]"
        elif where:
            place += f": [{'.'.join(where[:-1])}] {where[-1]}"
        raise ConfigError(f"{place}: found {found}, allowed is {allowed}")


def _place(path: Path, places: Mapping[tuple[str, ...], str], where: tuple[str, ...]) -> str:
    """The file, or the environment variable that stands over it."""
    variable = places.get(where)
    return f"environment variable {variable}" if variable else str(path)


def _kind_of(value: object) -> str:
    if isinstance(value, dict):
        return "a section"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _shown(value: str) -> str:
    """A value for an error line: one short line, and never what may be a secret in the wrong place."""
    if value.startswith("strk_") or "@" in value:
        return "a value that looks like a secret"
    return repr(value if len(value) <= 60 else value[:57] + "…")


def _did_you_mean(name: str, known: list[str] | tuple[str, ...]) -> str:
    close = get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_redis_url(config: Config, place: str) -> None:
    try:
        parse_redis_url(config.redis.url.reveal(), require_tls=config.redis.require_tls)
    except ConfigError as error:
        raise ConfigError(f"{place}: [redis] url: {error}") from None
