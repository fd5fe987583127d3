"""The secret that signs console tokens where daemon.toml names none: `{state}/jwt_secret`, mode 0600 (PROTOCOL 2).

And how such files are read and made.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from stellarstack.atomic import make_once
from stellarstack.config import AuthConfig, Secret
from stellarstack.errors import ConfigError

_MIN_BYTES = 32
_MAX_BYTES = 4096


def read_or_make_secret(path: Path) -> Secret:
    """Reads the secret; makes it where there is none. It blocks. ConfigError: unreadable, too open or too short."""
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            make_private(path, secrets.token_urlsafe(48) + "\n")
            return _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def own_secret(auth: AuthConfig, path: Path) -> Secret | None:
    """The node's own secret, where daemon.toml names no key to judge console tokens by. It blocks. ConfigError."""
    if auth.jwt_secret is not None or auth.jwt_algorithm != "HS256":
        return None
    return read_or_make_secret(path)


def _read(path: Path) -> Secret:
    text = read_private(path, _MAX_BYTES + 1).strip()
    if not _MIN_BYTES <= len(text) <= _MAX_BYTES or not text.isascii():
        raise ConfigError(
            f"{path} must hold {_MIN_BYTES} to {_MAX_BYTES} bytes of text; remove it to have a new one made"
        )
    return Secret(text.decode("ascii"))


def read_private(path: Path, most: int) -> bytes:
    """The first `most` bytes of a file that nobody else may read. OSError, ConfigError: it is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is no file")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigError(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, allowed is 0600")
        return file.read(most)


def make_private(path: Path, text: str) -> None:
    """A file of mode 0600: whole or not at all, and never over one that somebody else has just made."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    make_once(path, text.encode())
