"""What `doctor` measures on the machine itself: folders, disk, ports, cgroups, clock."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

CLOCK_LIMIT = 30.0
_CONTROLLERS = ("memory", "cpu", "pids")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_STATUS_OFFSET, _TIMEX_SIZE, _STA_UNSYNC = 40, 512, 0x40


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def folder_fault(name: str, path: Path) -> str:
    """Why the folder cannot be used or made; empty where it can."""
    if path.exists() and not path.is_dir():
        return f"{name} {path} is no folder"
    there = existing(path)
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{name} {path} cannot be written" if there == path else f"{name} {path} cannot be made in {there}"
    return ""


def holder(lock: Path, proc: Path = Path("/proc")) -> int:
    """The process that holds a state folder by the lock file in it, if it is a daemon that lives; 0: none is known."""
    try:
        number = int(lock.read_text(encoding="ascii")[:20])
        words = (proc / str(number) / "cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return number if b"stellarstack" in words else 0


def tightest(paths: Iterable[Path]) -> tuple[Path, int, float, int]:
    """Of the file systems below `paths` the one with the least free: folder, bytes, percent, inodes free.

    A file system without a count of inodes says 1.
    """
    found = []
    for path in paths:
        there = existing(path)
        stat = os.statvfs(there)
        percent = 100 * stat.f_bavail / stat.f_blocks if stat.f_blocks else 100.0
        found.append((there, stat.f_bavail * stat.f_frsize, percent, stat.f_favail if stat.f_files else 1))
    return min(found, key=lambda row: row[2])


def listen_fault(host: str, port: int) -> str:
    """Why nobody can listen there; empty where one can."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, number) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def cgroup(root: Path = Path("/sys/fs/cgroup")) -> tuple[int, tuple[str, ...]]:
    """Version (0: none mounted) and the controllers that lack."""
    unified = root / "cgroup.controllers"
    if unified.exists():
        there = unified.read_text().split()
        return 2, tuple(name for name in _CONTROLLERS if name not in there)
    if not root.is_dir() or not any(root.iterdir()):
        return 0, _CONTROLLERS
    there = [part for folder in root.iterdir() for part in folder.name.split(",")]
    return 1, tuple(name for name in _CONTROLLERS if name not in there)


def clock_away(other: float) -> float:
    """Seconds between `other`, Unix time on another machine, and ours; 0 where it is not known (0.0)."""
    return abs(time.time() - other) if other else 0.0


def clock_synchronised() -> bool | None:
    """Whether the kernel says that NTP keeps the clock; None where it cannot be asked."""
    timex = ctypes.create_string_buffer(_TIMEX_SIZE)
    try:
        answer = int(ctypes.CDLL(None, use_errno=True).adjtimex(timex))
    except (OSError, AttributeError):
        return None
    if answer < 0:
        return None
    status = int.from_bytes(timex.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], "little", signed=True)
    return answer != _TIME_ERROR and not status & _STA_UNSYNC
