"""Which numbers are missing in the outbox, and which of them an `events_dropped` alert already tells."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from stellarstack.store.counters import Dropped

_HOLES = """SELECT before + 1, seq - 1 FROM (
    SELECT seq, LAG(seq, 1, ?) OVER (ORDER BY seq) AS before FROM outbox WHERE seq > ? AND seq <= ?)
    WHERE seq > before + 1"""


def untold_gap(connection: sqlite3.Connection, above: int, up_to: int) -> Dropped | None:
    """One alert for all numbers in (above, up_to] that are neither there nor told; it takes the first of them."""
    holes = connection.execute(_HOLES, (above, above, up_to)).fetchall()
    newest = connection.execute("SELECT MAX(seq) FROM outbox WHERE seq <= ?", (up_to,)).fetchone()[0] or 0
    if newest < up_to:
        holes.append((max(newest, above) + 1, up_to))
    for told in _told(connection, above, up_to):
        holes = list(_without(holes, told))
    if not holes:
        return None
    return Dropped(holes[0][0], holes[0][0], holes[-1][1], sum(last - first + 1 for first, last in holes))


def _told(connection: sqlite3.Connection, above: int, up_to: int) -> Iterable[tuple[int, int]]:
    query = "SELECT body FROM outbox WHERE type = 'node.alert' AND seq <= ?"
    for (text,) in connection.execute(query, (up_to,)).fetchall():
        body = json.loads(text)
        told = body.get("fromSeq"), body.get("toSeq")
        # Of a damaged file any part of it may be something else.
        if body.get("code") == "events_dropped" and all(isinstance(end, int) for end in told) and told[1] > above:
            yield told


def _without(holes: Iterable[tuple[int, int]], told: tuple[int, int]) -> Iterable[tuple[int, int]]:
    for first, last in holes:
        if last < told[0] or first > told[1]:
            yield first, last
            continue
        if first < told[0]:
            yield first, told[0] - 1
        if last > told[1]:
            yield told[1] + 1, last
