"""The stream that holds every durable event once (PROTOCOL 3): what is asked of it, and how it is added to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from stellarstack.core.messages import OutboxRow, events_log
from stellarstack.errors import RedisRefused
from stellarstack.redis.wire import Argument, Reply, Wire


class EventLog:
    """`events:log` of one node. Only XADD and XREVRANGE are used: a node's ACL need not allow more."""

    def __init__(self, node_id: str, length: int) -> None:
        self._key = events_log(node_id)
        self._length = length

    def adding(self, row: OutboxRow) -> Sequence[Argument]:
        """The command that adds `row` under its number."""
        return ("XADD", self._key, "MAXLEN", "~", self._length, f"{row.seq}-0", "event", row.body)

    async def may_add(self, wire: Wire) -> None:
        """The id 0-0 is never taken, so this adds nothing; it shows a lack of rights before we count as connected."""
        (told,) = await wire.batch([("XADD", self._key, "NOMKSTREAM", "0-0", "event", "")])
        if isinstance(told, RedisRefused):
            raise told

    async def newest(self, wire: Wire) -> tuple[int, str | None]:
        """The newest entry's seq (0: none) and its `eventId`, None where it has none that can be read."""
        found = await wire.call("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        if not found:
            return 0, None
        return int(found[0][0].partition(b"-")[0]), _event_id(_fields(found[0]).get(b"event", b""))

    async def lacks(self, wire: Wire, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Those of `rows`, in order, that do not stand in the log under their numbers."""
        last, first = f"{rows[-1].seq}-0", f"{rows[0].seq}-0"
        found = await wire.call("XREVRANGE", self._key, last, first, "COUNT", rows[-1].seq - rows[0].seq + 1)
        held = {entry[0]: _fields(entry).get(b"event") for entry in found or ()}
        return [row for row in rows if held.get(b"%d-0" % row.seq) != row.body]


def _fields(entry: Reply) -> Mapping[bytes, bytes]:
    return dict(zip(entry[1][::2], entry[1][1::2], strict=False))


def _event_id(body: bytes) -> str | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    event_id = found.get("eventId") if isinstance(found, dict) else None
    return event_id if isinstance(event_id, str) else None
