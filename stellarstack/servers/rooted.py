"""Ways into a server's folder that no link of the tenant can lead astray (W04, W07, W10). Blocks: for threads."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stellarstack.errors import PathForbidden, TooLarge

FOLDER_MODE = 0o750
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def folder_below(root: Path, parts: tuple[str, ...], owner: tuple[int, int], *, make: bool) -> Iterator[int]:
    """A descriptor of the folder `parts` below `root`; each step is opened from the last and may be no link.

    `make`: a missing one is made, owned by `owner` (uid, gid). FileNotFoundError: it is missing. PathForbidden: a part
    is a link or no folder.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        for part in parts:
            deeper = enter(descriptor, part, owner, make=make)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


def enter(parent: int, name: str, owner: tuple[int, int], *, make: bool) -> int:
    """A descriptor of the folder `name` in the folder `parent`; see `folder_below`."""
    if name in ("", ".", "..") or "/" in name:
        raise PathForbidden(f"{name!r} is no name of a folder")
    made = False
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, FOLDER_MODE, dir_fd=parent)
            made = True
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except (NotADirectoryError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise PathForbidden(f"{name!r} in the server's folder is no folder, or a link; remove it") from None
    if made:
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, FOLDER_MODE)
    return descriptor


def read_file(folder: int, name: str, limit: int) -> bytes | None:
    """The content of a plain file; None: there is none. TooLarge: over `limit` bytes. PathForbidden: no plain file."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PathForbidden(f"{name!r} in the server's folder cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PathForbidden(f"{name!r} in the server's folder is no plain file")
        if found.st_size > limit:
            raise TooLarge(f"{name}: is over {limit >> 10} KiB")
        return file.read(limit + 1)


def replace_file(folder: int, name: str, content: bytes, owner: tuple[int, int]) -> None:
    """Puts `content` at `name` at once: a reader sees the old file or the new one. Its mode and owner stay."""
    mode, holder = 0o644, owner
    with suppress(FileNotFoundError):
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mode, holder = stat.S_IMODE(old.st_mode) & 0o777, (old.st_uid, old.st_gid)
    temporary = f".{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchown(descriptor, *holder)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)
