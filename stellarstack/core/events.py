"""The events of PROTOCOL 4 and 5, one function a word of the wire. Performs no I/O; times come in as Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping

from stellarstack.core.messages import Command, Event, Json
from stellarstack.core.records import ServerStatus, StatusReason
from stellarstack.errors import StellarError


def _present(**fields: Json) -> dict[str, Json]:
    return {name: value for name, value in fields.items() if value is not None}


def command_ack(command: Command, node_id: str, now: float) -> Event:
    """`command.ack`: the command is in the journal."""
    fields = _present(serverId=command.server_id)
    body = {"commandId": command.id, "command": command.type, "nodeId": node_id, **fields, "timestamp": now}
    return Event("command.ack", body, durable=True)


def command_result(
    command: Command, node_id: str, now: float, duration: float, result: Mapping[str, Json]
) -> Event:  # fmt: skip
    """`command.result` of one that succeeded; `duration` in seconds."""
    fields = _present(serverId=command.server_id)
    body: dict[str, Json] = {"commandId": command.id, "command": command.type, "nodeId": node_id, **fields}
    body |= {"status": "succeeded", "result": dict(result), "durationMs": round(duration * 1000), "timestamp": now}
    return Event("command.result", body, durable=True)


def command_failed(
    command: Command, node_id: str, now: float, duration: float, status: str, error: StellarError
) -> Event:
    """`command.result` of one that did not: `status` is rejected, expired, cancelled or failed."""
    fields = _present(serverId=command.server_id)
    body: dict[str, Json] = {"commandId": command.id, "command": command.type, "nodeId": node_id, **fields}
    body |= {"status": status, "error": error_body(error), "durationMs": round(duration * 1000), "timestamp": now}
    return Event("command.result", body, durable=True)


def command_refused(
    node_id: str, now: float, error: StellarError, *,
    command_id: str | None, command: str | None, server_id: str | None, durable: bool,
) -> Event:  # fmt: skip
    """`command.result` of a message that was never journaled; `command_id` None where it had no readable id."""
    body: dict[str, Json] = {"commandId": command_id, "command": command, "nodeId": node_id}
    body |= _present(serverId=server_id)
    body |= {"status": "rejected", "error": error_body(error), "durationMs": 0, "timestamp": now}
    return Event("command.result", body, durable=durable)


def error_body(error: StellarError) -> dict[str, Json]:
    """An error as it stands on the wire: its code and one line of at most 2 000 characters."""
    return {"code": error.code, "message": " ".join(str(error).split())[:2000]}


def server_status(
    server_id: str, node_id: str, now: float, status: ServerStatus,
    reason: StatusReason | None = None, exit_code: int | None = None,
) -> Event:  # fmt: skip
    """`server.status`: a server came into a state."""
    extra = _present(exitCode=exit_code, reason=reason.value if reason else None)
    body = {"serverId": server_id, "nodeId": node_id, "status": status.value, **extra, "timestamp": now}
    return Event("server.status", body, durable=True)


def server_metrics(server_id: str, node_id: str, now: float, metrics: Mapping[str, Json]) -> Event:
    """`server.metrics`: one sample of a running server."""
    body: dict[str, Json] = {"serverId": server_id, "nodeId": node_id, "metrics": dict(metrics), "timestamp": now}
    return Event("server.metrics", body, durable=False)


def deployment_progress(server_id: str, node_id: str, now: float, step: str, progress: int | None = None) -> Event:
    """`deployment.progress`: how far a server on its way to running has come; `progress` 0–100."""
    body = {"serverId": server_id, "nodeId": node_id, "step": step, **_present(progress=progress), "timestamp": now}
    return Event("deployment.progress", body, durable=False)


def install_output(server_id: str, node_id: str, now: float, text: str) -> Event:
    """`install.output`: what an install script printed."""
    return Event(
        "install.output", {"serverId": server_id, "nodeId": node_id, "data": text, "timestamp": now}, durable=False
    )


def node_status(node_id: str, now: float, state: str, previous: str, reason: str) -> Event:
    """`node.status`: the node's lifecycle moved."""
    body: dict[str, Json] = {"nodeId": node_id, "state": state, "previous": previous, "reason": reason}
    return Event("node.status", {**body, "timestamp": now}, durable=True)


def node_alert(
    node_id: str, now: float, severity: str, code: str, message: str,
    server_id: str | None = None, **more: Json,
) -> Event:  # fmt: skip
    """`node.alert`: something a person should know; `severity` is info, warning or critical."""
    body: dict[str, Json] = {"nodeId": node_id, "severity": severity, "code": code, "message": message}
    return Event("node.alert", {**body, **_present(serverId=server_id), **more, "timestamp": now}, durable=True)
