"""One server, resolved: a blueprint, what was ordered and this node's rules made into fixed values. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from stellarstack.core import plain
from stellarstack.core.blueprint import Blueprint, Limits
from stellarstack.core.environment import environment_of, native_environment_names
from stellarstack.core.identifiers import SERVER_ID
from stellarstack.core.images import parse_image
from stellarstack.core.messages import Json
from stellarstack.core.placeholders import Values, expand, expand_shell, native_value, unknown_names
from stellarstack.core.ports import PortMapping, address_inside, port_inside, ports_of, read_ports
from stellarstack.core.reading import Fields
from stellarstack.errors import BlueprintInvalid, InvalidPayload

NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
DEFAULT_LIMITS = Limits(memory_mb=1024, swap_mb=0, cpu=1.0, disk_mb=10240, pids=512)
MEMORY_LEAST_MB = 16
_MB_MOST = 1 << 30


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """`config` of server.create (PROTOCOL 4), checked. None: not said. `env` values are not checked by rules yet."""

    limits: Limits = field(default_factory=Limits)
    ports: tuple[PortMapping, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    blkio_weight: int | None = None
    network: str | None = None

    def to_json(self) -> dict[str, Json]:
        return cast("dict[str, Json]", plain.dump(self))

    @staticmethod
    def from_json(document: Mapping[str, Json]) -> ServerConfig:
        return plain.load(ServerConfig, document)


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """All that the household needs to run a server. Limits are final: 0 means none (of swap: no swap).

    `env` is the container's whole environment; `variables` the blueprint's own, as it spells them, for config files.
    `command`: a shell line, words to exec, or None for the image's own. `network`: the one that it shares with other
    servers, empty: a bridge of its own.
    """

    server_id: str
    name: str
    blueprint: Blueprint
    image: str
    install_image: str
    command: str | tuple[str, ...] | None
    env: Mapping[str, str]
    variables: Mapping[str, str]
    ports: tuple[PortMapping, ...]
    memory_mb: int
    swap_mb: int
    cpu: float
    disk_mb: int
    pids: int
    blkio_weight: int | None = None
    version: str | None = None
    network: str = ""

    @property
    def primary(self) -> PortMapping | None:
        return self.ports[0] if self.ports else None

    @property
    def ip(self) -> str:
        """What the game may bind to: its own container has every address that is forwarded to it."""
        return address_inside(self.ports)

    @property
    def port(self) -> int:
        """The primary port as the game sees it, 0 where there is none."""
        return port_inside(self.blueprint, self.ports)

    @property
    def subfolders(self) -> tuple[str, ...]:
        """Folders of the root that are mounted on their own. Whoever mounts them sees to it that none is a link."""
        root = f"{self.blueprint.root}/"
        return tuple(item.subfolder for item in self.blueprint.volumes[1:] if not item.container.startswith(root))

    def values(self, interface: str = "") -> Values:
        """What placeholders in config files may be replaced by. `interface`: the node's address in its network."""
        return Values(self.server_id, self.ip, self.port, self.memory_mb, self.variables, self.name, interface)

    def to_json(self) -> dict[str, Json]:
        """All of it, for the store; `from_json` reads it back."""
        return cast("dict[str, Json]", plain.dump(self))

    @staticmethod
    def from_json(document: Mapping[str, Json]) -> ServerSpec:
        """What `to_json` wrote. BlueprintInvalid: it is no such document."""
        try:
            return plain.load(ServerSpec, document)
        except (ValueError, TypeError) as error:
            raise BlueprintInvalid(f"a stored server cannot be read: {error}") from error


# ------------------------------------------------------------------ what was ordered


def parse_server_config(payload: Mapping[str, Json]) -> ServerConfig:
    """Reads `config` of a server.create payload (absent: all defaults). InvalidPayload names the key."""
    config = Fields(payload, InvalidPayload).object("config")
    return ServerConfig(
        limits=_limits(config),
        ports=read_ports(config),
        env=_environment(config),
        blkio_weight=config.integer("blkioWeight", None, 10, 1000) if config.has("blkioWeight") else None,
        network=_network(config) if config.has("network") else None,
    )


