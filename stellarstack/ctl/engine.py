"""What `doctor` wants to know of the Docker Engine, asked over its UNIX socket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stellarstack.ctl.control import ControlSocket, Refused

# what the engine says it can limit -> what that is for people
_LIMITS = {"MemoryLimit": "memory", "SwapLimit": "swap", "CpuCfsQuota": "CPU", "PidsLimit": "processes"}


@dataclass(frozen=True, slots=True)
class EngineLook:
    """`lacks` names what the engine cannot limit; `live_restore`: containers outlive dockerd."""

    version: str
    api: tuple[int, int]
    lacks: tuple[str, ...]
    live_restore: bool


def look(socket: Path) -> EngineLook:
    """Raises Refused where no engine answers."""
    http = ControlSocket(socket)
    try:
        version, info = http.get("/version"), http.get("/info")
    except Refused:
        raise Refused(f"no Docker answers at {socket}") from None
    major, _, minor = str(version.get("ApiVersion", "0.0")).partition(".")
    # cgroup v2 has no CpuCfsQuota of that name in some engines: they leave the key out
    lacks = tuple(word for key, word in _LIMITS.items() if info.get(key) is False)
    return EngineLook(
        str(version.get("Version")), (int(major), int(minor)), lacks, bool(info.get("LiveRestoreEnabled"))
    )
