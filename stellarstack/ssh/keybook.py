"""The public keys that open consoles, by login name. They come from daemon.toml; a control plane's would come likewise.

A key that nobody listed is never parsed: it is looked up by its bytes (SECURITY S03).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted.conch.ssh.keys import Key

from stellarstack.config import SshUserConfig
from stellarstack.core.claims import Claims
from stellarstack.core.codec import is_server_id
from stellarstack.errors import ConfigError

BLOB_MAX = 2048  # bytes; RSA of 8192 bits has 1 050
_LINE_MAX = 4096
_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_RSA_BITS = (2048, 8192)


@dataclass(frozen=True, slots=True)
class KeyLogin:
    """A login by key: whose it is, and the key that must have signed it."""

    claims: Claims
    key: Key

    def signed(self, algorithm: bytes, signature: bytes, signed: bytes) -> bool:
        """Whether the key's owner signed these bytes, by an algorithm that the key may be used with."""
        allowed = (b"rsa-sha2-512", b"rsa-sha2-256") if self.key.sshType() == b"ssh-rsa" else (self.key.sshType(),)
        size = len(algorithm)
        if algorithm not in allowed or signature[:4] != size.to_bytes(4, "big") or signature[4 : 4 + size] != algorithm:
            return False
        try:
            return bool(self.key.verify(signature, signed))
        except Exception:  # Conch's and the library's many ways to say that it is no signature
            return False


class KeySource(Protocol):
    """Where public keys come from."""

    def __len__(self) -> int:
        """How many keys there are; 0: nobody is asked for one."""

    def find(self, login: str, blob: bytes) -> KeyLogin | None:
        """The login of this name by this key; None where the key is not listed for it, or the name has two meanings."""


class ConfiguredKeys:
    """The keys of `[ssh.users]`. ConfigError: one of them cannot be used."""

    def __init__(self, users: Mapping[str, SshUserConfig], lifetime: float, now: Callable[[], float]) -> None:
        self._users = users
        self._lifetime = lifetime
        self._now = now
        self._keys: dict[bytes, tuple[Key, set[str]]] = {}
        for name, user in users.items():
            for line in user.keys:
                key = _read_key(name, line)
                self._keys.setdefault(key.blob(), (key, set()))[1].add(name)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, login: str, blob: bytes) -> KeyLogin | None:
        """See KeySource. Both names may hold dots, so each place of a dot is tried."""
        key, names = self._keys.get(blob, (None, ()))
        if key is None:
            return None
        found = []
        for name in names:
            server, listed = login.removeprefix(f"{name}."), self._users[name].servers
            if login.startswith(f"{name}.") and is_server_id(server) and ("*" in listed or server in listed):
                found.append((name, server))
        return KeyLogin(self._claims(*found[0]), key) if len(found) == 1 else None

    def _claims(self, name: str, server: str) -> Claims:
        now = self._now()
        return Claims(
            user_id=name, server_id=server, permissions=frozenset(self._users[name].permissions), issued_at=now,
            expires_at=now + self._lifetime, jti=f"ssh-key-{secrets.token_hex(8)}",
        )  # fmt: skip


def _read_key(name: str, line: str) -> Key:
    kind = line.split(" ", 1)[0]
    bits = 0
    key: Key | None = None
    if kind in _KINDS and len(line) <= _LINE_MAX and line.isprintable():
        try:
            key = Key.fromString(line.encode(), type="public_openssh")
            bits = key.size()
        except Exception:  # Conch and the library below it have many ways to say that it is no key
            key = None
    if key is None or key.sshType() != kind.encode() or (kind == "ssh-rsa" and not _in(bits, _RSA_BITS)):
        raise ConfigError(
            f"[ssh.users.{name}] keys: found a key that cannot be used, allowed are lines as in id_ed25519.pub: "
            f"ssh-ed25519, ecdsa-sha2-nistp256, -384 or -521, ssh-rsa of {_RSA_BITS[0]} to {_RSA_BITS[1]} bits"
        )
    return key


def _in(bits: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= bits <= bounds[1]
