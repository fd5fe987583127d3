"""Whom an address on the network stands for, where connections are counted. Performs no I/O."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address in `host` (a zone is left out, an IPv4 one mapped into IPv6 is IPv4 again); None: it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def customer_of(address: IPv4Address | IPv6Address) -> str:
    """What one customer has: an IPv4 address, or the 64 bits of an IPv6 network."""
    return str(IPv6Address(int(address) >> 64 << 64) if isinstance(address, IPv6Address) else address)
