"""Who may connect before anybody knows who they are: bounds per address and in all. Performs no I/O, reads no clock.

An address is an IPv4 address, or the /64 of an IPv6 one, which is what one customer has.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from stellarstack.core.addresses import address_of, customer_of

_ADDRESSES = 4096  # remembered; beyond, the one that was silent longest is forgotten
_FREE_FAILURES = 6  # failed logins until an address has to wait
_FORGIVEN_AFTER = 600.0  # seconds without a failure
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """`waiting`: connections that have not logged in, of all and of one address. `rate`: a second and address.

    Beyond `waiting` an older one is to give way; an address beyond its own bounds is not let in.
    """

    waiting: int
    waiting_of_one: int
    rate: float


class _Address:
    __slots__ = ("at", "failed_at", "failures", "level", "until", "waiting")

    def __init__(self, level: float, now: float) -> None:
        self.at = now
        self.level = level
        self.waiting = 0
        self.failures = 0
        self.failed_at = self.until = now


class Throttle:
    """Counts connections that wait for a login. `admit`, then `left` once: logged in, or gone."""

    def __init__(self, limits: ThrottleLimits) -> None:
        self._limits = limits
        self._burst = max(1.0, 2 * limits.rate)
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self.waiting = 0

    def admit(self, host: str, now: float) -> bool:
        """Whether a new connection from there is let in; it counts as waiting then."""
        found = self._of(host, now)
        found.level = min(self._burst, found.level + (now - found.at) * self._limits.rate)
        found.at = now
        if now < found.until or found.level < 1:
            return False
        found.level -= 1
        if found.waiting >= self._limits.waiting_of_one:
            return False
        found.waiting += 1
        self.waiting += 1
        return True

    @property
    def crowded(self) -> bool:
        """Whether more wait than may."""
        return self.waiting > self._limits.waiting

    def left(self, host: str, now: float) -> None:
        """One that was admitted does not wait any more."""
        self._of(host, now).waiting -= 1
        self.waiting -= 1

    def failed(self, host: str, now: float) -> None:
        """A login from there was wrong: after six in a row the address waits, 1 s, 2 s, 4 s … a minute at most."""
        found = self._of(host, now)
        if now - found.failed_at > _FORGIVEN_AFTER:
            found.failures = 0
        found.failures = min(found.failures + 1, 64)
        found.failed_at = now
        over = found.failures - _FREE_FAILURES
        if over >= 0:
            found.until = now + min(_LONGEST_WAIT, 2.0**over)

    def succeeded(self, host: str, now: float) -> None:
        """A login from there was good."""
        self._of(host, now).failures = 0

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._addresses)

    def _of(self, host: str, now: float) -> _Address:
        address = address_of(host)
        key = customer_of(address) if address is not None else host
        found = self._addresses.pop(key, None) or _Address(self._burst, now)
        self._addresses[key] = found
        if len(self._addresses) > _ADDRESSES:
            self._forget()
        return found

    def _forget(self) -> None:
        for key, address in self._addresses.items():
            if not address.waiting:
                del self._addresses[key]
                return
