"""A host in a temporary folder: /proc and cgroup hierarchies with recorded files, for containers that do not exist."""

from __future__ import annotations

import shutil
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"
_V1 = {
    "cpuacct": ("cpuacct.usage",),
    "memory": ("memory.usage_in_bytes", "memory.stat", "memory.oom_control"),
    "pids": ("pids.current",),
    "blkio": ("blkio.throttle.io_service_bytes_recursive",),
}
_V2 = ("cpu.stat", "memory.current", "memory.stat", "memory.events", "pids.current", "io.stat")


class RecordedHost:
    """`proc` is its /proc. Each container is a copy of the recorded one, under an id made of its pid."""

    def __init__(self, base: Path, version: int) -> None:
        self.proc = base / "proc"
        self.version = version
        self._base = base.absolute()
        self._recorded = RECORDED / f"cgroup{version}"
        (self.proc / "self").mkdir(parents=True)
        if version == 1:
            mounts = [f"3 2 0:3 / {self._base}/{name} rw - cgroup cgroup rw,{name}" for name in _V1]
        else:
            mounts = [f"3 2 0:3 / {self._base}/unified rw - cgroup2 cgroup2 rw"]
        (self.proc / "self/mountinfo").write_text("\n".join(mounts) + "\n")

    def add(self, pid: int) -> None:
        """A container whose first process is `pid`."""
        (self.proc / str(pid) / "net").mkdir(parents=True)
        shutil.copy(RECORDED / "cgroup1/net_dev", self.proc / str(pid) / "net/dev")
        lines = [f"3:{name}:/docker/{pid:064x}" for name in _V1] if self.version == 1 else [f"0::/docker/{pid:064x}"]
        (self.proc / str(pid) / "cgroup").write_text("\n".join(lines) + "\n")
        for folder, names in _V1.items() if self.version == 1 else {"unified": _V2}.items():
            group = self._base / folder / "docker" / f"{pid:064x}"
            group.mkdir(parents=True)
            for name in names:
                shutil.copy(self._recorded / name, group / name)
        if self.version == 1:
            self.file(pid, "cgroup.event_control").write_text("")

    def file(self, pid: int, name: str) -> Path:
        """One of a container's cgroup files."""
        folder = "unified"
        if self.version == 1:
            folder = next((key for key, names in _V1.items() if name in names), "memory")
        return self._base / folder / "docker" / f"{pid:064x}" / name

    def write(self, pid: int, name: str, text: str) -> None:
        self.file(pid, name).write_text(text)

    def vanish(self, pid: int) -> None:
        """The container is gone: descriptors that are open read nothing any more."""
        shutil.rmtree(self.proc / str(pid))
        for path in self._base.glob(f"*/docker/{pid:064x}/*"):
            path.write_text("")