def _network(config: Fields) -> str:
    """The name of a shared network; empty: a bridge of its own."""
    found = config.text("network", "", most=256)
    if found and not NETWORK.fullmatch(found):
        raise config.refuse("network", f"must be letters, digits and _ - (63 at most), not {found!r:.80}")
    return found


def _limits(config: Fields) -> Limits:
    def number(key: str, low: int, most: int) -> int | None:
        return config.integer(key, None, low, most) if config.has(key) else None

    memory = number("memory", 0, _MB_MOST)
    if memory and memory < MEMORY_LEAST_MB:
        raise config.refuse("memory", f"must be at least {MEMORY_LEAST_MB} MB (0: no limit), not {memory}")
    cpu = config.number("cpu", None, 0, 4096) if config.has("cpu") else None
    if cpu and cpu < 0.01:
        raise config.refuse("cpu", f"must be at least 0.01 cores (0: no limit), not {cpu:g}")
    return Limits(
        memory_mb=memory,
        swap_mb=number("swap", -1, _MB_MOST),
        cpu=cpu,
        disk_mb=number("disk", 0, _MB_MOST),
        pids=number("pids", 0, 1 << 22),
    )


def _environment(config: Fields) -> dict[str, str]:
    found = config.mapping("env", most=2000)
    return {key: _environment_value(config, key, value) for key, value in found.items() if value is not None}


def _environment_value(config: Fields, key: str, value: Json) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int | float):
        return str(value)
    raise config.refuse(f"env.{key:.80}", "must be a string, a number or a boolean")


# ------------------------------------------------------------------ resolve


def resolve(
    server_id: str,
    name: str,
    blueprint: Blueprint,
    config: ServerConfig,
    version: str | None = None,
    *,
    allow_unlimited: bool = False,
) -> ServerSpec:
    """The spec of a server. InvalidPayload names the key of the order, BlueprintInvalid that of the blueprint.

    `allow_unlimited`: whether this node lets a limit be 0 (none).
    """
    if not SERVER_ID.fullmatch(server_id):
        raise InvalidPayload(f"serverId: must be letters, digits and _ . - (64 at most), not {server_id!r:.80}")
    limits = final_limits(blueprint.limits, config.limits, allow_unlimited)
    memory = cast(int, limits.memory_mb)
    image = _image(blueprint, version)
    ports = config.ports if config.ports is not None else ports_of(blueprint)
    env, variables = environment_of(
        blueprint,
        config.env,
        server_id=server_id,
        memory=memory,
        ip=address_inside(ports),
        port=port_inside(blueprint, ports),
    )
    check_config_names(blueprint, variables, env)
    spec = ServerSpec(
        server_id=server_id,
        name=name or server_id,
        blueprint=blueprint,
        image=image,
        install_image=_install_image(blueprint, image),
        command=None,
        env=env,
        variables=variables,
        ports=ports,
        memory_mb=memory,
        swap_mb=cast(int, limits.swap_mb),
        cpu=cast(float, limits.cpu),
        disk_mb=cast(int, limits.disk_mb),
        pids=cast(int, limits.pids),
        blkio_weight=config.blkio_weight,
        version=version,
        network=config.network or "",
    )
    return replace(spec, command=command_of(spec))


def final_limits(blueprint: Limits, ordered: Limits, allow_unlimited: bool) -> Limits:
    """All five set. InvalidPayload: an ordered one is none, and this node wants one."""
    return Limits(
        memory_mb=int(
            _limit("memory", ordered.memory_mb, blueprint.memory_mb, DEFAULT_LIMITS.memory_mb, allow_unlimited)
        ),
        swap_mb=_swap(ordered.swap_mb, blueprint.swap_mb, allow_unlimited),
        cpu=_limit("cpu", ordered.cpu, blueprint.cpu, DEFAULT_LIMITS.cpu, allow_unlimited),
        disk_mb=int(_limit("disk", ordered.disk_mb, blueprint.disk_mb, DEFAULT_LIMITS.disk_mb, allow_unlimited)),
        pids=int(_limit("pids", ordered.pids, blueprint.pids, DEFAULT_LIMITS.pids, allow_unlimited)),
    )


