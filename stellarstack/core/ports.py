"""The ports of a server: what of the host's is given to it, and what is behind that inside. Performs no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from stellarstack.core.blueprint import Blueprint
from stellarstack.core.messages import Json
from stellarstack.core.reading import Fields
from stellarstack.errors import InvalidPayload

ANY_ADDRESS = "0.0.0.0"
_PORTS_MOST = 256


@dataclass(frozen=True, slots=True)
class PortMapping:
    """One port of the host given to the server. `protocol`: tcp, udp or both; `ip` empty: every address."""

    host: int
    container: int
    protocol: str = "both"
    ip: str = ""

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("tcp", "udp") if self.protocol == "both" else (self.protocol,)


def address_inside(ports: tuple[PortMapping, ...]) -> str:
    """The primary port's address, or any where the server is reached by one that its container does not have."""
    ip = ports[0].ip if ports else ""
    return ip if ip and not ip_address(ip).is_loopback else ANY_ADDRESS


def ports_of(blueprint: Blueprint) -> tuple[PortMapping, ...]:
    """What an order that says nothing of ports gets: those of the blueprint, each with its own number on the host."""
    ports: list[PortMapping] = []
    for hint in blueprint.ports:
        port = PortMapping(hint.container, hint.container, hint.protocol)
        if not any(_overlap(port, other) for other in ports):
            ports.append(port)
    return tuple(ports)


def port_inside(blueprint: Blueprint, ports: tuple[PortMapping, ...]) -> int:
    if ports:
        return ports[0].container
    return blueprint.ports[0].container if blueprint.ports else 0


def read_ports(config: Fields) -> tuple[PortMapping, ...] | None:
    """`ports` of an order's `config`; None: it says nothing of them. InvalidPayload names the key."""
    if not config.has("ports"):
        return None
    found = config.items("ports", most=_PORTS_MOST)
    ports = tuple(_port(config, index, item) for index, item in enumerate(found))
    for index, port in enumerate(ports):
        for earlier in range(index):
            if _overlap(port, ports[earlier]):
                raise config.refuse(f"ports[{index}]", f"{port.host} is taken by ports[{earlier}]")
    return ports


def _overlap(one: PortMapping, other: PortMapping) -> bool:
    same_ip = one.ip == other.ip or not one.ip or not other.ip
    return one.host == other.host and same_ip and bool(set(one.protocols) & set(other.protocols))


def _port(config: Fields, index: int, item: Json) -> PortMapping:
    if isinstance(item, int | float) and not isinstance(item, bool):
        number = Fields({f"ports[{index}]": item}, InvalidPayload, "config").integer(f"ports[{index}]", None, 1, 65535)
        return PortMapping(number, number)
    fields = Fields(item, InvalidPayload, config.path(f"ports[{index}]"))
    host = fields.integer("host", None, 1, 65535)
    return PortMapping(
        host=host,
        container=fields.integer("container", host, 1, 65535),
        protocol=fields.choice("protocol", "both", ("tcp", "udp", "both")),
        ip=_ip(fields),
    )


def _ip(fields: Fields) -> str:
    found = fields.text("ip", "", most=64).strip()
    if not found:
        return ""
    try:
        if "%" in found:
            raise ValueError("a zone")
        return str(ip_address(found))
    except ValueError as error:
        raise fields.refuse("ip", f"must be an IP address, not {found!r}") from error
