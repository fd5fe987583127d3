"""`stellarctl doctor`: looks at all that a node needs and says, for each fault, how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from stellarstack.config import Config, PathsConfig
from stellarstack.config_loader import load_config
from stellarstack.core.engine import OLDEST_API
from stellarstack.ctl import checks, engine, output
from stellarstack.ctl.control import ControlSocket, Refused
from stellarstack.ctl.redis_node import Work, dialer, reachable_url, run_once
from stellarstack.errors import ConfigError, StellarError


class Verdict(Enum):
    """GOOD; POOR works, but wants mending; BAD stops the node from its work."""

    GOOD = "ok"
    POOR = "warn"
    BAD = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `found` is what is, `mend` what to do about it (empty where nothing)."""

    name: str
    verdict: Verdict
    found: str
    mend: str = ""


def good(name: str, found: str) -> Check:
    return Check(name, Verdict.GOOD, found)


class Doctor:
    """Examines one node from its own machine. `run` runs one coroutine with a reactor."""

    def __init__(
        self,
        *,
        path: Path,
        environ: Mapping[str, str],
        socket: Path | None = None,
        run: Callable[[Work[Any]], Any] = run_once,
    ) -> None:
        self._path = path
        self._environ = environ
        self._socket = socket
        self._run = run

    def examine(self) -> list[Check]:
        """All checks, in an order in which the first fault often explains the later ones."""
        try:
            config = load_config(self._path, self._environ)
        except ConfigError as error:
            mend = "mend that line; etc/daemon.toml of the sources and docs/config.rst tell every key"
            return [Check("config", Verdict.BAD, str(error), mend)]
        if self._socket is not None:
            config = replace(config, paths=_with_socket(config.paths, self._socket))
        node, holds_port = self._node(config)
        return [
            self._config_file(config),
            *_engine_checks(config),
            self._redis(config),
            *_folder_checks(config),
            _disk(config),
            _ports(config, ours=holds_port),
            _cgroup(),
            _clock(),
            node,
        ]

    def _config_file(self, config: Config) -> Check:
        if config.node.id is None:
            mend = "set [node] id and api_token, as the control plane gave them"
            return Check("config", Verdict.BAD, f"{self._path} names no node: it stays OFFLINE", mend)
        mode = self._path.stat().st_mode & 0o777
        if mode & 0o077:
            found = f"{self._path} holds secrets and has mode {mode:04o}"
            return Check("config", Verdict.POOR, found, f"chmod 600 {self._path}")
        return good("config", f"{self._path}, node {config.node.id}")

    def _redis(self, config: Config) -> Check:
        url = reachable_url(config)

        async def look(reactor: Any) -> float:
            wire = await dialer(reactor, config, url).dial()
            try:
                seconds, micros = await wire.call("TIME")
                return float(seconds) + float(micros) / 1e6
            except StellarError:
                return 0.0  # an ACL that does not allow TIME
            finally:
                wire.drop("looked")

        try:
            away = checks.clock_away(self._run(look))
        except StellarError as error:
            embedded = config.redis.url.reveal() == "embedded"
            mend = "start the daemon: it runs its own Redis" if embedded else "start Redis there, or mend [redis] url"
            return Check("redis", Verdict.BAD, str(error), mend)
        if away > checks.CLOCK_LIMIT:
            found = f"{url} answers, but its clock and ours are {away:.0f} s apart"
            return Check("redis", Verdict.BAD, found, "let NTP set both clocks: tokens and expiresAt count on them")
        if url.plaintext:
            found = f"{url} answers, unencrypted over the network"
            return Check("redis", Verdict.POOR, found, "use rediss:// and [redis] require_tls = true")
        return good("redis", f"{url} answers")

    def _node(self, config: Config) -> tuple[Check, bool]:
        """What the daemon says of itself, and whether it runs here at all: then the port is its own."""
        path, process = config.paths.control_socket, checks.holder(config.state_lock)
        try:
            about = ControlSocket(path).get("/v1/node")
        except Refused as error:
            if process:
                mend = "it may be starting: look again in a moment; its log tells what it waits for"
                return Check("daemon", Verdict.BAD, f"process {process} runs, but: {error}", mend), True
            mend = "systemctl start stellarstack; journalctl -u stellarstack"
            return Check("daemon", Verdict.BAD, str(error), mend), False
        state = str(about.get("state"))
        if state in ("ONLINE", "DRAINING"):
            return good("daemon", f"runs, {state}"), True
        mend = "look at the faults above; its log tells what it waits for"
        return Check("daemon", Verdict.BAD, f"runs, but is {output.plain(state)}", mend), True


