"""What the daemon keeps about each game server across restarts. Performs no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ServerStatus(Enum):
    """A server's state as the wire tells it (PROTOCOL 5)."""

    INSTALLING = "installing"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    CRASHED = "crashed"

    @property
    def has_process(self) -> bool:
        """Whether a container of the server runs (or is about to) in this state."""
        return self in (ServerStatus.STARTING, ServerStatus.RUNNING, ServerStatus.STOPPING)


class StatusReason(Enum):
    """Why a server came into its state (PROTOCOL 5)."""

    USER = "user"
    EXIT = "exit"
    KILLED = "killed"
    OOM = "oom"
    READY_TIMEOUT = "ready_timeout"
    DOCKER_RESTART = "docker_restart"
    RECONCILED = "reconciled"


@dataclass(frozen=True, slots=True)
class PtySize:
    """Columns and rows of a terminal, 1 to 1000 each."""

    cols: int = 80
    rows: int = 24
