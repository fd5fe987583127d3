"""Whether there is room beside the other servers of this node: for the ports, and in a shared network."""

from __future__ import annotations

from collections.abc import Iterable

from stellarstack.core.ports import PortMapping, clash_between
from stellarstack.core.spec import ServerSpec
from stellarstack.core.subnets import SHARED_MOST
from stellarstack.errors import InsufficientResources, PortInUse


def refuse_clash(wanted: ServerSpec, others: Iterable[ServerSpec]) -> None:
    """PortInUse names the port and its holder. `others` may hold the server itself, which is passed over."""
    for holder in others:
        clash = clash_between(wanted.ports, holder.ports) if holder.server_id != wanted.server_id else None
        if clash is not None:
            where = f"{clash.ip or '0.0.0.0'}:{clash.host}/{clash.protocol}"
            raise PortInUse(f"port {where} belongs to server {holder.server_id}; choose another port")


def refuse_crowd(wanted: ServerSpec, others: Iterable[ServerSpec]) -> None:
    """InsufficientResources: the shared network has no address left. `others` may hold the server itself."""
    fellows = {one.server_id for one in others if one.network == wanted.network} - {wanted.server_id}
    if wanted.network and len(fellows) >= SHARED_MOST:
        raise InsufficientResources(f"network {wanted.network} is full: it holds {SHARED_MOST} servers")


def added_ports(new: Iterable[PortMapping], old: Iterable[PortMapping]) -> list[PortMapping]:
    """What of `new` no port of `old` has, one protocol each: the rest is held by the server's own container."""
    held = {(protocol, port.host) for port in old for protocol in port.protocols}
    return [
        PortMapping(port.host, port.container, protocol, port.ip)
        for port in new
        for protocol in port.protocols
        if (protocol, port.host) not in held
    ]
