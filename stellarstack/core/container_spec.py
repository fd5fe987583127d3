"""The bodies that the engine makes containers from: every limit and fence of PROTOCOL 12. Performs no I/O.

Nothing of a blueprint reaches a body but image, command, environment, ports, the container's paths and limits; no
field of a blueprint can loosen a fence (SECURITY W03, W06, W09, D01).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from stellarstack.core.blueprint import InstallPlan
from stellarstack.core.environment import given_from
from stellarstack.core.messages import Json
from stellarstack.core.resources import container_memory
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import BlueprintInvalid

LABEL_NODE = "stellarstack.node"
LABEL_SERVER = "stellarstack.server"
LABEL_ROLE = "stellarstack.role"
LABEL_NETWORK = "stellarstack.network"
LABEL_INSTALLATION = "stellarstack.installation"
ROLE_RUN = "run"
ROLE_INSTALL = "install"
ROLE_SHARED = "shared"  # of a network that several servers may join
INSTALL_MOUNT = "/mnt/server"
SCRIPT_MOUNT = "/mnt/install"
SCRIPT_NAME = "install.sh"
INSTALL_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
_INSTALL_MEMORY_MB = 1024
_INSTALL_PIDS = 512
_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Placement:
    """Where on this node a server's container stands, and this node's rules.

    `root_path`: the server's root on the host; `install_path`: a folder on the host, out of the tenant's reach, that
    holds `install.sh` (installs only). `aliases`: what the server is called in its network. `installation`: the id of
    this daemon's state folder. `seccomp`: a profile's JSON text, None: Docker's own. `memory_overhead`: what runtimes
    get beyond the limit the game is told, as a fraction of it; None: `core.resources`' steps. Sizes in MB.
    """

    node_id: str
    container_name: str
    uid: int
    gid: int
    root_path: str
    network: str
    aliases: tuple[str, ...] = ()
    installation: str = ""
    install_path: str = ""
    read_only_root: bool = True
    tmpfs_mb: int = 100
    log_size_mb: int = 16
    seccomp: str | None = None
    memory_overhead: float | None = 0.0


def run_body(spec: ServerSpec, placement: Placement) -> dict[str, Json]:
    """The create body of a server's container. Its name goes into the query, not into the body."""
    blueprint = spec.blueprint
    body = _common(spec, placement, ROLE_RUN)
    body["User"] = f"{placement.uid}:{placement.gid}"
    body["StopSignal"] = blueprint.stop.signal
    body["ExposedPorts"] = {name: {} for name in _published(spec)}
    body |= _command(spec)
    host = _host(spec, placement, spec.memory_mb, spec.cpu, spec.pids)
    host["Init"] = blueprint.init
    host["ReadonlyRootfs"] = placement.read_only_root
    host["PortBindings"] = {name: [dict(place) for place in places] for name, places in _published(spec).items()}
    host["Binds"] = _binds(spec, placement)
    body["HostConfig"] = host
    if placement.aliases:
        body["NetworkingConfig"] = {"EndpointsConfig": {placement.network: {"Aliases": list(placement.aliases)}}}
    return body


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """How a server that runs comes to other limits. `live`: the body that changes its container, empty: nothing to do.

    `at_once`: the keys of `config` that `live` changes; `waits`: those that only a new container has.
    """

    live: Mapping[str, Json]
    at_once: tuple[str, ...]
    waits: tuple[str, ...]


def update_body(old: ServerSpec, new: ServerSpec, placement: Placement) -> UpdatePlan:
    """What becomes of the change from `old` to `new` while the server's container runs.

    A limit that is lifted waits: to the engine 0 is no change, and cgroups v1 do not take a limit of swap back. So does
    all that a container is made with. What follows from the memory (SERVER_MEMORY, the size of a heap) the game is told
    at its next start.
    """
    host = _host(new, placement, new.memory_mb, new.cpu, new.pids)
    live = {name: host[name] for key, name in _ALONE if _differ(key, old, new) and host.get(name)}
    memory = host["Memory"]
    swaps = _differ("swap", old, new) and (new.swap_mb >= 0 or not memory) and not (old.memory_mb and not memory)
    if memory and (_differ("memory", old, new) or swaps):
        swap_mb = old.swap_mb if new.swap_mb < 0 else new.swap_mb
        live |= {"Memory": memory, "MemorySwap": _memory_and_swap(cast(int, memory), swap_mb)}
    done = {key: name in live for key, name in (*_ALONE, ("memory", "Memory"))} | {"swap": swaps}
    changed = [key for key in _PARTS if _differ(key, old, new)]
    return UpdatePlan(
        live,
        at_once=tuple(key for key in changed if done.get(key, False)),
        waits=tuple(key for key in changed if not done.get(key, False)),
    )


def _differ(key: str, old: ServerSpec, new: ServerSpec) -> bool:
    return _PARTS[key](old) != _PARTS[key](new)


_ALONE = (("cpu", "NanoCpus"), ("pids", "PidsLimit"), ("blkioWeight", "BlkioWeight"))
# key of `config`, and what the spec holds of it
_PARTS: Mapping[str, Callable[[ServerSpec], object]] = {
    "memory": lambda spec: spec.memory_mb,
    "swap": lambda spec: spec.swap_mb,
    "cpu": lambda spec: spec.cpu,
    "pids": lambda spec: spec.pids,
    "blkioWeight": lambda spec: spec.blkio_weight,
    "disk": lambda spec: spec.disk_mb,
    "ports": lambda spec: spec.ports,
    "env": lambda spec: given_from(spec.blueprint, spec.env, spec.variables),
    "image": lambda spec: spec.image,
    "network": lambda spec: spec.network,
}


