"""The networks and host ports of the FakeEngine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import islice

from stellarstack.errors import EngineConflict, EngineRefused, PortInUse
from tests.fake_container import Container


@dataclass
class FakeNetwork:
    name: str
    subnets: tuple[str, ...]
    labels: dict[str, str]


class FakeNetworks:
    """Bridges with their subnets, the addresses in them, and who holds which port of the host.

    `taken` holds (port, protocol) of what programs outside Docker have bound, `reserved` the subnets of networks that
    somebody else is just making: refused, and listed by nobody.
    """

    def __init__(self, containers: Callable[[], Sequence[Container]]) -> None:
        self.taken: set[tuple[int, str]] = set()
        self.reserved: list[str] = []
        self._containers = containers
        self._networks = {
            name: FakeNetwork(name, subnets, {})
            for name, subnets in (("bridge", ("172.17.0.0/16",)), ("host", ()), ("none", ()))
        }

    def create(self, name: str, subnet: str, labels: Mapping[str, str]) -> str:
        if name in self._networks:
            raise EngineConflict(f"Docker: network with name {name} already exists")
        wanted = IPv4Network(subnet)
        others = [other for one in self._networks.values() for other in one.subnets if ":" not in other]
        others += self.reserved
        if any(wanted.overlaps(IPv4Network(other)) for other in others):
            raise EngineConflict("Docker: Pool overlaps with other one on this address space")
        self._networks[name] = FakeNetwork(name, (subnet,), dict(labels))
        return hashlib.sha256(name.encode()).hexdigest()

    def remove(self, name: str) -> None:
        if any(name in one.addresses for one in self._running()):
            raise EngineConflict(f"Docker: error while removing network: network {name} has active endpoints")
        self._networks.pop(name, None)

    def all(self) -> Sequence[FakeNetwork]:
        return list(self._networks.values())

    def list(self, labels: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        wanted = labels.items()
        return {one.name: one.subnets for one in self._networks.values() if wanted <= one.labels.items()}

    def check_ports(self, container: Container) -> None:
        """PortInUse, and the container remembers why."""
        for address, port, protocol in ports_of(container):
            holder = self._holder(address, port, protocol)
            if holder is None:
                continue
            container.exit_code = 128
            container.error = f"Bind for {address}:{port} failed: port is already allocated"
            raise PortInUse(f"port {port} is in use already, by {holder} (Docker: {container.error})")

    def addresses_for(self, container: Container) -> dict[str, str]:
        """A free address in each network that it is to join. EngineRefused: no such network, or it is full."""
        found = {name: self._free_address(name) for name in networks_of(container)}
        return {name: address for name, address in found.items() if address}

    def _holder(self, address: str, port: int, protocol: str) -> str | None:
        for one in self._running():
            for other, held, by in ports_of(one):
                if (held, by) == (port, protocol) and (other == address or "0.0.0.0" in (other, address)):
                    return f"container {one.name}"
        return "a program outside Docker" if (port, protocol) in self.taken else None

    def _free_address(self, name: str) -> str:
        if name not in self._networks:
            raise EngineRefused(f"Docker: network {name} not found")
        used = {one.addresses.get(name) for one in self._running()}
        for subnet in self._networks[name].subnets:
            if ":" in subnet:
                continue
            free = (str(host) for host in islice(IPv4Network(subnet).hosts(), 1, None) if str(host) not in used)
            if first := next(free, None):
                return first
            raise EngineRefused(f"Docker: no available IPv4 addresses on network {name}")
        return ""

    def _running(self) -> Sequence[Container]:
        return [one for one in self._containers() if one.running]


def networks_of(container: Container) -> Sequence[str]:
    """The names of the networks that a container is to join."""
    mode = str(container.host.get("NetworkMode") or "bridge")
    named = (container.body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    return list(dict.fromkeys(["bridge" if mode == "default" else mode, *named]))


def ports_of(container: Container) -> Sequence[tuple[str, int, str]]:
    """(address, port, protocol) of each host port that a container binds."""
    bindings = container.host.get("PortBindings") or {}
    return [
        (str(one.get("HostIp") or "0.0.0.0"), int(one["HostPort"]), key.partition("/")[2] or "tcp")
        for key, hosts in bindings.items()
        for one in hosts or []
        if one.get("HostPort")
    ]
