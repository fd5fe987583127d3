"""Says who may command this node: checks signed commands, and refuses unsigned ones where signing is asked for.

The rules are PROTOCOL 4's "Signed commands". The algorithm is the key's, never the message's.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stellarstack.config import CommandKeyConfig
from stellarstack.core.codec import Envelope, RefusedMessage, SignedEnvelope, decode, peek
from stellarstack.core.messages import Command, Origin
from stellarstack.errors import ConfigError, StellarError, Unauthorized

MAX_AHEAD = 60.0
MAX_AGE = 60.0
MAX_LIFETIME = 24 * 3600.0

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")
POWER_COMMANDS = frozenset({"server.start", "server.stop", "server.restart", "server.kill"})
_SIGNATURE_LENGTH = 128  # characters; both algorithms need fewer


class _CommandKey(Protocol):
    def verifies(self, signature: bytes, message: bytes) -> bool: ...


class _Ed25519Key:
    """A public key: the node can check commands but not make them."""

    def __init__(self, raw: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class _HmacKey:
    """A secret shared with the control plane."""

    def __init__(self, raw: bytes) -> None:
        self._key = raw

    def verifies(self, signature: bytes, message: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(self._key, message, "sha256"), signature)


class CommandAuthority:
    """Opens messages: what comes out as a Command may be obeyed. `now` is wall-clock time in Unix seconds."""

    def __init__(
        self,
        *,
        keys: Mapping[str, CommandKeyConfig],
        require_signed: bool,
        node_id: str | None,
        now: Callable[[], float],
        make_id: Callable[[], str] = lambda: f"cmd_{secrets.token_hex(12)}",
    ) -> None:
        """ConfigError: a key of `[auth.command_keys]` is unusable."""
        self._keys = {name: _command_key(name, key) for name, key in keys.items()}
        self._require_signed = require_signed
        self._node_id = node_id
        self._now = now
        self._make_id = make_id

    def open_envelope(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> Command | RefusedMessage:
        """Reads, checks and unwraps one message. Never raises, whatever the message holds."""
        found = decode(raw, origin=origin, entry_id=entry_id, make_id=self._make_id)
        if isinstance(found, RefusedMessage):
            return found
        if isinstance(found, SignedEnvelope):
            return self._open_signed(found, origin)
        try:
            self._check_unsigned(found, origin)
        except StellarError as error:
            return _refused(found.command, error)
        return found.command

    def _check_unsigned(self, envelope: Envelope, origin: Origin) -> None:
        if origin is Origin.CONSOLE and envelope.command.type not in POWER_COMMANDS:
            raise Unauthorized("from a console there are power actions only")
        if self._require_signed and origin not in (Origin.CONTROL, Origin.CONSOLE):
            raise Unauthorized("this node obeys signed commands only")
        if envelope.node_id is not None and envelope.node_id != self._node_id:
            raise Unauthorized("the command is for another node")

    def _open_signed(self, outer: SignedEnvelope, origin: Origin) -> Command | RefusedMessage:
        key = self._keys.get(outer.key_id)
        signature = _base64url(outer.signature) if len(outer.signature) <= _SIGNATURE_LENGTH else None
        if key is None or signature is None or not key.verifies(signature, outer.signed):
            return peek(outer.signed, Unauthorized("the command's signature is not valid here"))
        inner = decode(outer.signed, origin=origin, make_id=str)
        if isinstance(inner, SignedEnvelope):
            return RefusedMessage(Unauthorized("a signed command holds another signed one"))
        if isinstance(inner, RefusedMessage):
            return inner
        try:
            self._check_signed(inner, origin)
        except StellarError as error:
            return _refused(inner.command, error, named=inner.named)
        return inner.command

    def _check_signed(self, envelope: Envelope, origin: Origin) -> None:
        command, now = envelope.command, self._now()
        if self._node_id is None or envelope.node_id != self._node_id:
            raise Unauthorized("the signed command is for another node")
        if not envelope.named:
            raise Unauthorized("a signed command needs an `id`")
        if command.expires_at is None:
            raise Unauthorized("a signed command needs `expiresAt`")
        if command.expires_at > now + MAX_LIFETIME:
            raise Unauthorized("the signed command's `expiresAt` is over 24 h ahead")
        if command.timestamp is not None and command.timestamp > now + MAX_AHEAD:
            raise Unauthorized("the signed command's `timestamp` is over 60 s in the future")
        if origin is Origin.PUBSUB and (command.timestamp is None or command.timestamp < now - MAX_AGE):
            raise Unauthorized("the signed command has no `timestamp`, or one over 60 s old")


def _refused(command: Command, error: StellarError, *, named: bool = True) -> RefusedMessage:
    return RefusedMessage(error, command.id if named else None, command.type, command.server_id)


def _command_key(name: str, config: CommandKeyConfig) -> _CommandKey:
    where = f"[auth.command_keys.{name}] key"
    raw = _base64url(config.key.reveal().strip())
    if raw is None:
        raise ConfigError(f"{where} is not base64url")
    if config.algorithm == "hmac-sha256":
        if len(raw) < 32:
            raise ConfigError(f"{where} has {len(raw)} bytes, hmac-sha256 needs at least 32")
        return _HmacKey(raw)
    if config.algorithm != "ed25519":
        raise ConfigError(f"[auth.command_keys.{name}] algorithm must be ed25519 or hmac-sha256")
    if len(raw) != 32:
        raise ConfigError(f"{where} has {len(raw)} bytes, an ed25519 public key has 32")
    return _Ed25519Key(raw)


def _base64url(text: str) -> bytes | None:
    """The bytes, or None where `text` is no base64url (padding may be left out)."""
    bare = text.rstrip("=")
    if not _BASE64URL.fullmatch(text) or len(bare) % 4 == 1:
        return None
    return urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
