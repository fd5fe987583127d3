"""What travels: commands in, events out, and the channels they go by (PROTOCOL 3, 4, 5). Performs no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

# Any value of JSON.
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Origin(Enum):
    """The door by which a command came in."""

    PUBSUB = "pubsub"
    QUEUE = "queue"
    CONTROL = "control"
    CONSOLE = "console"  # power actions of those who watch a server's console, whatever its door


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the control plane, its envelope checked, its payload not yet.

    `timestamp` and `expires_at` are Unix seconds, None where absent. `server_id` is the payload's `serverId` where that
    is a string of the right form.
    """

    id: str
    type: str
    payload: Mapping[str, Json]
    origin: Origin
    server_id: str | None = None
    timestamp: float | None = None
    expires_at: float | None = None

    @property
    def fingerprint(self) -> str:
        """The same for two commands that ask the same: SHA-256 over type and payload, in hex."""
        text = json.dumps([self.type, self.payload], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Event:
    """One event to the control plane. `fields` is its body without `type`, `eventId` and `seq`; it has `timestamp`.

    A durable event gets `eventId` and `seq` from the store; a transient one is published or dropped.
    """

    type: str
    fields: Mapping[str, Json]
    durable: bool

    @property
    def server_id(self) -> str | None:
        found = self.fields.get("serverId")
        return found if isinstance(found, str) else None

    def encode(self, **extra: Json) -> bytes:
        """The body as it stands on the wire: compact UTF-8 JSON."""
        body = {"type": self.type, **self.fields, **extra}
        return _ENCODER.encode(body).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A durable event as committed: `seq` is gapless per node, `body` the JSON with `eventId` and `seq` in it."""

    seq: int
    event_id: str
    type: str
    body: bytes
    channels: tuple[str, ...]


def commands_channel(node_id: str) -> str:
    return f"stellar:nodes:{node_id}:commands"


def commands_queue(node_id: str) -> str:
    return f"stellar:nodes:{node_id}:commands:queue"


def events_log(node_id: str) -> str:
    return f"stellar:nodes:{node_id}:events:log"


def channels_of(node_id: str, event: Event) -> tuple[str, ...]:
    """The pub/sub channels that carry `event` (PROTOCOL 3), the node's own first."""
    events = f"stellar:nodes:{node_id}:events"
    match event.type:
        case "heartbeat":
            return (f"stellar:nodes:{node_id}:heartbeat",)
        case "server.status":
            return (events, f"stellar:servers:{event.server_id}:status")
        case "server.metrics":
            return (f"stellar:servers:{event.server_id}:metrics",)
        case "server.log":
            return (f"stellar:servers:{event.server_id}:logs",)
        case "node.status":
            return (events, "stellar:events:global")
    return (events,)
