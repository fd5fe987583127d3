"""The folders of one game server on the host. Everything here blocks: call it in a thread."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container
from pathlib import Path

from stellarstack.errors import StellarError
from stellarstack.servers.rooted import enter, folder_below


def prepare_root(root: Path, uid: int, gid: int, subfolders: tuple[str, ...] = ()) -> None:
    """Makes the server's root (and its volumes' subfolders) where missing, owned by the server's user.

    What stands there already keeps its owner and mode; no link of the tenant is followed (W10).
    """
    try:
        root.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        parent = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.close(enter(parent, root.name, (uid, gid), make=True))
        finally:
            os.close(parent)
        for subfolder in subfolders:
            with folder_below(root, Path(subfolder).parts, (uid, gid), make=True):
                pass
    except OSError as error:
        raise StellarError(f"cannot make the server's folder {root}: {error.strerror}") from None


def remove_own(folder: Path) -> None:
    """Removes a small folder of the daemon's own, out of every tenant's reach, and all in it."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StellarError(f"cannot remove {folder}: {error.strerror}") from None


def keep_newest(parent: Path, except_for: Container[str], most: int) -> None:
    """Removes the oldest of the daemon's own folders in `parent`, so that `most` stay beside those named."""
    try:
        others = [path for path in parent.iterdir() if path.name not in except_for]
        others.sort(key=lambda path: path.stat(follow_symlinks=False).st_mtime, reverse=True)
    except OSError as error:
        raise StellarError(f"cannot look into {parent}: {error.strerror}") from None
    for path in others[most:]:
        remove_own(path)


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file of the daemon's own, its folder made with 0700."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="", errors="replace") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
    except OSError as error:
        raise StellarError(f"cannot write {path}: {error.strerror}") from None