def _with_socket(paths: PathsConfig, socket: Path) -> PathsConfig:
    return replace(paths, control_socket=socket)


def _engine_checks(config: Config) -> list[Check]:
    try:
        found = engine.look(config.docker.socket)
    except Refused as error:
        mend = "apt-get install docker.io; systemctl start docker; [docker] socket must be its socket"
        return [Check("docker", Verdict.BAD, str(error), mend)]
    if found.api < OLDEST_API:
        told = f"Docker {found.version} has API {found.api[0]}.{found.api[1]}"
        return [Check("docker", Verdict.BAD, told, "install Docker 20.10 or newer")]
    result = [good("docker", f"Docker {found.version} at {config.docker.socket}")]
    if found.lacks:
        told = f"Docker cannot limit {', '.join(found.lacks)}"
        mend = "boot with cgroup_enable=memory swapaccount=1, or use cgroup v2"
        result.append(Check("limits", Verdict.POOR, told, mend))
    else:
        result.append(good("limits", "memory, swap, CPU and processes can be limited"))
    if found.live_restore:
        result.append(good("live-restore", "game servers outlive a restart of Docker"))
    else:
        mend = '"live-restore": true in /etc/docker/daemon.json, then systemctl reload docker'
        result.append(Check("live-restore", Verdict.POOR, "a restart of Docker stops every game server", mend))
    return result


def _folder_checks(config: Config) -> list[Check]:
    folders = {
        "state": config.paths.state,
        "servers": config.servers_path,
        "blueprints": config.blueprints_path,
        "console": config.console_path,
    }
    faults = [fault for name, path in folders.items() if (fault := checks.folder_fault(name, path))]
    if faults:
        mend = f"install -d -m 0700 {config.paths.state} as the daemon's user, or mend [paths]"
        return [Check("folders", Verdict.BAD, "; ".join(faults), mend)]
    return [good("folders", f"{config.paths.state} and what belongs to it can be written")]


def _disk(config: Config) -> Check:
    path, free, percent, inodes = checks.tightest([config.paths.state, config.servers_path])
    told = f"{free / 2**30:.1f} GiB ({percent:.0f} %) free at {path}"
    mend = "remove what is not needed, or move [paths] servers to a larger disk"
    if percent < 5 or free < 2**30 or inodes < 1:
        return Check("disk", Verdict.BAD, told + (" and no inodes" if inodes < 1 else ""), mend)
    if percent < 15:
        return Check("disk", Verdict.POOR, told, mend)
    return good("disk", told)


def _ports(config: Config, *, ours: bool) -> Check:
    host, port = config.server.host, config.server.port
    if ours:
        return good("ports", f"the daemon listens on {host}:{port}")
    if fault := checks.listen_fault(host, port):
        mend = f"end what holds it (ss -ltnp 'sport = :{port}'), or choose another [server] host and port"
        return Check("ports", Verdict.BAD, f"{host}:{port}: {fault}", mend)
    return good("ports", f"{host}:{port} is free")


def _cgroup() -> Check:
    version, lacks = checks.cgroup()
    if version == 0:
        return Check(
            "cgroup", Verdict.BAD, "no cgroups are mounted", "mount them: systemd does, so does cgroupfs-mount"
        )
    if lacks:
        mend = "boot with cgroup_enable=memory, and with the controllers handed down to Docker"
        return Check("cgroup", Verdict.BAD, f"v{version} without {', '.join(lacks)}", mend)
    return good("cgroup", f"v{version} with memory, cpu and pids")


def _clock() -> Check:
    state = checks.clock_synchronised()
    if state is False:
        mend = "apt-get install systemd-timesyncd (or chrony); tokens live five minutes, so the time matters"
        return Check("clock", Verdict.POOR, "nothing keeps the clock right", mend)
    return good("clock", "kept by NTP" if state else "cannot be judged from inside this machine")


def show(found: Sequence[Check], out: TextIO, *, as_json: bool) -> int:
    """Prints the findings; answers the exit status: 1 where any is BAD."""
    if as_json:
        output.as_json([{**asdict(check), "verdict": check.verdict.value} for check in found], out)
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            out.write(f"{check.verdict.value:<4}  {check.name:<{width}}  {output.plain(check.found, 300)}\n")
            if check.mend:
                out.write(f"      {'':<{width}}  → {check.mend}\n")
    return int(any(check.verdict is Verdict.BAD for check in found))
