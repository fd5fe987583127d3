"""Conch's SSH server transport, hardened: every list of algorithms set, packets read strictly, nothing out of turn.

SECURITY F4, F5, S01, S02, S05, S06. A peer that breaks the protocol is closed, and that is no news for the log.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Protocol

from twisted.conch.ssh.transport import (
    DISCONNECT_BY_APPLICATION,
    DISCONNECT_PROTOCOL_ERROR,
    MSG_DISCONNECT,
    MSG_SERVICE_ACCEPT,
)
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from stellarstack.sockets import progress
from stellarstack.ssh.conch import QuietLog, ServerTransport
from stellarstack.ssh.order import DISCONNECT, KEX_INIT, KEXINIT, NEWKEYS, Broken, Order
from stellarstack.ssh.packets import Fields, string

PACKET_MAX = 35000  # bytes: what RFC 4253 asks of everyone, and more than a channel's largest packet
SIGNATURES = (
    b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521",
    b"rsa-sha2-512", b"rsa-sha2-256",
)  # fmt: skip
_BANNER_MAX = 255
_BANNER = re.compile(rb"SSH-2\.0-[\x20-\x7e]+")
_PACKETS_A_TURN = 64
_LINGER = 5.0  # seconds that a peer has to take our last words
_SHUT_AFTER, _SHUT_LINGER = 0.8, 0.2  # the same where the login has ended: a second in all, as on the WebSocket


class WireOwner(Protocol):
    """Who is told what becomes of a connection."""

    clock: IReactorTime

    def login_service(self, wire: SshWire) -> Any:
        """The service that finds out who the peer is."""

    def gone(self, wire: SshWire) -> None:
        """The connection is lost; called once."""


@implementer(IPushProducer)
class SshWire(ServerTransport):
    """One SSH connection. It is its transport's producer: that is how it learns what the transport still holds."""

    _log = QuietLog()
    buf: bytes
    incomingPacketSequence: int
    ourVersionString = b"SSH-2.0-StellarStack"
    supportedVersions = (b"2.0",)
    supportedKeyExchanges = [b"mlkem768x25519-sha256", b"curve25519-sha256", b"curve25519-sha256@libssh.org"]
    supportedPublicKeys = [b"ssh-ed25519"]
    supportedCiphers = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
    supportedMACs = [b"hmac-sha2-256", b"hmac-sha2-512"]
    supportedCompressions = [b"none"]

    def __init__(self, owner: WireOwner, deadline: float) -> None:
        self._owner = owner
        self._clock = owner.clock
        self._deadline_after = deadline
        self._order = Order()
        self._first: bytes | None = None  # the next packet's first block, decrypted
        self._paused = False  # our writing: the transport is full
        self._timers: dict[str, IDelayedCall] = {}
        self.ended = False
        self.lost = False
        self.shut = False  # the login is over: nothing more may be opened
        self.flow: Callable[[], None] = lambda: None  # called where `full` may have changed
        self.peer = ""
        self.peer_version = ""
        self.heard_at = self.begun_at = owner.clock.seconds()
        self.exchange_began = self.begun_at

    # ---------------------------------------------------------------- called by Twisted

    def connectionMade(self) -> None:
        self.peer = getattr(self.transport.getPeer(), "host", "")
        for set_option in ("setTcpNoDelay", "setTcpKeepAlive"):
            option = getattr(self.transport, set_option, None)
            if option is not None:
                option(True)
        self.transport.registerProducer(self, True)
        self.end_after(self._deadline_after, b"no login in time")
        super().connectionMade()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended = self.lost = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        super().connectionLost(reason)
        self._owner.gone(self)

    def pauseProducing(self) -> None:
        self._paused = True
        self.flow()

    def resumeProducing(self) -> None:
        self._paused = False
        self.flow()

    def stopProducing(self) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        if not self.ended:
            self.heard_at = self._clock.seconds()
            self.buf += data
            self._read()

    # ---------------------------------------------------------------- reading

    def _read(self) -> None:
        try:
            if not self.gotVersion and not self._read_banner():
                return
            for _ in range(_PACKETS_A_TURN):
                payload = None if self.ended else self.getPacket()
                if payload is None:
                    return
                self._came(payload)
        except Broken as reason:
            self.sendDisconnect(DISCONNECT_PROTOCOL_ERROR, str(reason).encode())
            return
        if not self.ended:  # there may be more: after the others' turn
            self.transport.pauseProducing()
            self._after("reading", 0, self._read_on)

    def _read_on(self) -> None:
        if not self.ended:
            self.transport.resumeProducing()
            self._read()

    def _read_banner(self) -> bool:
        line, newline, rest = self.buf.partition(b"\n")
        if len(line) > _BANNER_MAX:
            raise Broken("the first line is too long")
        if not newline:
            return False
        line = line.removesuffix(b"\r")
        if not _BANNER.fullmatch(line):
            raise Broken("the first line is not SSH 2.0's")
        self.gotVersion = True
        self.otherVersionString = line
        self.peer_version = line.decode("ascii")
        self.buf = rest
        return True

    def getPacket(self) -> bytes | None:
        """The next packet's payload; None: it has not come whole yet. Stricter than Conch's."""
        ciphers = self.currentEncryptions
        block, mac_size = ciphers.decBlockSize, ciphers.verifyDigestSize
        if len(self.buf) < block:
            return None
        if self._first is None:
            self._first = ciphers.decrypt(self.buf[:block])
        length, padding = struct.unpack("!LB", self._first[:5])
        if not 12 <= length <= PACKET_MAX or (length + 4) % block or not 4 <= padding <= length - 2:
            raise Broken("a packet's length cannot be")
        if len(self.buf) < 4 + length + mac_size:
            return None
        packet = self._first + ciphers.decrypt(self.buf[block : 4 + length])
        mac, self.buf = self.buf[4 + length : 4 + length + mac_size], self.buf[4 + length + mac_size :]
        self._first = None
        if not ciphers.verify(self.incomingPacketSequence, packet, mac):
            raise Broken("a packet's MAC is wrong")
        self.incomingPacketSequence = (self.incomingPacketSequence + 1) & 0xFFFFFFFF
        payload: bytes = packet[5:-padding]
        return payload

    def _came(self, payload: bytes) -> None:
        number = payload[0]
        if not self._order.came(number, self._clock.seconds()):
            return
        if number == DISCONNECT:
            self._end()
            return
        skipped = number == KEX_INIT and bool(self.ignoreNextPacket)  # a wrong guess of the peer's
        try:
            self.dispatchMessage(number, payload[1:])
        except Broken:
            raise
        except Exception:
            if number not in (KEXINIT, KEX_INIT, NEWKEYS):  # in a key exchange Conch trusts what it reads
                self._log.failure("an SSH message {number} could not be taken", number=number)
            raise Broken("a message that cannot be read") from None
        if not skipped:
            self._order.took(number)
        if number in (KEXINIT, NEWKEYS):
            self.exchange_began = self._clock.seconds()
            self.flow()

    # ---------------------------------------------------------------- Conch's messages

    def sendExtInfo(self, extensions: object) -> None:
        """The signatures that logins may be made by, instead of the host key's."""
        super().sendExtInfo([(b"server-sig-algs", b",".join(SIGNATURES))])

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        if not self.ended:  # Twisted would keep it beside our last words
            super().sendPacket(messageType, payload)
            self.outgoingPacketSequence &= 0xFFFFFFFF  # Conch would count on, and then fail

    def ssh_SERVICE_REQUEST(self, packet: bytes) -> None:
        fields = Fields(packet)
        name = fields.string()
        fields.end()
        if name != b"ssh-userauth":
            raise Broken("the first service must be ssh-userauth")
        self.sendPacket(MSG_SERVICE_ACCEPT, string(name))
        self.setService(self._owner.login_service(self))

    def sendDisconnect(self, reason: int, desc: bytes | str) -> None:
        """Our last words; then the connection ends."""
        if not self.ended:
            text = desc.encode() if isinstance(desc, str) else desc
            self.sendPacket(MSG_DISCONNECT, struct.pack(">L", reason) + string(text) + string(b""))
            self._end()

    def _end(self) -> None:
        self.ended = True
        self.buf = b""
        self.flow()
        self.transport.unregisterProducer()  # Twisted does not close while there is one
        self.transport.loseConnection()
        self._after("linger", _SHUT_LINGER if self.shut else _LINGER, self.drop)

    # ---------------------------------------------------------------- ours

    @property
    def full(self) -> bool:
        """Whether nothing more should be written now: the transport is full, keys are exchanged, or it is the end."""
        return self.ended or self._paused or self._order.exchanging

    @property
    def exchanging(self) -> bool:
        return self._order.exchanging

    def open_to(self, service: Any) -> None:
        """The peer has logged in: `service` is what it talks to now. No deadline is left."""
        self._order.logged_in()
        self._timers.pop("deadline").cancel()
        self.setService(service)

    def end_after(self, seconds: float, why: bytes) -> None:
        """Ends the connection after `seconds`, unless `stay` is called or it is told anew."""
        if not self.shut:
            self._after("deadline", seconds, self.sendDisconnect, DISCONNECT_PROTOCOL_ERROR, why)

    def end_soon(self, why: bytes) -> None:
        """The login is over: so is the connection within a second, whatever is called after this (W11, K23)."""
        self.shut = True
        if self.ended:
            self._after("linger", _SHUT_AFTER + _SHUT_LINGER, self.drop)
        else:
            self._after("deadline", _SHUT_AFTER, self.sendDisconnect, DISCONNECT_BY_APPLICATION, why)

    def stay(self) -> None:
        """The deadline is off; that of `end_soon` is not."""
        if self.shut:
            return
        timer = self._timers.pop("deadline", None)
        if timer is not None and timer.active():
            timer.cancel()

    def _after(self, name: str, seconds: float, call: Callable[..., None], *args: object) -> None:
        old = self._timers.pop(name, None)
        if old is not None and old.active():
            old.cancel()
        if not self.lost:
            self._timers[name] = self._clock.callLater(seconds, call, *args)

    def drop(self) -> None:
        """Ends the TCP connection at once."""
        if not self.lost:
            self.ended = True
            self.transport.abortConnection()

    def progress(self) -> tuple[bool, int]:
        """Whether bytes wait for the peer's TCP, and a number that changes when it takes some."""
        known = progress(self.transport)
        return (self._paused, 0) if known is None else (self._paused or known[0], known[1])
