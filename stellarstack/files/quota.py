"""Project quotas of the kernel (ext4 and XFS): who holds how much, and a limit that no write passes.

A project is a number on each file and folder. A folder that carries one with the inherit flag hands it to whatever is
made in it, so a server's whole tree is one project. Everything here blocks, and needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stellarstack.errors import StellarError

MOUNTINFO = Path("/proc/self/mountinfo")
_PROJECTS = 2  # PRJQUOTA of <linux/quota.h>; the commands too
_GET_QUOTA, _SET_QUOTA, _GET_STATE = 0x800007, 0x800008, (ord("X") << 8) + 8
_ACCOUNTED, _ENFORCED = 1 << 4, 1 << 5  # FS_QUOTA_PDQ_ACCT and _ENFD of <linux/dqblk_xfs.h>
_STATE_SIZE, _STATE_VERSION = 256, 1
_LIMITS_VALID = 1 | 4  # QIF_BLIMITS, QIF_ILIMITS
_BLOCK = 1024  # bytes: the kernel's unit of space limits
_QUOTA = struct.Struct("=8QI4x")  # struct if_dqblk
_ATTRIBUTES = struct.Struct("=5I8x")  # struct fsxattr of <linux/fs.h>
_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820
_INHERIT = 0x200  # FS_XFLAG_PROJINHERIT
_QUOTACTL_FD = 443  # since Linux 5.14, the same number on every architecture
# What a file system says that keeps no such quota, or none that this process may ask for.
_ABSENT = {errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ESRCH, errno.ENOENT, errno.ENODEV}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Usage:
    """What a project holds now, and its limits (0: none). `space` and `space_limit` are in bytes."""

    space: int
    files: int
    space_limit: int = 0
    files_limit: int = 0


class Kernel(Protocol):
    """The two ways into the kernel. OSError with its errno."""

    def quotactl(self, descriptor: int, command: int, project: int, content: bytes) -> bytes:
        """quotactl(2) for project quotas on the file system of `descriptor`; answers what became of `content`."""

    def ioctl(self, descriptor: int, request: int, content: bytes) -> bytes: ...


class LinuxKernel:
    """Meets Kernel. Before Linux 5.14 the file system is named by its device, which mountinfo tells."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def quotactl(self, descriptor: int, command: int, project: int, content: bytes) -> bytes:
        code = (command << 8) | _PROJECTS
        try:
            return self._call(content, lambda at: self._libc.syscall(
                ctypes.c_long(_QUOTACTL_FD), ctypes.c_uint(descriptor), ctypes.c_uint(code), ctypes.c_int(project), at
            ))  # fmt: skip
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        device = os.fsencode(device_of(os.fstat(descriptor).st_dev, MOUNTINFO.read_text()))
        return self._call(content, lambda at: self._libc.quotactl(
            ctypes.c_int(ctypes.c_int32(code).value), ctypes.c_char_p(device), ctypes.c_int(project), at
        ))  # fmt: skip

    def ioctl(self, descriptor: int, request: int, content: bytes) -> bytes:
        return fcntl.ioctl(descriptor, request, content)

    def _call(self, content: bytes, call: object) -> bytes:
        buffer = ctypes.create_string_buffer(content, len(content))
        if call(buffer) == -1:  # type: ignore[operator]
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return buffer.raw


def device_of(device: int, mountinfo: str) -> str:
    """The path of the block device with number `device`, as mountinfo(5) names it. OSError: it names none."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        if front.split()[2:3] == [number] and len(back.split()) > 1:
            source = back.split()[1]
            return source if source.startswith("/") and os.path.exists(source) else f"/dev/block/{number}"
    raise OSError(errno.ENODEV, f"no mount of {number}")


class ProjectQuota:
    """The project quotas of the file system that `path` is on. Keeps one descriptor, until `close`.

    StellarError: the kernel refuses. A project without a record holds nothing.
    """

    def __init__(self, path: Path, kernel: Kernel) -> None:
        self._kernel = kernel
        self._path = path
        self._descriptor = os.open(path, _FOLDER)

    def close(self) -> None:
        os.close(self._descriptor)

    def missing(self) -> str:
        """What is missing for limits that hold, in a person's words; empty: nothing."""
        try:
            state = self._kernel.quotactl(self._descriptor, _GET_STATE, 0, _state_question())
            self._kernel.ioctl(self._descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
            flags = struct.unpack_from("=H", state, 2)[0]
            if not flags & _ACCOUNTED:
                return f"{self._path} is on a file system without project quota; mount it with prjquota"
            if not flags & _ENFORCED:
                return f"project quota of {self._path} counts but does not hold; mount it with prjquota"
            self._kernel.quotactl(self._descriptor, _GET_QUOTA, 0, bytes(_QUOTA.size))
        except OSError as error:
            if error.errno in _ABSENT:
                return f"{self._path} is on a file system without project quota"
            return f"project quota of {self._path} cannot be used: {error.strerror}"
        return ""

    def usage(self, project: int) -> Usage:
        """One call, however many files there are."""
        try:
            answer = self._kernel.quotactl(self._descriptor, _GET_QUOTA, project, bytes(_QUOTA.size))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return Usage(0, 0)
            raise self._refused(error, f"the usage of project {project} cannot be read") from None
        space_limit, _, space, files_limit, _, files, *_ = _QUOTA.unpack(answer)
        return Usage(space, files, space_limit * _BLOCK, files_limit)

    def set_limit(self, project: int, space: int, files: int) -> None:
        """From now on no write passes these; `space` in bytes, rounded down to KiB; 0: no limit."""
        blocks = max(1, space // _BLOCK) if space else 0
        content = _QUOTA.pack(blocks, 0, 0, files, 0, 0, 0, 0, _LIMITS_VALID)
        try:
            self._kernel.quotactl(self._descriptor, _SET_QUOTA, project, content)
        except OSError as error:
            raise self._refused(error, f"project {project} cannot be limited") from None

    def project_of(self, descriptor: int) -> int:
        """The project of an open file or folder; 0 where it has none, or does not hand it on. OSError."""
        flags, _, _, project, _ = _ATTRIBUTES.unpack(
            self._kernel.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
        )
        return int(project) if flags & _INHERIT else 0

    def put_into(self, descriptor: int, project: int, *, folder: bool) -> None:
        """Moves an open file or folder to `project`; a folder hands it to what is made in it. OSError.

        Project 0 takes it out of any.
        """
        flags, extent, extents, old, cow = _ATTRIBUTES.unpack(
            self._kernel.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
        )
        wanted = flags | _INHERIT if folder and project else flags & ~_INHERIT
        if (wanted, project) != (flags, old):
            content = _ATTRIBUTES.pack(wanted, extent, extents, project, cow)
            self._kernel.ioctl(descriptor, _SET_ATTRIBUTES, content)

    def _refused(self, error: OSError, what: str) -> StellarError:
        return StellarError(f"{self._path}: {what}: {error.strerror}")


def _state_question() -> bytes:
    return bytes([_STATE_VERSION]).ljust(_STATE_SIZE, b"\0")
