"""The ports of a server: what of the host's is given to it, and what is behind that inside. Performs no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from stellarstack.core.addresses import address_of
from stellarstack.core.blueprint import Blueprint
from stellarstack.core.messages import Json
from stellarstack.core.reading import Fields
from stellarstack.errors import InvalidPayload

ANY_ADDRESS = "0.0.0.0"
_PORTS_MOST = 256


@dataclass(frozen=True, slots=True)
class PortMapping:
    """One port of the host given to the server. `protocol`: tcp, udp or both; `ip`: of the host, empty: every one."""

    host: int
    container: int
    protocol: str = "both"
    ip: str = ""

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("tcp", "udp") if self.protocol == "both" else (self.protocol,)


def clash_between(wanted: Iterable[PortMapping], held: Iterable[PortMapping]) -> PortMapping | None:
    """The first wanted port that one of `held` takes: same protocol and number, same address or either on all."""
    taken: dict[tuple[str, int], set[str]] = {}
    for port in held:
        for protocol in port.protocols:
            taken.setdefault((protocol, port.host), set()).add(port.ip)
    for port in wanted:
        for protocol in port.protocols:
            others = taken.get((protocol, port.host))
            if others and (port.ip in others or _is_any(port.ip) or any(map(_is_any, others))):
                return port
    return None


def _is_any(ip: str) -> bool:
    return ip in ("", ANY_ADDRESS, "::")


def address_inside(ports: tuple[PortMapping, ...]) -> str:
    """What the server is told as its own address (SERVER_IP): the primary port's, as panels do; for loopback any.

    It is the host's: the container, in a network of its own, does not have it. A game that binds to SERVER_IP fails
    with it; a port that names no address makes it 0.0.0.0.
    """
    ip = ports[0].ip if ports else ""
    return ip if ip and not ip_address(ip).is_loopback else ANY_ADDRESS


def ports_of(blueprint: Blueprint) -> tuple[PortMapping, ...]:
    """What an order that says nothing of ports gets: those of the blueprint, each with its own number on the host."""
    ports: list[PortMapping] = []
    for hint in blueprint.ports:
        port = PortMapping(hint.container, hint.container, hint.protocol)
        if clash_between([port], ports) is None:
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
        if clash_between([port], ports[:index]) is not None:
            earlier = next(at for at, other in enumerate(ports) if clash_between([port], [other]) is not None)
            raise config.refuse(f"ports[{index}]", f"{port.host} is taken by ports[{earlier}]")
    return ports


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
    """As it is compared: an IPv4 address mapped into IPv6 is the IPv4 one."""
    found = fields.text("ip", "", most=64).strip()
    if not found:
        return ""
    address = address_of(found) if "%" not in found else None
    if address is None:
        raise fields.refuse("ip", f"must be an IP address, not {found!r}")
    return str(address)
