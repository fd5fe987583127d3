"""One node as stellarctl sees it: commands go in and events come out, over the control socket or over Redis."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stellarstack.ctl.control import ControlSocket, Refused

Told = Callable[[dict[str, Any]], None]


class Node(Protocol):
    """Raises Refused where the node does not answer."""

    def command(self, envelope: Mapping[str, Any], told: Told, timeout: float | None) -> dict[str, Any]:
        """Sends a command, tells each event about it, and answers its command.result. `timeout` in seconds."""

    def servers(self) -> list[dict[str, Any]]:
        """One row a server, as `server.list` gives them."""

    def about(self) -> dict[str, Any]:
        """What `node.info` gives."""

    def events(self, told: Told, *, follow: bool, last: int) -> None:
        """Tells the newest `last` durable events, where the way there keeps them; then, with `follow`, new ones."""


def envelope(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """A fresh command (PROTOCOL 4)."""
    return {"id": f"ctl_{secrets.token_hex(12)}", "type": kind, "payload": dict(payload), "timestamp": time.time()}


class ControlNode:
    """The node of this machine."""

    def __init__(self, control: ControlSocket) -> None:
        self._control = control

    def command(self, envelope: Mapping[str, Any], told: Told, timeout: float | None) -> dict[str, Any]:
        for event in self._control.lines("POST", "/v1/commands", envelope, timeout):
            if event.get("type") == "command.result" and event.get("commandId") in (envelope.get("id"), None):
                return event
            _check_stream(event)
            told(event)
        raise Refused("the daemon ended before the result; the command is in its journal and will be answered later")

    def servers(self) -> list[dict[str, Any]]:
        return rows(self._control.get("/v1/servers"))

    def about(self) -> dict[str, Any]:
        return dict(self._control.get("/v1/node"))

    def events(self, told: Told, *, follow: bool, last: int) -> None:
        if not follow:
            raise Refused("the control socket tells new events only: add -f, or read the node's log with --redis")
        for event in self._control.lines("GET", "/v1/events"):
            _check_stream(event)
            told(event)
        raise Refused("the daemon ended the stream")


def _check_stream(event: Mapping[str, Any]) -> None:
    """The last line of a stream that the daemon gives up says why."""
    error = event.get("error")
    if isinstance(error, dict) and event.get("type") in (None, "stream.dropped", "stream.ended"):
        raise Refused(f"{error.get('code')}: {error.get('message')}", str(error.get("code")))


def rows(answer: Any) -> list[dict[str, Any]]:
    """The list inside `{"servers": [...]}`, or the list itself."""
    found = answer.get("servers", []) if isinstance(answer, dict) else answer
    return [row for row in found if isinstance(row, dict)]
