"""Reads what the kernel writes about a container: cgroup files of v1 and v2, mount tables, net/dev. Performs no I/O.

Every function takes a file's text. ValueError: it is not what it should be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

# v1 writes this (or less by a page) for "no limit".
_V1_UNLIMITED = 2**60
_CONTAINER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CgroupMounts:
    """Where the hierarchies are mounted: `v1` by controller, `v2` the unified one or None. Values are (point, root)."""

    v1: Mapping[str, tuple[str, str]]
    v2: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class ContainerFiles:
    """The paths of a container's figures; `version` of cgroups, 1 or 2, says how each is to be read."""

    version: int
    cpu: str
    memory: str
    memory_stat: str
    memory_events: str
    pids: str
    block: str


def cgroup_mounts(mountinfo: str) -> CgroupMounts:
    """The cgroup hierarchies of `/proc/self/mountinfo`; of one that is mounted twice the first mount."""
    v1: dict[str, tuple[str, str]] = {}
    v2: tuple[str, str] | None = None
    for line in mountinfo.splitlines():
        left, found, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if not found or len(fields) < 5 or len(kind) < 3:
            continue
        place = (_unescaped(fields[4]), _unescaped(fields[3]))
        if kind[0] == "cgroup2" and v2 is None:
            v2 = place
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                v1.setdefault(option, place)
    return CgroupMounts(v1, v2)


def container_cgroups(proc_cgroup: str) -> dict[str, str]:
    """Controller -> cgroup path of `/proc/PID/cgroup`; the unified hierarchy stands under "".

    Only a container's: each path is cut after the part that holds the container's id (its processes may sit in groups
    below), for the cgroupfs driver (`/docker/ID`) and systemd's (`/system.slice/docker-ID.scope`) alike. A process of
    the host, which a pid used again would show, answers an empty dict.
    """
    found = {}
    for line in proc_cgroup.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        own = _container_path(path)
        if own is not None:
            found.update(dict.fromkeys(controllers.split(","), own))
    return found


def container_files(mounts: CgroupMounts, cgroups: Mapping[str, str]) -> ContainerFiles | None:
    """Where the container's figures are; None where no known hierarchy has them."""
    v1 = {name: _directory(mounts.v1.get(name), cgroups.get(name)) for name in ("cpuacct", "memory", "pids", "blkio")}
    cpu, memory, pids, block = v1.values()
    if cpu and memory and pids and block:
        return ContainerFiles(
            version=1,
            cpu=f"{cpu}/cpuacct.usage",
            memory=f"{memory}/memory.usage_in_bytes",
            memory_stat=f"{memory}/memory.stat",
            memory_events=f"{memory}/memory.oom_control",
            pids=f"{pids}/pids.current",
            block=f"{block}/blkio.throttle.io_service_bytes_recursive",
        )
    unified = _directory(mounts.v2, cgroups.get(""))
    if unified is None or cpu or memory:
        return None
    return ContainerFiles(
        version=2,
        cpu=f"{unified}/cpu.stat",
        memory=f"{unified}/memory.current",
        memory_stat=f"{unified}/memory.stat",
        memory_events=f"{unified}/memory.events",
        pids=f"{unified}/pids.current",
        block=f"{unified}/io.stat",
    )


def cpu_seconds(text: str, version: int) -> float:
    """CPU time used so far: v1 `cpuacct.usage` (nanoseconds), v2 `cpu.stat` (`usage_usec`)."""
    return int(text) / 1e9 if version == 1 else _keyed(text, "usage_usec") / 1e6


def memory_used(usage: str, stat: str, version: int) -> int:
    """Bytes in use as Docker shows them: without the page cache that can be given back at once."""
    total = int(usage)
    inactive = _keyed(stat, "total_inactive_file" if version == 1 else "inactive_file")
    return total - inactive if inactive < total else total


def memory_limit(text: str) -> int:
    """`memory.limit_in_bytes` of v1 or `memory.max` of v2 in bytes; 0 for none."""
    value = 0 if text.strip() == "max" else int(text)
    return 0 if value >= _V1_UNLIMITED else value


def oom_kills(text: str) -> int:
    """How often the kernel killed in this group for want of memory: v1 `memory.oom_control`, v2 `memory.events`."""
    return _keyed(text, "oom_kill")


def block_bytes(text: str, version: int) -> tuple[int, int]:
    """Bytes (read, written) over all devices: v1 `blkio.throttle.io_service_bytes_recursive`, v2 `io.stat`."""
    read = written = 0
    for line in text.splitlines():
        words = line.split()
        if version == 1 and len(words) == 3:
            read += int(words[2]) if words[1] == "Read" else 0
            written += int(words[2]) if words[1] == "Write" else 0
        elif version == 2:
            pairs = dict(word.split("=", 1) for word in words[1:] if "=" in word)
            read += int(pairs.get("rbytes", 0))
            written += int(pairs.get("wbytes", 0))
    return read, written


def network_bytes(net_dev: str) -> tuple[int, int]:
    """Bytes (received, sent) of `/proc/PID/net/dev` over all interfaces but the loopback."""
    received = sent = 0
    for line in net_dev.splitlines():
        name, found, rest = line.partition(":")
        columns = rest.split()
        if found and len(columns) >= 9 and name.strip() != "lo":
            received += int(columns[0])
            sent += int(columns[8])
    return received, sent


def _keyed(text: str, key: str) -> int:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    raise ValueError(f"no {key} in the file")


def _container_path(path: str) -> str | None:
    parts = PurePosixPath(path).parts
    for end, part in enumerate(parts, 1):
        if part == "..":
            return None
        if _CONTAINER.search(part):
            return str(PurePosixPath(*parts[:end]))
    return None


def _directory(mount: tuple[str, str] | None, path: str | None) -> str | None:
    """The folder of a cgroup: its path lies below the mount's root, which is `/` but inside of another container."""
    if mount is None or path is None:
        return None
    point, root = mount
    if root != "/":
        if not (path + "/").startswith(root + "/"):
            return None
        path = path[len(root) :]
    return point.rstrip("/") + path


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
