"""What the Docker Engine tells of itself and of its containers, as plain values. Performs no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OLDEST_API = (1, 40)  # of Docker 19.03; older ones lack what servers are made with


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """`api` as (1, 41); `cgroup` is 1 or 2; `root` Docker's data folder; `live_restore`: containers outlive dockerd."""

    version: str
    api: tuple[int, int]
    cgroup: int
    cgroup_driver: str
    root: str
    live_restore: bool


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
