"""Writes figures as OpenMetrics text, for `GET /metrics` (PROTOCOL 9). Performs no I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stellarstack.core.figures import HostFigures, ServerFigures
from stellarstack.core.node_lifecycle import NodeState
from stellarstack.core.records import ServerStatus

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its `kind` is gauge, counter, info or stateset; `unit`, where given, ends the name.

    `points` are (labels, value). A counter's `_total` and an info's `_info` are added here.
    """

    name: str
    kind: str
    text: str
    points: Sequence[tuple[Mapping[str, str], float]]
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFigures:
    """The daemon about itself. `uptime` and `cpu_seconds` in seconds, `memory` and `outbox_bytes` in bytes."""

    node_id: str
    version: str
    state: NodeState
    uptime: float
    cpu_seconds: float
    memory: int
    open_files: int
    redis_connected: bool
    docker_connected: bool
    heartbeats_missed: int
    last_seq: int
    outbox_rows: int
    outbox_bytes: int
    viewers: int
    servers: Mapping[str, ServerStatus]


def render(families: Iterable[Family]) -> str:
    """The whole text, `# EOF` included. ValueError: a name that OpenMetrics does not allow, or one that comes twice."""
    lines: list[str] = []
    seen: set[str] = set()
    for family in families:
        if family.name in seen or not _NAME.fullmatch(family.name) or not family.name.endswith(family.unit):
            raise ValueError(f"{family.name!r} cannot be the name of a metric here")
        seen.add(family.name)
        lines += _family(family)
    return "\n".join([*lines, "# EOF", ""])


def exposition(daemon: DaemonFigures, host: HostFigures | None, servers: Mapping[str, ServerFigures]) -> str:
    """All that the daemon knows in figures. `host` None: not measured yet. `servers`: those that run, by id."""
    return render([*daemon_families(daemon), *(host_families(host) if host else ()), *server_families(servers)])


def daemon_families(figures: DaemonFigures) -> list[Family]:
    """What the daemon tells of itself, and the state of each server."""
    links = [({"link": "redis"}, figures.redis_connected), ({"link": "docker"}, figures.docker_connected)]
    own = {"node": figures.node_id, "version": figures.version}
    return [
        Family("stellarstack_build", "info", "Which daemon this is.", [(own, 1)]),
        Family("stellarstack_node_state", "stateset", "The node's lifecycle.", _states(figures.state)),
        Family("stellarstack_link_connected", "gauge", "1 where it is connected.", links),
        _gauge("stellarstack_uptime_seconds", "Since the daemon started.", figures.uptime, "seconds"),
        _counter("stellarstack_cpu_seconds", "Processor time of the daemon.", figures.cpu_seconds, "seconds"),
        _gauge("stellarstack_memory_bytes", "Resident memory of the daemon.", figures.memory, "bytes"),
        _gauge("stellarstack_open_files", "File descriptors of the daemon.", figures.open_files),
        _gauge("stellarstack_heartbeats_missed", "Heartbeats in a row that got no answer.", figures.heartbeats_missed),
        _counter("stellarstack_events", "Durable events committed.", figures.last_seq),
        _gauge("stellarstack_outbox_rows", "Durable events not yet delivered.", figures.outbox_rows),
        _gauge("stellarstack_outbox_bytes", "Their size.", figures.outbox_bytes, "bytes"),
        _gauge("stellarstack_console_viewers", "Console sessions open.", figures.viewers),
        Family("stellarstack_servers", "gauge", "Servers by status.", _by_status(figures.servers.values())),
    ]


def host_families(host: HostFigures) -> list[Family]:
    """The host; ratios are 0–1."""
    load = [({"minutes": minutes}, value) for minutes, value in zip(("1", "5", "15"), host.load, strict=True)]
    return [
        _gauge("stellarstack_host_cpu_ratio", "Processor time not idle.", host.cpu_percent / 100, "ratio"),
        _gauge("stellarstack_host_cores", "Processors.", host.cores),
        Family("stellarstack_host_load", "gauge", "Load average.", load),
        _gauge("stellarstack_host_memory_used_bytes", "Memory that is not available.", host.memory_used, "bytes"),
        _gauge("stellarstack_host_memory_total_bytes", "Memory.", host.memory_total, "bytes"),
        _gauge("stellarstack_host_disk_used_bytes", "The state folder's file system.", host.disk_used, "bytes"),
        _gauge("stellarstack_host_disk_total_bytes", "The same, its size.", host.disk_total, "bytes"),
        _counter("stellarstack_host_network_receive_bytes", "Received since boot.", host.network_rx, "bytes"),
        _counter("stellarstack_host_network_transmit_bytes", "Sent since boot.", host.network_tx, "bytes"),
        _gauge("stellarstack_host_uptime_seconds", "Since boot.", host.uptime, "seconds"),
    ]


def server_families(servers: Mapping[str, ServerFigures]) -> list[Family]:
    """The servers that run, one sample a server and metric; `cpu` 1 is one core."""
    order = sorted(servers)

    def family(name: str, kind: str, text: str, of: str, unit: str = "", scale: float = 1) -> Family:
        points = [({"server": server_id}, getattr(servers[server_id], of) * scale) for server_id in order]
        return Family(f"stellarstack_server_{name}", kind, text, points, unit)

    return [
        family("cpu_ratio", "gauge", "Processor time, 1 is one core.", "cpu", "ratio", 0.01),
        family("memory_bytes", "gauge", "Memory without reclaimable cache.", "memory", "bytes"),
        family("memory_limit_bytes", "gauge", "Memory limit, 0 is none.", "memory_limit", "bytes"),
        family("disk_bytes", "gauge", "The server's folder.", "disk", "bytes"),
        family("network_receive_bytes", "counter", "Received since the start.", "network_rx", "bytes"),
        family("network_transmit_bytes", "counter", "Sent since the start.", "network_tx", "bytes"),
        family("block_read_bytes", "counter", "Read from disk since the start.", "block_read", "bytes"),
        family("block_write_bytes", "counter", "Written to disk since the start.", "block_write", "bytes"),
        family("pids", "gauge", "Processes and threads.", "pids"),
        family("uptime_seconds", "gauge", "Since the start.", "uptime", "seconds"),
    ]


def _gauge(name: str, text: str, value: float, unit: str = "") -> Family:
    return Family(name, "gauge", text, [({}, value)], unit)


def _counter(name: str, text: str, value: float, unit: str = "") -> Family:
    return Family(name, "counter", text, [({}, value)], unit)


def _states(current: NodeState) -> list[tuple[dict[str, str], float]]:
    return [({"stellarstack_node_state": state.value}, state is current) for state in NodeState]


def _by_status(statuses: Iterable[ServerStatus]) -> list[tuple[dict[str, str], float]]:
    found = list(statuses)
    return [({"status": status.value}, found.count(status)) for status in ServerStatus]


def _family(family: Family) -> list[str]:
    lines = [f"# TYPE {family.name} {family.kind}"]
    if family.unit:
        lines.append(f"# UNIT {family.name} {family.unit}")
    lines.append(f"# HELP {family.name} {_escaped(family.text)}")
    suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
    lines += [f"{family.name}{suffix}{_labels(labels)} {_number(value)}" for labels, value in family.points]
    return lines


def _labels(labels: Mapping[str, str]) -> str:
    for name in labels:
        if not _LABEL.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a label")
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(round(value, 6))
