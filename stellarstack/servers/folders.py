"""The folders of one game server on the host. Everything here blocks: call it in a thread."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from stellarstack.errors import StellarError
from stellarstack.servers.rooted import enter, folder_below

TREE_TIMEOUT = 1800.0  # seconds for a walk over all of a server's files


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


def hand_over(root: Path, uid: int, gid: int) -> None:
    """Gives the whole tree to the server's user, after an installer that had to be root. No link is followed (W10)."""
    _coreutils("chown", "-R", "-h", "-P", f"{uid}:{gid}", "--", str(root))


def remove_tree(root: Path) -> None:
    """Removes a server's folder and all in it; links are removed, never followed (W05)."""
    _coreutils("rm", "-rf", "--one-file-system", "--", str(root))


def _coreutils(*words: str) -> None:
    """They walk trees of any depth, each folder opened from its parent; Python's own walks end at a thousand levels."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TREE_TIMEOUT)  # noqa: S603
    if done.returncode != 0:
        raise StellarError(f"{words[0]} {words[-1]}: {done.stderr.strip()[:300] or done.returncode}")


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
