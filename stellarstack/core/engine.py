"""What the Docker Engine tells of itself and of its containers, as plain values. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

OLDEST_API = (1, 40)  # of Docker 19.03; older ones lack what servers are made with


ENGINE_FLOOR = (20, 10)
RUNC_FLOOR = (1, 2, 8)  # CVE-2024-21626, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881 are mended from there on


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """`api` as (1, 41); `cgroup` is 1 or 2; `root` Docker's data folder; `live_restore`: containers outlive dockerd.

    `runc` is the version of what starts the containers, empty where the engine does not tell.
    """

    version: str
    api: tuple[int, int]
    cgroup: int
    cgroup_driver: str
    root: str
    live_restore: bool
    runc: str = ""

    @property
    def known_holes(self) -> tuple[str, ...]:
        """What is so old that a game could break out of its container; a distribution may have mended it though."""
        parts = (("Docker", self.version, ENGINE_FLOOR), ("runc", self.runc, RUNC_FLOOR))
        return tuple(
            f"{name} {found} is older than {'.'.join(map(str, floor))}"
            for name, found, floor in parts
            if (numbers := _numbers(found)) and numbers < floor
        )


def _numbers(version: str) -> tuple[int, ...]:
    """`1.1.5+ds1` as (1, 1, 5); empty: it is no version."""
    found = re.match(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", version)
    return tuple(int(number) for number in found.groups(default="0")) if found else ()


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as the engine tells it. Times are Unix seconds or None; `pid` is 0 when it does not run."""

    id: str
    name: str
    status: str  # created, running, paused, restarting, removing, exited, dead
    running: bool
    pid: int
    exit_code: int
    oom_killed: bool
    error: str
    started_at: float | None
    finished_at: float | None
    labels: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)  # network name -> IPv4 address in it


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """One entry of the engine's event feed: `action` is `start`, `die`, `oom`, `destroy` …; `time` Unix seconds."""

    action: str
    container_id: str
    labels: Mapping[str, str]
    exit_code: int | None
    time: float


@dataclass(frozen=True, slots=True)
class PullProgress:
    """Bytes fetched of the bytes known so far, over all layers; `percent` 0–100, None while nothing is known."""

    done: int
    total: int
    layers: int

    @property
    def percent(self) -> int | None:
        return min(100, self.done * 100 // self.total) if self.total else None


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Credentials for one registry. Never logged."""

    server: str
    username: str
    password: str = field(repr=False)
