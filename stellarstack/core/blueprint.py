"""What a kind of game server is: images, startup, ready check, stop, variables (PROTOCOL 12). Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from zlib import crc32

from stellarstack.core import plain
from stellarstack.core.crash import CrashPolicy
from stellarstack.core.messages import Json
from stellarstack.core.ready import ReadyCheck
from stellarstack.core.stop import StopMethod
from stellarstack.errors import BlueprintInvalid

EGG_ROOT = "/home/container"
NATIVE_ROOT = "/data"
STOP_TIMEOUT = 30.0
BLUEPRINT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """An image under the name that people choose it by."""

    label: str
    image: str


@dataclass(frozen=True, slots=True)
class Limits:
    """MB, cores, processes; None: the blueprint says nothing, 0: no limit (of swap: none to be had)."""

    memory_mb: int | None = None
    swap_mb: int | None = None
    cpu: float | None = None
    disk_mb: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class PortHint:
    """A port that the game listens on. `protocol` is tcp, udp or both."""

    container: int
    protocol: str = "both"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that can be set per server.

    `key` is how the blueprint spells it, `env` how the container sees it (eggs: in capitals). `rules` are single rules
    of the vocabulary of `core.rules`.
    """

    key: str
    env: str
    default: str = ""
    rules: tuple[str, ...] = ()
    name: str = ""
    description: str = ""
    user_viewable: bool = True
    user_editable: bool = True


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder that outlives the container. `subfolder`: its place under the server's root, empty: the root itself."""

    container: str
    subfolder: str = ""
    description: str = ""
    backup: bool = True


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """The script that fills the server's root: `entrypoint` + the path of the script. `root`: it must be root."""

    image: str
    script: str
    entrypoint: tuple[str, ...] = ("bash",)
    timeout: float = 1800.0
    root: bool = False


@dataclass(frozen=True, slots=True)
class Replacement:
    """One value to put into a config file at `key`; with `if_value` only where that stands there now."""

    key: str
    value: Json
    if_value: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file under the server's root that is patched at every start. `parser` is one of `core.configfiles.PARSERS`."""

    path: str
    parser: str
    replacements: tuple[Replacement, ...] = ()
    create: bool = True


@dataclass(frozen=True, slots=True)
class VersionChoice:
    """A version on offer: `tag` takes the place of the image's tag."""

    tag: str
    name: str = ""
    recommended: bool = False


@dataclass(frozen=True, slots=True)
class Feature:
    """Something a panel offers help with; `patterns` are lines that call for it (any case)."""

    name: str
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A whole blueprint, checked. `startup`: a shell line, words to exec, or None for the image's own command.

    Of an egg `startup` is what goes into STARTUP, as it is. `workdir` empty: the server's root where there is a
    `startup`, else the image's own. `init`: a small init as first process, so that signals reach the game.
    """

    id: str
    name: str
    egg: bool = False
    description: str = ""
    version: str = ""
    author: str = ""
    images: tuple[ImageChoice, ...] = ()
    startup: str | tuple[str, ...] | None = None
    startups: tuple[ImageChoice, ...] = ()
    workdir: str = ""
    init: bool = True
    ready: ReadyCheck = field(default_factory=ReadyCheck)
    stop: StopMethod = field(default_factory=StopMethod)
    stop_timeout: float = STOP_TIMEOUT
    limits: Limits = field(default_factory=Limits)
    ports: tuple[PortHint, ...] = ()
    variables: tuple[Variable, ...] = ()
    volumes: tuple[Volume, ...] = (Volume(NATIVE_ROOT),)
    install: InstallPlan | None = None
    config_files: tuple[ConfigFile, ...] = ()
    crash: CrashPolicy = field(default_factory=CrashPolicy)
    versions: tuple[VersionChoice, ...] = ()
    file_denylist: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()

    @property
    def root(self) -> str:
        """Where the server's root stands in the container."""
        return self.volumes[0].container

    def variable(self, key: str) -> Variable | None:
        """By its key as spelt, else by any spelling of its case."""
        exact = [variable for variable in self.variables if variable.key == key]
        other = [variable for variable in self.variables if variable.key.upper() == key.upper()]
        return next(iter(exact or other), None)

    def to_json(self) -> dict[str, Json]:
        """All of it, for the store; `from_json` reads it back."""
        return cast("dict[str, Json]", plain.dump(self))

    @staticmethod
    def from_json(document: Mapping[str, Json]) -> Blueprint:
        """What `to_json` wrote. BlueprintInvalid: it is no such document."""
        try:
            return plain.load(Blueprint, document)
        except (ValueError, TypeError) as error:
            raise BlueprintInvalid(f"a stored blueprint cannot be read: {error}") from error


def parse_blueprint(document: Mapping[str, Json], *, default_id: str = "") -> Blueprint:
    """Reads a blueprint of either native shape or an egg. BlueprintInvalid names the key.

    `default_id` (the file's name without its ending, say) counts where the document has no `id`; else one is made
    from its name.
    """
    # Both build on the dataclasses of this module.
    from stellarstack.core.egg import is_egg, parse_egg
    from stellarstack.core.native import parse_native

    if not isinstance(document, Mapping):
        raise BlueprintInvalid("a blueprint must be an object")
    return parse_egg(document, default_id) if is_egg(document) else parse_native(document, default_id)


def blueprint_id(given: str, default_id: str, name: str) -> str:
    """The id to use. BlueprintInvalid where none of the three makes one (P05: an id becomes a file name)."""
    found = given or default_id or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-")
    if not found and name:
        found = f"blueprint-{crc32(name.encode('utf-8', 'replace')):08x}"
    if not BLUEPRINT_ID.fullmatch(found):
        raise BlueprintInvalid(f"id: must be 1 to 64 letters, digits and _ . - with no sign first, not {found!r:.80}")
    return found