def install_body(spec: ServerSpec, placement: Placement) -> dict[str, Json]:
    """The create body of the container that runs the install script. BlueprintInvalid: there is no script."""
    plan = spec.blueprint.install
    if plan is None:
        raise BlueprintInvalid("install: the blueprint has no script")
    body = _common(spec, placement, ROLE_INSTALL)
    body["Image"] = spec.install_image
    body["User"] = "0:0" if plan.root else f"{placement.uid}:{placement.gid}"
    body["Entrypoint"] = list(plan.entrypoint)
    body["Cmd"] = [f"{SCRIPT_MOUNT}/{SCRIPT_NAME}"]
    body["WorkingDir"] = INSTALL_MOUNT
    body["HostConfig"] = _install_host(spec, placement, plan)
    return body


def _install_host(spec: ServerSpec, placement: Placement, plan: InstallPlan) -> dict[str, Json]:
    """An installer gets at least 1 GB and one core: it unpacks and builds what a small server then only runs."""
    memory = max(spec.memory_mb, _INSTALL_MEMORY_MB) if spec.memory_mb else _INSTALL_MEMORY_MB * 4
    cpu = max(spec.cpu, 1.0) if spec.cpu else 4.0
    host = _host(spec, placement, memory, cpu, max(spec.pids, _INSTALL_PIDS))
    host["Init"] = True
    host["ReadonlyRootfs"] = placement.read_only_root and not plan.root
    host["CapAdd"] = list(INSTALL_CAPABILITIES) if plan.root else []
    root = spec.blueprint.root
    mounts = [INSTALL_MOUNT] if spec.blueprint.egg or root == INSTALL_MOUNT else [INSTALL_MOUNT, root]
    binds: list[Json] = [f"{placement.root_path}:{mount}:rw" for mount in mounts]
    host["Binds"] = [*binds, f"{placement.install_path}:{SCRIPT_MOUNT}:ro"]
    return host


def _common(spec: ServerSpec, placement: Placement, role: str) -> dict[str, Json]:
    """A terminal that is held open, the labels that reconciling looks for, and nothing of the host's environment."""
    env = dict(spec.env)
    if role == ROLE_INSTALL or spec.blueprint.init:
        # The engine's init passes signals to the whole group, and an image's own init below it has nothing to warn of.
        env = {"TINI_KILL_PROCESS_GROUP": "1", "TINI_SUBREAPER": "1", **env}
    return {
        "Image": spec.image,
        "Tty": True,
        "OpenStdin": True,
        "StdinOnce": False,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Env": [f"{key}={value}" for key, value in env.items()],
        "Labels": {
            LABEL_NODE: placement.node_id,
            LABEL_SERVER: spec.server_id,
            LABEL_ROLE: role,
            LABEL_INSTALLATION: placement.installation,
        },
    }


def _command(spec: ServerSpec) -> dict[str, Json]:
    """A string runs under a shell, words are exec'd, both past the image's entrypoint; None: the image's own."""
    workdir: dict[str, Json] = {"WorkingDir": spec.blueprint.workdir} if spec.blueprint.workdir else {}
    if spec.command is None:
        return workdir
    workdir = workdir or {"WorkingDir": spec.blueprint.root}
    if isinstance(spec.command, str):
        return {**workdir, "Entrypoint": ["/bin/sh", "-c"], "Cmd": [spec.command]}
    return {**workdir, "Entrypoint": [spec.command[0]], "Cmd": list(spec.command[1:])}


def _host(spec: ServerSpec, placement: Placement, memory_mb: int, cpu: float, pids: int) -> dict[str, Json]:
    """Limits and fences, the same for both roles. A limit of 0 is none."""
    memory = container_memory(memory_mb, placement.memory_overhead)
    host: dict[str, Json] = {
        "NetworkMode": placement.network,
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": _security(placement),
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Memory": memory,
        "MemorySwap": _memory_and_swap(memory, spec.swap_mb),
        "NanoCpus": round(cpu * 1_000_000_000),
        "PidsLimit": pids or -1,
        "OomKillDisable": False,
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={placement.tmpfs_mb}m"},  # noqa: S108 -- the container's
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": f"{placement.log_size_mb}m", "max-file": "2", "compress": "false"},
        },
    }
    if spec.blkio_weight is not None:
        host["BlkioWeight"] = spec.blkio_weight
    return host


def _memory_and_swap(memory: int, swap_mb: int) -> int:
    """The engine counts both together: 0 leaves it alone, -1 is no limit."""
    if not memory:
        return 0
    return -1 if swap_mb < 0 else memory + swap_mb * _MB


def _security(placement: Placement) -> list[Json]:
    found: list[Json] = ["no-new-privileges:true"]
    if placement.seccomp is not None:
        found.append(f"seccomp={placement.seccomp}")
    return found


def _binds(spec: ServerSpec, placement: Placement) -> list[Json]:
    """The server's root, and its subfolders that stand elsewhere in the container."""
    binds: list[Json] = [f"{placement.root_path}:{spec.blueprint.root}:rw"]
    for volume in spec.blueprint.volumes[1:]:
        if volume.subfolder in spec.subfolders:
            binds.append(f"{placement.root_path}/{volume.subfolder}:{volume.container}:rw")
    return binds


def _published(spec: ServerSpec) -> dict[str, list[dict[str, str]]]:
    published: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        for protocol in port.protocols:
            place = {"HostIp": port.ip, "HostPort": str(port.host)}
            published.setdefault(f"{port.container}/{protocol}", []).append(place)
    return published