def _limit(
    key: str, ordered: float | None, blueprint: float | None, default: float | None, allow_unlimited: bool
) -> float:
    """What was ordered, else the blueprint's, else the node's default; a 0 that is not allowed is never taken."""
    if ordered is not None:
        if not ordered and not allow_unlimited:
            raise InvalidPayload(f"config.{key}: 0 (no limit) is not allowed on this node")
        return ordered
    if blueprint or (blueprint == 0 and allow_unlimited):
        return blueprint
    return cast(float, default)


def _swap(ordered: int | None, blueprint: int | None, allow_unlimited: bool) -> int:
    swap = ordered if ordered is not None else blueprint or 0
    if swap < 0 and not allow_unlimited:
        if ordered is not None:
            raise InvalidPayload("config.swap: -1 (no limit) is not allowed on this node")
        return 0
    return swap


def _image(blueprint: Blueprint, version: str | None) -> str:
    if not blueprint.images:
        raise BlueprintInvalid("docker_images: there is none")
    image = blueprint.images[0].image
    if version:
        image = _version_image(blueprint, version, image)
    parse_image(image)
    return image


def _version_image(blueprint: Blueprint, version: str, image: str) -> str:
    for choice in blueprint.images:
        if version in (choice.label, choice.image):
            return choice.image
    for offered in blueprint.versions:
        if version in (offered.tag, offered.name):
            reference = parse_image(image)
            if reference.digest:
                raise InvalidPayload(f"version: the image is fixed by its digest, {version!r:.80} cannot be chosen")
            return f"{reference.repository}:{offered.tag}"
    if version == blueprint.version:
        return image
    offers = [offered.tag for offered in blueprint.versions] or [choice.label for choice in blueprint.images]
    raise InvalidPayload(f"version: must be one of {', '.join(offers)[:500]}, not {version!r:.80}")


def _install_image(blueprint: Blueprint, image: str) -> str:
    if blueprint.install is None:
        return ""
    found = blueprint.install.image or image
    parse_image(found)
    return found


def check_config_names(blueprint: Blueprint, variables: Mapping[str, str], env: Mapping[str, str]) -> None:
    """A native blueprint names only what there is; in an egg, what is not known stays as it is."""
    if blueprint.egg:
        return
    values = Values("", "", 0, 0, {**env, **variables})
    for file in blueprint.config_files:
        for item in file.replacements:
            unknown = (
                unknown_names(item.value, lambda name: native_value(values, name))
                if isinstance(item.value, str)
                else []
            )
            if unknown:
                raise BlueprintInvalid(f"configFiles: {file.path}: {item.key}: {{{{{unknown[0]}}}}} is not known")


def command_of(spec: ServerSpec) -> str | tuple[str, ...] | None:
    """The native startup command with its placeholders put in; an egg's is left to the image's entrypoint."""
    blueprint, command = spec.blueprint, spec.blueprint.startup
    if blueprint.egg or command is None:
        return None
    values = native_environment_names(spec.values(), spec.env)

    def look_up(name: str) -> str | None:
        return native_value(values, name)

    words = [command] if isinstance(command, str) else command
    if unknown := [name for word in words for name in unknown_names(word, look_up)]:
        raise BlueprintInvalid(
            f"startup.command: {{{{{unknown[0]}}}}} is no variable of the blueprint and no server value"
        )
    if isinstance(command, str):
        try:
            return expand_shell(command, look_up)
        except ValueError as error:
            raise BlueprintInvalid(f"startup.command: {error}") from error
    return tuple(expand(word, look_up) for word in command)
