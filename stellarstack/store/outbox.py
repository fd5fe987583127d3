"""The outbox: durable events in order, each with its `seq`, until Redis has them and a while longer (PROTOCOL 3).

Everything here runs in the store's thread, inside a transaction that `Database` holds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from uuid import uuid4

from stellarstack.config import LimitsConfig
from stellarstack.core.messages import Event, OutboxRow, channels_of
from stellarstack.interfaces import OutboxState
from stellarstack.store.counters import Counters, Dropped, Mark
from stellarstack.store.gaps import untold_gap

# Delivered rows are kept until both hold: 10 000 newer ones were delivered, and 10 minutes have passed. A flood cannot
# fill the disk with them: beyond 100 000 the oldest go, however young.
KEEP_ROWS = 10_000
KEEP_SECONDS = 600.0
KEEP_MOST = 100_000
MARK_SECONDS = 30.0

# A statement takes at most 500 variables (W14); a row has seven.
ROWS_PER_STATEMENT = 500 // 7
PRUNE_FROM, PRUNE_MOST = 500, 2000

_RANKS = {"console.audit": 1, "server.status": 2}
_SELECT = "SELECT seq, event_id, type, channels, body FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?"
# Above any number that is in use; not a number that is ever told.
_FAR = 2**62
_EXTENT = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM outbox WHERE seq > ? AND seq <= ?"


class Outbox:
    """`counters` are replaced, never changed: who holds the old ones can put them back with the rows."""

    def __init__(
        self, connection: sqlite3.Connection, *, node_id: str, now: Callable[[], float], limits: LimitsConfig
    ) -> None:
        self._connection = connection
        self._node_id = node_id
        self._now = now
        self._limits = limits
        self._slack = min(2000, limits.outbox_rows // 20)
        self.counters = self._stored = self._load()

    def append(self, events: Sequence[Event]) -> list[OutboxRow]:
        """Gives each event the next `seq` and an `eventId`. ValueError: a transient one, or no JSON."""
        first = self.counters.last_seq + 1
        rows = [self._row(seq, event) for seq, event in enumerate(events, first)]
        self._insert(rows)
        return rows

    def after(self, seq: int, limit: int) -> list[OutboxRow]:
        """Undelivered rows above `seq`. From now on they are taken for being on their way."""
        rows = self._select(max(seq, self.counters.delivered_seq), limit)
        if rows and rows[-1].seq > self.counters.handed_seq:
            # Somewhat ahead, so that not every round of the publisher needs a commit.
            self.counters = replace(self.counters, handed_seq=rows[-1].seq + self._slack)
        return rows

    def delivered(self, up_to: int) -> None:
        counters = self.counters
        up_to = min(up_to, counters.last_seq)
        if up_to <= counters.delivered_seq:
            return
        rows, size = self._extent(counters.delivered_seq, up_to)
        self.counters = replace(
            counters,
            delivered_seq=up_to,
            pending_rows=counters.pending_rows - rows,
            pending_bytes=counters.pending_bytes - size,
            marks=self._marked(counters.marks, up_to),
        )

    def state(self) -> OutboxState:
        counters = self.counters
        return OutboxState(
            counters.last_seq, counters.delivered_seq, counters.pending_rows, counters.pending_bytes
        )  # fmt: skip

    def raise_sequence(self, seq: int) -> None:
        """Numbers up to `seq` are somebody else's: undelivered rows move above it, without gaps. Nothing to do where
        all up to `seq` are ours and delivered.
        """
        counters = self.counters
        if seq <= counters.delivered_seq:
            return
        self.counters = replace(
            counters, last_seq=seq, delivered_seq=seq, handed_seq=seq, pending_rows=0, pending_bytes=0, dropped=None
        )
        # First all go far away, so that no new number meets an old one.
        self._connection.execute("UPDATE outbox SET seq = seq + ? WHERE seq > ?", (_FAR, counters.delivered_seq))
        for rows in self._slices(_FAR):
            first = self.counters.last_seq + 1
            self._insert([_renumbered(row, number) for number, row in enumerate(rows, first)])
            self._connection.execute("DELETE FROM outbox WHERE seq >= ? AND seq <= ?", (rows[0].seq, rows[-1].seq))

    def rewind(self, seq: int) -> int:
        """Counts the delivered rows above `seq` as undelivered; an alert tells of those that are not kept any more."""
        counters = self.counters
        if seq >= counters.delivered_seq:
            return 0
        rows, size = self._extent(seq, counters.delivered_seq)
        self.counters = replace(
            counters,
            delivered_seq=seq,
            pruned_seq=min(counters.pruned_seq, seq),
            pending_rows=counters.pending_rows + rows,
            pending_bytes=counters.pending_bytes + size,
            marks=tuple(mark for mark in counters.marks if mark.seq <= seq),
        )
        gap = untold_gap(self._connection, seq, counters.delivered_seq)
        if gap is not None:
            self.announce(gap)
        return rows + (gap is not None)

    def settle(self) -> None:
        """Once before each commit: keeps the bound, lets old rows go, writes the counters down."""
        self._keep_bound()
        self._prune()
        if self.counters is not self._stored:
            self.write_counters()

    def write_counters(self) -> None:
        text = self.counters.encode()
        self._connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('outbox', ?)", (text,))

    def committed(self) -> None:
        """What `settle` wrote is on the disk."""
        self._stored = self.counters

    def announce(self, dropped: Dropped) -> None:
        """Puts an `events_dropped` alert at `dropped.seq`, a number that is free."""
        event = Event("node.alert", {
            "nodeId": self._node_id, "severity": "warning", "code": "events_dropped",
            "message": f"{dropped.count} events between {dropped.from_seq} and {dropped.to_seq} are lost",
            "fromSeq": dropped.from_seq, "toSeq": dropped.to_seq, "count": dropped.count, "timestamp": self._now(),
        }, durable=True)  # fmt: skip
        self._insert([self._row(dropped.seq, event)])
        self.counters = replace(self.counters, dropped=dropped)

    def _load(self) -> Counters:
        found = self._connection.execute("SELECT value FROM meta WHERE key = 'outbox'").fetchone()
        counters = Counters.decode(found[0]) if found else Counters()
        # Counted once at the opening; from then on only what changes is added and subtracted.
        rows, size = self._extent(counters.delivered_seq, counters.last_seq)
        return replace(counters, pending_rows=rows, pending_bytes=size)

    def _row(self, seq: int, event: Event) -> OutboxRow:
        if not event.durable:
            raise ValueError(f"{event.type} is a transient event")
        event_id = str(uuid4())
        body = event.encode(eventId=event_id, seq=seq)
        return OutboxRow(seq, event_id, event.type, body, channels_of(self._node_id, event))

    def _insert(self, rows: Sequence[OutboxRow]) -> None:
        for start in range(0, len(rows), ROWS_PER_STATEMENT):
            some = rows[start : start + ROWS_PER_STATEMENT]
            self._connection.execute(_insert_statement(len(some)), [value for row in some for value in _columns(row)])
        counters = self.counters
        self.counters = replace(
            counters,
            last_seq=max(counters.last_seq, rows[-1].seq) if rows else counters.last_seq,
            pending_rows=counters.pending_rows + len(rows),
            pending_bytes=counters.pending_bytes + sum(len(row.body) for row in rows),
        )

    def _extent(self, above: int, up_to: int) -> tuple[int, int]:
        rows, size = self._connection.execute(_EXTENT, (above, up_to)).fetchone()
        return int(rows), int(size)

    def _slices(self, above: int) -> Iterator[list[OutboxRow]]:
        while rows := self._select(above, ROWS_PER_STATEMENT):
            above = rows[-1].seq
            yield rows

    def _select(self, above: int, limit: int) -> list[OutboxRow]:
        found = self._connection.execute(_SELECT, (above, limit))
        return [
            OutboxRow(seq, event_id, kind, bytes(body), tuple(json.loads(channels)))
            for seq, event_id, kind, channels, body in found
        ]

    # ------------------------------------------------------------- the bound

    def _keep_bound(self) -> None:
        for rank in sorted(_RANKS.values()):
            while self._over():
                if not self._give_way(rank):
                    break

    def _over(self) -> bool:
        counters = self.counters
        return counters.pending_rows > self._limits.outbox_rows or counters.pending_bytes > self._limits.outbox_bytes

    def _give_way(self, rank: int) -> bool:
        """Drops the oldest rows of `rank` that are surely not on their way, as many as needed, 500 at most."""
        floor = max(self.counters.handed_seq, self.counters.delivered_seq)
        oldest = "SELECT seq, size FROM outbox WHERE rank = ? AND seq > ? ORDER BY seq LIMIT 500"
        chosen: list[tuple[int, int]] = []
        rows, size = self.counters.pending_rows, self.counters.pending_bytes
        for seq, length in self._connection.execute(oldest, (rank, floor)).fetchall():
            if rows <= self._limits.outbox_rows and size <= self._limits.outbox_bytes:
                break
            chosen.append((seq, length))
            rows, size = rows - 1, size - length
        if not chosen:
            return False
        last = chosen[-1][0]
        self._connection.execute("DELETE FROM outbox WHERE rank = ? AND seq > ? AND seq <= ?", (rank, floor, last))
        self.counters = replace(self.counters, pending_rows=rows, pending_bytes=size)
        self._tell(chosen[0][0], last, len(chosen))
        return True

    def _tell(self, first: int, last: int, count: int) -> None:
        """One alert for all that gave way: it takes the number of the first, so readers learn of the gap before it."""
        told = self.counters.dropped
        if told is None or told.seq <= max(self.counters.handed_seq, self.counters.delivered_seq):
            self.announce(Dropped(first, first, last, count))
            return
        size = self._connection.execute("SELECT size FROM outbox WHERE seq = ?", (told.seq,)).fetchone()[0]
        self._connection.execute("DELETE FROM outbox WHERE seq = ?", (told.seq,))
        counters = self.counters
        self.counters = replace(
            counters, pending_rows=counters.pending_rows - 1, pending_bytes=counters.pending_bytes - size
        )
        self.announce(Dropped(told.seq, min(told.from_seq, first), max(told.to_seq, last), told.count + count))

    # ------------------------------------------------------------- delivered rows

    def _marked(self, marks: tuple[Mark, ...], seq: int) -> tuple[Mark, ...]:
        now = self._now()
        if marks and 0 <= now - marks[-1].time < MARK_SECONDS:
            return marks
        ripe = [mark for mark in marks if mark.time <= now - KEEP_SECONDS]
        young = [mark for mark in marks if now - KEEP_SECONDS < mark.time <= now]
        return (*ripe[-1:], *young, Mark(now, seq))

    def _prune(self) -> None:
        """Lets a slice of the delivered rows go, where enough have come together."""
        counters = self.counters
        before = self._now() - KEEP_SECONDS
        ripe = max((mark.seq for mark in counters.marks if mark.time <= before), default=0)
        delivered = counters.delivered_seq
        limit = max(min(delivered - KEEP_ROWS, ripe), delivered - KEEP_MOST)
        if limit - counters.pruned_seq < PRUNE_FROM:
            return
        slice_end = "SELECT MAX(seq) FROM (SELECT seq FROM outbox WHERE seq <= ? ORDER BY seq LIMIT ?)"
        found = self._connection.execute(slice_end, (limit, PRUNE_MOST)).fetchone()[0]
        if found is not None:
            self._connection.execute("DELETE FROM outbox WHERE seq <= ?", (found,))
        self.counters = replace(counters, pruned_seq=limit if found is None else found)


@cache
def _insert_statement(rows: int) -> str:
    places = ",".join(["(?,?,?,?,?,?,?)"] * rows)
    return "INSERT INTO outbox (seq, event_id, type, rank, size, channels, body) VALUES " + places  # noqa: S608  question marks


def _columns(row: OutboxRow) -> tuple[object, ...]:
    rank = _RANKS.get(row.type)
    return (row.seq, row.event_id, row.type, rank, len(row.body), _channels_text(row.channels), row.body)


@lru_cache(maxsize=1024)
def _channels_text(channels: tuple[str, ...]) -> str:
    return json.dumps(channels)


def _renumbered(row: OutboxRow, seq: int) -> OutboxRow:
    """The same event at another `seq`. What a loss alert tells now lies between its new neighbours."""
    body = json.loads(row.body)
    body["seq"] = seq
    if body.get("code") == "events_dropped" and row.type == "node.alert":
        body["fromSeq"] = body["toSeq"] = seq
    return replace(
        row, seq=seq, body=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    )
