"""The folders of one game server on the host. Everything here blocks: call it in a thread."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from stellarstack.errors import PathForbidden, StellarError

FOLDER_MODE = 0o750


def prepare_root(root: Path, uid: int, gid: int, subfolders: tuple[str, ...] = ()) -> None:
    """Makes the server's root (and its volumes' subfolders) where missing, owned by the server's user.

    What stands there already keeps its owner and mode; no link of the tenant is followed (W10).
    """
    try:
        root.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _make(root.parent, root.name, uid, gid)
        for subfolder in subfolders:
            _make_below(root, subfolder, uid, gid)
    except OSError as error:
        raise StellarError(f"cannot make the server's folder {root}: {error.strerror}") from None


def remove_tree(root: Path) -> None:
    """Removes a server's folder and all in it; links are removed, never followed (W05)."""
    if root.is_symlink():
        root.unlink()
        return
    try:
        shutil.rmtree(root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StellarError(f"cannot remove {root}: {error.strerror}") from None


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes a file of the daemon's own, its folder made with 0700."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)


def _make(parent: Path, name: str, uid: int, gid: int) -> None:
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(_enter(descriptor, name, uid, gid))
    finally:
        os.close(descriptor)


def _make_below(root: Path, subfolder: str, uid: int, gid: int) -> None:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for part in Path(subfolder).parts:
            deeper = _enter(descriptor, part, uid, gid)
            os.close(descriptor)
            descriptor = deeper
    finally:
        os.close(descriptor)


def _enter(parent: int, name: str, uid: int, gid: int) -> int:
    """A descriptor of `name` in `parent`, made with the server's owner where missing; a link is refused."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=parent)
        made = True
    except FileExistsError:
        made = False
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except NotADirectoryError:
        raise PathForbidden(f"{name!r} in the server's folder is no folder (or a link); remove it") from None
    if made:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, stat.S_IMODE(FOLDER_MODE))
    return descriptor
