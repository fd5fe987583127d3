"""The console's two long messages: `ready` and `history` (PROTOCOL 8)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from stellarstack.core.claims import Claims
from stellarstack.core.frames import Encoding
from stellarstack.core.messages import Json
from stellarstack.core.records import ServerStatus
from stellarstack.viewing import HistoryPage, RunEvent


def ready(
    claims: Claims, status: ServerStatus, start: int, end: int, name: str | None, runs: Sequence[RunEvent]
) -> dict[str, Json]:  # fmt: skip
    """The first message: who one is here, where output begins (`start`) and what is the newest byte (`end`)."""
    message: dict[str, Json] = {"type": "ready", "serverId": claims.server_id, "name": name, "status": status.value}
    message |= {"canWrite": claims.allows("console.write"), "permissions": [*sorted(claims.permissions)]}
    message |= {"from": start, "end": end, "expiresAt": claims.expires_at}
    return {**message, "runs": [event.to_json() for event in runs]}


def history(page: HistoryPage, runs: Sequence[RunEvent], encoding: Encoding) -> dict[str, Json]:
    """A page of scrollback; its bytes are text, in raw base64."""
    raw = encoding is Encoding.RAW
    text = b64encode(page.data).decode() if raw else page.data.decode("utf-8", "replace")
    end = page.start + len(page.data)
    message: dict[str, Json] = {"type": "history", "from": page.start, "end": end, "data": text, "first": page.first}
    return {**message, "runs": [event.to_json() for event in runs]}
