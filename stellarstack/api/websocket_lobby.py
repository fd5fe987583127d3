"""Who is at the console's door and not in: not yet known, or closed and not gone. Both are few, whoever they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stellarstack.core.addresses import address_of, customer_of
from stellarstack.core.console_session import CloseCode

LEAVING = 256  # closed connections that may wait for the other side's answer
_A_HOST = 8  # one host may have an eighth of the places to wait


class Caller(Protocol):
    """A connection at the door."""

    def close(self, code: int, reason: str) -> None:
        """Ends it with a close frame."""

    def let_go(self) -> None:
        """Ends its TCP connection once what was written is out, whatever the other side says."""


class Lobby:
    """At most `waiting` connections that have shown no token yet, an eighth of them of one host: the oldest gives way.

    Hosts are addresses, of IPv6 networks of 64 bits. Loopback has no such share: a proxy there speaks for everybody.
    """

    def __init__(self, waiting: int) -> None:
        self._most = waiting
        self._most_of_host = max(1, waiting // _A_HOST)
        self._waiting: dict[Caller, str] = {}  # and its host
        self._by_host: dict[str, dict[Caller, None]] = {}
        self._leaving: dict[Caller, None] = {}

    def __len__(self) -> int:
        """How many have shown no token yet."""
        return len(self._waiting)

    def enter(self, caller: Caller, peer: str) -> None:
        """A new one, from address `peer`, waits for its turn; where there is no place left, the oldest is closed."""
        host = _host_of(peer)
        same = self._by_host.get(host, {})
        if host and len(same) >= self._most_of_host:
            self._turn_away(same)
        elif len(self._waiting) >= self._most:
            self._turn_away(self._waiting)
        self._waiting[caller] = host
        self._by_host.setdefault(host, {})[caller] = None

    def _turn_away(self, among: Iterable[Caller]) -> None:
        oldest = next(iter(among))
        self.admitted(oldest)
        oldest.close(CloseCode.TOO_MANY, "too many connections wait for authentication")

    def admitted(self, caller: Caller) -> None:
        """It waits no more."""
        host = self._waiting.pop(caller, None)
        if host is not None:
            same = self._by_host[host]
            del same[caller]
            if not same:
                del self._by_host[host]

    def leaves(self, caller: Caller) -> None:
        """It was closed without ever having had a seat; where too many are, the oldest is let go."""
        self.admitted(caller)
        if caller in self._leaving:
            return
        if len(self._leaving) >= LEAVING:
            oldest = next(iter(self._leaving))
            del self._leaving[oldest]
            oldest.let_go()
        self._leaving[caller] = None

    def gone(self, caller: Caller) -> None:
        """Its connection is no more."""
        self.admitted(caller)
        self._leaving.pop(caller, None)


def _host_of(peer: str) -> str:
    """Whose share a connection counts to; empty: nobody's."""
    address = address_of(peer)
    return "" if address is None or address.is_loopback else customer_of(address)
