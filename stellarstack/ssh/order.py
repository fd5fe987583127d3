"""Which SSH packet may come when, and how many: whatever comes out of turn ends the connection. Performs no I/O.

Conch takes messages by their number wherever the connection stands: a NEWKEYS without a key exchange, a service in
plain text, a second exchange before the login. Here each stage lists what it takes (RFC 4253, 4252, 4254).
"""

from __future__ import annotations

from enum import Enum

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, EXT_INFO, KEXINIT, NEWKEYS = 1, 2, 3, 4, 5, 7, 20, 21
KEX_INIT, USERAUTH_REQUEST = 30, 50
IDLE = frozenset({IGNORE, UNIMPLEMENTED, DEBUG, EXT_INFO})  # mean nothing to a server
# global requests and answers to ours; open, adjust, data, EOF, close and request of a channel, answers to a request
CONNECTION = frozenset({80, 81, 82, 90, 93, 94, 96, 97, 98, 99, 100})

_BEFORE_LOGIN = 100  # packets
_EXCHANGE_EVERY = 10.0  # seconds between two key exchanges: each costs us more than it costs the viewer
_IDLE_A_SECOND = 100


class Broken(Exception):
    """The peer broke the protocol; the text says how."""


class Stage(Enum):
    """How far a connection has come."""

    HELLO = "waiting for KEXINIT"
    EXCHANGE = "waiting for the peer's half of a key exchange"
    KEYS = "waiting for NEWKEYS"
    SERVICE = "waiting for ssh-userauth to be asked for"
    LOGIN = "waiting for a login"
    OPEN = "open"


_TAKES = {
    Stage.HELLO: frozenset({KEXINIT}),
    Stage.EXCHANGE: frozenset({KEX_INIT}),
    Stage.KEYS: frozenset({NEWKEYS}),
    Stage.SERVICE: frozenset({SERVICE_REQUEST}),
    Stage.LOGIN: frozenset({USERAUTH_REQUEST}),
    Stage.OPEN: CONNECTION | {KEXINIT},
}
_NEXT = {KEXINIT: Stage.EXCHANGE, KEX_INIT: Stage.KEYS, SERVICE_REQUEST: Stage.LOGIN}


class Order:
    """The order of one connection's packets. Broken ends it."""

    def __init__(self) -> None:
        self.stage = Stage.HELLO
        self._logged_in = False
        self._packets = 0
        self._idle, self._idle_since = 0, 0.0
        self._exchanged_at: float | None = None

    @property
    def exchanging(self) -> bool:
        """Whether nothing but the key exchange may go on."""
        return self.stage in (Stage.EXCHANGE, Stage.KEYS)

    def came(self, number: int, now: float) -> bool:
        """A packet; answers whether it means anything. `now` only goes forward."""
        self._packets += 1
        if not self._logged_in and self._packets > _BEFORE_LOGIN:
            raise Broken("too many packets before the login")
        if number == DISCONNECT:
            return True
        if number in IDLE and not (number == EXT_INFO and self.exchanging):
            self._count_idle(now)
            return False
        if number not in _TAKES[self.stage]:
            raise Broken(f"message {number} while {self.stage.value}")
        if number == KEXINIT:
            self._exchange(now)
        return True

    def took(self, number: int) -> None:
        """It was good: on to the next stage."""
        if number == NEWKEYS:
            self.stage = Stage.OPEN if self._logged_in else Stage.SERVICE
        else:
            self.stage = _NEXT.get(number, self.stage)

    def logged_in(self) -> None:
        self._logged_in = True
        self.stage = Stage.OPEN

    def _exchange(self, now: float) -> None:
        if self._exchanged_at is not None and now - self._exchanged_at < _EXCHANGE_EVERY:
            raise Broken("key exchanges too soon after one another")
        self._exchanged_at = now

    def _count_idle(self, now: float) -> None:
        if now - self._idle_since >= 1:
            self._idle, self._idle_since = 0, now
        self._idle += 1
        if self._idle > _IDLE_A_SECOND:
            raise Broken("too many packets that mean nothing")
