"""One container's counters from its cgroup files (v1 and v2) and /proc, on file descriptors that stay open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from stellarstack.core import cgroup_files
from stellarstack.core.cgroup_files import CgroupMounts, ContainerFiles

_LONGEST = 65536  # bytes of a file that are read: memory.stat has 3 000, net/dev and io.stat 130 a line


class NoContainer(Exception):
    """The process is no container's, or has no cgroup that can be read."""


@dataclass(frozen=True, slots=True)
class Counters:
    """One look at a container: sizes in bytes, counters since it began."""

    cpu_seconds: float
    memory: int
    pids: int
    oom_kills: int
    block_read: int
    block_write: int
    network_rx: int
    network_tx: int


class OpenCgroup:
    """A container's files, held open. Everything blocks, for well under a millisecond as a rule: call it in a thread.

    The descriptors outlive the container; reading then raises OSError (ENODEV). `close` in any case.
    """

    def __init__(self, files: ContainerFiles, net_dev: Path) -> None:
        self.files = files
        self._lock = Lock()  # between `close` in one thread and `oom_kills` in another
        self._open: dict[str, int] = {}
        try:
            for name in ("cpu", "memory", "memory_stat", "memory_events", "pids"):
                self._open[name] = _opened(getattr(files, name))
            self._open["network"] = _opened(net_dev)
            if Path(files.block).exists():  # some kernels are built without it, some nodes do not delegate it
                self._open["block"] = _opened(files.block)
        except OSError:
            self.close()
            raise

    def read(self) -> Counters:
        """The counters now. OSError: the container is gone. ValueError: a file is not what it should be."""
        version = self.files.version
        block = self._text("block") if "block" in self._open else ""
        read, written = cgroup_files.block_bytes(block, version)
        received, sent = cgroup_files.network_bytes(self._text("network"))
        return Counters(
            cpu_seconds=cgroup_files.cpu_seconds(self._text("cpu"), version),
            memory=cgroup_files.memory_used(self._text("memory"), self._text("memory_stat"), version),
            pids=int(self._text("pids")),
            oom_kills=cgroup_files.oom_kills(self._text("memory_events")),
            block_read=read,
            block_write=written,
            network_rx=received,
            network_tx=sent,
        )

    def oom_kills(self) -> int | None:
        """The kernel's count of OOM kills; None where the container is gone. Quick enough for the reactor."""
        with self._lock:
            try:
                return cgroup_files.oom_kills(self._text("memory_events"))
            except (OSError, KeyError, ValueError):
                return None

    @property
    def events_descriptor(self) -> int:
        """Of the file that counts OOM kills. KeyError: closed."""
        return self._open["memory_events"]

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def _text(self, name: str) -> str:
        return os.pread(self._open[name], _LONGEST, 0).decode("ascii", "replace")


class Cgroups:
    """Finds containers by their processes. The mounts are read once, when the first one is looked for."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._mounts: CgroupMounts | None = None

    def open(self, pid: int) -> OpenCgroup:
        """Opens the files of the container in which `pid` runs. Raises NoContainer; OSError: the process is gone."""
        if self._mounts is None:
            self._mounts = cgroup_files.cgroup_mounts((self._proc / "self/mountinfo").read_text())
        process = self._proc / str(pid)
        cgroups = cgroup_files.container_cgroups((process / "cgroup").read_text())
        files = cgroup_files.container_files(self._mounts, cgroups)
        if files is None:
            raise NoContainer(f"process {pid} is in no container's cgroup that can be read")
        return OpenCgroup(files, process / "net/dev")


def _opened(path: str | Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
