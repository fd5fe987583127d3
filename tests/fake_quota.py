"""A file system's project quota without a kernel: labels by device and inode, books as a test sets them."""

from __future__ import annotations

import errno
import os
import struct

from stellarstack.core.messages import Json
from stellarstack.errors import StellarError, StoreFailed
from stellarstack.files.quota import Usage


class FakeQuota:
    """Meets files.fence's Quota. `refusing`: why every call fails."""

    def __init__(self, lacking: str = "") -> None:
        self.lacking = lacking
        self.refusing = ""
        self.closed = False
        self.labels: dict[int, int] = {}  # inode -> project
        self.limits: dict[int, tuple[int, int]] = {}
        self.space: dict[int, int] = {}
        self.files: dict[int, int] = {}
        self.history: list[tuple[int, int]] = []

    def close(self) -> None:
        self.closed = True

    def missing(self) -> str:
        return self.lacking

    def usage(self, project: int) -> Usage:
        self._refuse()
        files = self.files.get(project, list(self.labels.values()).count(project))
        return Usage(self.space.get(project, 0), files, *self.limits.get(project, (0, 0)))

    def set_limit(self, project: int, space: int, files: int) -> None:
        self._refuse()
        self.limits[project] = (space, files)
        self.history.append((project, space))

    def project_of(self, descriptor: int) -> int:
        return self.labels.get(os.fstat(descriptor).st_ino, 0)

    def put_into(self, descriptor: int, project: int, *, folder: bool) -> None:
        self.labels[os.fstat(descriptor).st_ino] = project

    def _refuse(self) -> None:
        if self.refusing:
            raise StellarError(self.refusing)


class FakeValues:
    """The store's named values; `full`: nothing can be kept."""

    def __init__(self) -> None:
        self.values: dict[str, Json] = {}
        self.full = False

    async def get_value(self, key: str) -> Json:
        return self.values.get(key)

    async def put_value(self, key: str, value: Json) -> None:
        if self.full:
            raise StoreFailed("the disk is full")
        self.values[key] = value


class FakeKernel:
    """Meets files.quota's Kernel. The layouts are those of Linux, written down here a second time on purpose."""

    def __init__(self) -> None:
        self.flags = 0x30  # accounted and enforced
        self.error: dict[int, int] = {}  # command or request -> errno
        self.quotas: dict[int, bytes] = {}
        self.attributes: dict[int, bytes] = {}
        self.calls: list[tuple[int, int]] = []

    def quotactl(self, descriptor: int, command: int, project: int, content: bytes) -> bytes:
        os.fstat(descriptor)
        self.calls.append((command, project))
        self._fail(command)
        if command == 0x5808:
            return content[:2] + struct.pack("=H", self.flags) + content[4:]
        if command == 0x800008:
            hard, _, _, files, *_ = struct.unpack("=8QI4x", content)
            self.quotas[project] = struct.pack("=8QI4x", hard, 0, 4096, files, 0, 3, 0, 0, 63)
            return content
        if project not in self.quotas:
            raise OSError(errno.ENOENT, "no record")
        return self.quotas[project]

    def ioctl(self, descriptor: int, request: int, content: bytes) -> bytes:
        inode = os.fstat(descriptor).st_ino
        self.calls.append((request, inode))
        self._fail(request)
        if request == 0x401C5820:
            self.attributes[inode] = content
        return self.attributes.get(inode, struct.pack("=5I8x", 0, 7, 8, 0, 9))

    def _fail(self, number: int) -> None:
        if number in self.error:
            raise OSError(self.error[number], os.strerror(self.error[number]))
