"""The key by which the SSH console proves which node it is: made at the first start, mode 0600."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_private_key

from stellarstack.auth.secrets import make_private, read_private
from stellarstack.errors import ConfigError

_MAX_BYTES = 16384


def read_or_make_host_key(path: Path) -> bytes:
    """The Ed25519 key in OpenSSH's format; made where there is none. It blocks.

    ConfigError: it cannot be read or made, others may read it, or it is no such key.
    """
    try:
        try:
            text = read_private(path, _MAX_BYTES)
        except FileNotFoundError:
            make_private(path, _new_key())
            text = read_private(path, _MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    try:
        key = load_ssh_private_key(text, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is no Ed25519 key in OpenSSH's format without a passphrase")
    return text


def _new_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii")
