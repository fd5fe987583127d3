"""Files written whole or not at all, also at a power cut, and the rest that a `kill -9` in between leaves (K15).

Everything here blocks until the disk has it, and raises OSError.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_LEFTOVER = re.compile(r"\.[^/]+\.[0-9a-f]{16}\.tmp")


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Puts `content` at `path`: a reader sees the old file or the new one, never a part.

    On OSError the old file is untouched and nothing is left behind.
    """
    fresh = _written_beside(path, content, mode)
    try:
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_once(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Puts `content` at `path` unless a file is there already, somebody else's of this very moment included."""
    fresh = _written_beside(path, content, mode)
    try:
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in it outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folders: Iterable[Path]) -> list[Path]:
    """Removes what a kill in the middle of a write left in these folders (not below them)."""
    removed = []
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if _LEFTOVER.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                path.unlink()
                removed.append(path)
    return removed


def _written_beside(path: Path, content: bytes, mode: int) -> Path:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return fresh
