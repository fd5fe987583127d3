"""What the daemon keeps about each game server across restarts. Performs no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from stellarstack.core import plain
from stellarstack.core.messages import Json
from stellarstack.core.ports import PortMapping
from stellarstack.core.spec import ServerSpec


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


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A game server as the store keeps it. `created_by` is the id of its server.create; `wanted`: it should run.

    `arrived`: its create came to its end, so that no other create takes its place. `own_root`: its folder was made by
    its create, which may remove it when it fails. `network`: the engine's name of the one that its container was last
    made in, empty: its own; `subnet` is that one's.
    """

    spec: ServerSpec
    subnet: str
    created_by: str
    installed: bool = False
    wanted: bool = False
    status: ServerStatus = ServerStatus.STOPPED
    reason: StatusReason | None = None
    exit_code: int | None = None
    container_id: str | None = None
    arrived: bool = False
    own_root: bool = True
    bound: tuple[PortMapping, ...] | None = None  # the ports of the container made last; None: as in the spec
    uid: int | None = None  # of its own user (and group), where each server has one
    network: str = ""

    def to_document(self) -> dict[str, Json]:
        """As the store keeps it."""
        return {
            "spec": self.spec.to_json(),
            "subnet": self.subnet,
            "createdBy": self.created_by,
            "installed": self.installed,
            "wanted": self.wanted,
            "status": self.status.value,
            "reason": self.reason.value if self.reason else None,
            "exitCode": self.exit_code,
            "containerId": self.container_id,
            "arrived": self.arrived,
            "ownRoot": self.own_root,
            "bound": None if self.bound is None else plain.dump(self.bound),
            "uid": self.uid,
            "network": self.network,
        }


def record_from(document: Mapping[str, Json]) -> ServerRecord:
    """The reverse of `to_document`. BlueprintInvalid, KeyError or ValueError: not written by this daemon."""
    spec, reason, code, container = (document[key] for key in ("spec", "reason", "exitCode", "containerId"))
    if not isinstance(spec, dict):
        raise ValueError("a server's record without its spec")
    return ServerRecord(
        spec=ServerSpec.from_json(spec),
        subnet=str(document["subnet"]),
        created_by=str(document["createdBy"]),
        installed=document["installed"] is True,
        wanted=document["wanted"] is True,
        status=ServerStatus(document["status"]),
        reason=StatusReason(reason) if reason is not None else None,
        exit_code=code if isinstance(code, int) else None,
        container_id=container if isinstance(container, str) else None,
        arrived=document.get("arrived") is not False,
        own_root=document.get("ownRoot") is not False,
        bound=_bound(document.get("bound")),
        uid=uid if isinstance(uid := document.get("uid"), int) else None,
        network=str(document.get("network") or ""),
    )


def _bound(found: Json) -> tuple[PortMapping, ...] | None:
    if not isinstance(found, list):
        return None
    return tuple(plain.load(PortMapping, item) for item in found if isinstance(item, dict))
