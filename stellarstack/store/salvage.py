"""Copies out of a damaged database whatever rows can still be read (SECURITY K16)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from stellarstack.config import LimitsConfig
from stellarstack.store.counters import Counters
from stellarstack.store.faults import DATABASE_ERRORS, is_locked
from stellarstack.store.gaps import untold_gap
from stellarstack.store.outbox import Outbox
from stellarstack.store.schema import COLUMNS

READ_SECONDS = 5.0
_LAST_ROWID = 2**63 - 1
_Fields: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """How many rows came over, by table, and how many pending events did not."""

    rows: Mapping[str, int]
    lost_events: int

    def told(self) -> str:
        kept = ", ".join(f"{count} of {table}" for table, count in self.rows.items() if count)
        lost = f"; {self.lost_events} pending events are lost" if self.lost_events else ""
        return (f"rows saved: {kept}" if kept else "no row could be saved") + lost


def salvage(source: Path, target: sqlite3.Connection, *, node_id: str, now: Callable[[], float]) -> Salvaged:
    """Reads `source` without changing it. sqlite3.Error: the target cannot be written, or the source is locked."""
    rows: dict[str, int] = {}
    counters: Counters | None = None
    target.execute("BEGIN IMMEDIATE")
    old = _readable(source)
    if old is not None:
        with closing(old):
            counters = _counters(old)
            rows = {table: _copy(old, target, table) for table in _GOOD}
    lost = _continue_outbox(target, counters, node_id=node_id, now=now)
    target.execute("COMMIT")
    return Salvaged(rows, lost)


def connect_reader(path: Path, busy_seconds: float, mode: str = "mode=ro") -> sqlite3.Connection:
    """A connection that changes neither the file nor its -wal, not even when it is closed as the last one."""
    address = f"file:{quote(str(path))}?{mode}"
    connection = sqlite3.connect(address, uri=True, timeout=busy_seconds, isolation_level=None)
    connection.text_factory = lenient_text
    return connection


def lenient_text(raw: bytes) -> str:
    """A damaged text is no reason to fail: who reads it checks it."""
    return raw.decode("utf-8", "replace")


def _readable(source: Path) -> sqlite3.Connection | None:
    """The file with its -wal; alone, where that cannot be read; None where nothing can."""
    if not source.exists() or not source.stat().st_size:
        # SQLite would take it for a new one and remove the -wal.
        return None
    for mode in ("mode=ro", "immutable=1"):
        connection = connect_reader(source, READ_SECONDS, mode)
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except DATABASE_ERRORS as error:
            connection.close()
            if is_locked(error):
                raise
        else:
            return connection
    return None


def _counters(old: sqlite3.Connection) -> Counters | None:
    try:
        found = old.execute("SELECT value FROM meta WHERE key = 'outbox'").fetchone()
        return Counters.decode(found[0]) if found else Counters()
    except (*DATABASE_ERRORS, ValueError, KeyError, TypeError):
        return None


def _copy(old: sqlite3.Connection, target: sqlite3.Connection, table: str) -> int:
    columns = ", ".join(COLUMNS[table])
    places = ", ".join("?" * len(COLUMNS[table]))
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"  # noqa: S608  our own names
    count = 0
    for _, *values in _walk(old, table, columns):
        if _means_something(table, values):
            count += target.execute(insert, values).rowcount
    return count


def _means_something(table: str, values: list[Any]) -> bool:
    try:
        return _GOOD[table](dict(zip(COLUMNS[table], values, strict=True)))
    except (ValueError, KeyError, TypeError):
        return False


def _walk(old: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Every readable row: upwards until it breaks, then back down from the next place that can be read."""
    upwards = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid"  # noqa: S608  our own names
    downwards = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? AND rowid < ? ORDER BY rowid DESC"  # noqa: S608
    last = 0
    while True:
        try:
            for row in old.execute(upwards, (last,)):
                if row[0] <= last:
                    break
                last = row[0]
                yield row
            else:
                return
        except DATABASE_ERRORS:
            pass
        landing = _next_readable(old, table, last)
        with suppress(*DATABASE_ERRORS):
            yield from old.execute(downwards, (last, _LAST_ROWID if landing is None else landing))
        if landing is None:
            return
        last = landing - 1


def _next_readable(old: sqlite3.Connection, table: str, last: int) -> int | None:
    query = f"SELECT rowid FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT 1"  # noqa: S608  our own names
    step = 1
    while last + step < _LAST_ROWID:
        try:
            found = old.execute(query, (last + step,)).fetchone()
            return int(found[0]) if found and found[0] > last + step else None
        except DATABASE_ERRORS:
            step *= 2
    return None


# ------------------------------------------------------------------ what a good row looks like


def _good_event(row: _Fields) -> bool:
    body = json.loads(row["body"])
    same = body["seq"] == row["seq"] and body["eventId"] == row["event_id"] and body["type"] == row["type"]
    return same and row["size"] == len(row["body"]) and isinstance(json.loads(row["channels"]), list)


def _good_command(row: _Fields) -> bool:
    document = json.loads(row["command"] if row["finished"] is None else row["result"])
    return isinstance(row["id"], bytes) and isinstance(document["type"], str) and isinstance(row["copies"], int)


# Says of a row's columns whether they still mean something; ValueError, KeyError and TypeError mean no.
_GOOD: Mapping[str, Callable[[_Fields], bool]] = {
    "servers": lambda row: isinstance(json.loads(row["document"]), dict),
    "notes": lambda row: json.loads(row["value"]) is not Ellipsis,
    "denylist": lambda row: isinstance(row["jti"], bytes) and isinstance(row["expires"], float),
    "journal": _good_command,
    "outbox": _good_event,
}


# ------------------------------------------------------------------ the outbox goes on


def _continue_outbox(
    target: sqlite3.Connection, counters: Counters | None, *, node_id: str, now: Callable[[], float]
) -> int:
    """Sets the counters to what came over; an alert tells readers of pending events that did not. Answers how many."""
    first, top = target.execute("SELECT MIN(seq), MAX(seq) FROM outbox").fetchone()
    # Without counters nobody knows what was delivered: all is sent again, and Redis refuses what it has.
    known = counters or Counters(delivered_seq=(first or 1) - 1)
    last = max(known.last_seq, top or 0, known.delivered_seq)
    target.execute("INSERT INTO meta (key, value) VALUES ('outbox', ?)", (replace(known, last_seq=last).encode(),))
    outbox = Outbox(target, node_id=node_id, now=now, limits=LimitsConfig())
    outbox.counters = replace(outbox.counters, dropped=None)
    gap = untold_gap(target, known.delivered_seq, last)
    if gap is not None:
        outbox.announce(gap)
    outbox.write_counters()
    return gap.count if gap is not None else 0
