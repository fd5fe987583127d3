"""The folder in which the daemon keeps its state: made, and held by one daemon at a time."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from pathlib import Path
from types import TracebackType

from stellarstack.atomic import write_atomically
from stellarstack.config import STATE_LOCK
from stellarstack.errors import ConfigError, StellarError

INSTALLATION_NAME = "installation"
PRIVATE = 0o700
TRAVERSABLE = 0o711  # a container's user must get through to its own folder, and see no other's name
_INSTALLATION = re.compile(r"[0-9a-f]{32}")


class StateFolderTaken(StellarError):
    """Another daemon holds the state folder. The process ends with `exit_status` (PROTOCOL 2)."""

    exit_status = 75
    retry = True


def make_folder(path: Path, mode: int = PRIVATE, key: str = "[paths]") -> None:
    """Makes a missing folder with exactly `mode`, its missing parents with 0755; leaves one that is there as it is.

    ConfigError names `key`, the key of daemon.toml that the path comes from, where it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=PRIVATE)
        except FileExistsError:
            if not path.is_dir():
                raise
        else:
            path.chmod(mode)  # mkdir's own mode is cut by the umask
    except OSError as error:
        raise ConfigError(f"{key}: the folder {path} cannot be made: {error.strerror}") from error


class StateFolder:
    """The state folder, held: no other daemon can `take` it until `release`, or until the process ends.

    The hold is an flock(2) on `daemon.lock`: it is inherited over twistd's fork, never outlives the process, and is not
    passed to child processes.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def take(cls, path: Path) -> StateFolder:
        """Makes the folder where it is missing, and holds it. Raises StateFolderTaken; ConfigError: it is no use."""
        make_folder(path, PRIVATE, "[paths] state")
        try:
            lock = os.open(path / STATE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"[paths] state: {path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise StateFolderTaken(f"another daemon holds {path} (process {holder or 'unknown'})") from None
        folder = cls(path, lock)
        folder.sign()
        return folder

    def sign(self) -> None:
        """Writes our process id into the lock file, for the message that a second daemon gives. Again after a fork."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets go. Of one that is released: nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def installation_id(folder: Path) -> str:
    """What tells this state folder from any other: made once, kept beside the database. ConfigError: it cannot be."""
    path = folder / INSTALLATION_NAME
    try:
        if not path.exists():
            write_atomically(path, f"{secrets.token_hex(16)}\n".encode())
        found = path.read_text(encoding="ascii", errors="replace")[:64].strip()
    except OSError as error:
        raise ConfigError(f"[paths] state: {path} cannot be read or made: {error.strerror}") from error
    if not _INSTALLATION.fullmatch(found):
        raise ConfigError(f"[paths] state: {path} holds no installation id: put back its 32 hexadecimal digits")
    return found
