"""How `stellarctl sessions` shows who watches and types on a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stellarstack.ctl import output

HEADINGS = ("SERVER", "USER", "VIA", "FROM", "OPEN", "TYPES", "LAST TYPED", "TOKEN ENDS", "ID")


def rows_of(answer: Any, server_id: str | None) -> list[dict[str, Any]]:
    """The sessions in `{"sessions": [...]}`, of one server or of all, by server and age."""
    found = answer.get("sessions") if isinstance(answer, dict) else None
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    if server_id is not None:
        rows = [row for row in rows if row.get("serverId") == server_id]
    return sorted(rows, key=lambda row: (str(row.get("serverId")), _number(row.get("since")) or 0.0))


def table(rows: Iterable[Mapping[str, Any]], now: float) -> str:
    """One line a session; `now` in Unix seconds."""
    return output.table(HEADINGS, (_cells(row, now) for row in rows))


def _cells(row: Mapping[str, Any], now: float) -> Sequence[Any]:
    user, name = row.get("userId"), row.get("username")
    since, typed, ends = (_number(row.get(key)) for key in ("since", "lastTyped", "expiresAt"))
    return (
        row.get("serverId"),
        f"{user} ({name})" if name and name != user else user,
        row.get("via"),
        row.get("peer") or None,
        None if since is None else span(now - since),
        bool(row.get("canWrite")),
        None if typed is None else f"{span(now - typed)} ago",
        None if ends is None else f"in {span(ends - now)}",
        row.get("id"),
    )


def span(seconds: float) -> str:
    """`42 s`, `5 min`, `3 h 20 min`, `2 d 4 h`; never below 0."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
