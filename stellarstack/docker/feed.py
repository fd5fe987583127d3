"""The engine's event feed (`GET /events`), with resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from stellarstack.docker.client import DockerClient, Request
from stellarstack.docker.fields import labels, number, text
from stellarstack.docker.lines import JsonLines
from stellarstack.errors import DockerUnavailable
from stellarstack.interfaces import EngineEvent

NODE_LABEL = "stellarstack.node"


class Feed:
    """What happens to containers that carry the label `stellarstack.node`, whichever node's they are.

    The engine keeps its last 256 events in memory and none over its own restart: past events are a help, and only a
    look at the containers (`Engine.containers`) after `connected` tells the whole truth. A feed that is silent for
    hours is a healthy one; an engine that dies closes the socket, and that ends the feed.
    """

    def __init__(self, *, client: DockerClient) -> None:
        self._client = client

    async def follow(
        self, since: float, received: Callable[[EngineEvent], None], connected: Callable[[], None]
    ) -> None:
        """See `Engine.follow_events`. Events of the microsecond `since` come again: floats tell no nanoseconds."""

        def line(raw: dict[str, Any]) -> None:
            event = event_of(raw)
            if event is not None:
                received(event)

        filters = {"type": ["container"], "label": [NODE_LABEL]}
        params = {"since": since_text(since), "filters": json.dumps(filters)}
        request = Request("GET", "/events", params=params)
        answer = await self._client.stream(request, JsonLines(line).feed, opened=connected)
        answer.require()
        self._client.forget_version()
        raise DockerUnavailable("Docker ended its event feed")


def since_text(since: float) -> str:
    """Seconds and nanoseconds as the engine reads them, never later than what the float stands for."""
    micros = max(0, int(since * 1_000_000))
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}000"


def event_of(raw: Mapping[str, Any]) -> EngineEvent | None:
    """One line of the feed; None where it is not about a container."""
    container = text(raw, "Actor", "ID") or text(raw, "id")
    if text(raw, "Type") != "container" or not container:
        return None
    attributes = labels(raw, "Actor", "Attributes")
    code = attributes.get("exitCode", "")
    nanos = number(raw, "timeNano")
    return EngineEvent(
        action=text(raw, "Action"),
        container_id=container,
        labels=attributes,
        exit_code=int(code) if code.isascii() and code.removeprefix("-").isdigit() else None,
        time=nanos / 1e9 if nanos else float(number(raw, "time")),
    )
