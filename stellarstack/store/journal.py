"""The journal: every command runs once, and every copy of it is answered (PROTOCOL 4).

Everything here runs in the store's thread, inside a transaction that `Database` holds.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict

from twisted.logger import Logger

from stellarstack.core.messages import Command, Event, Json, Origin, OutboxRow
from stellarstack.interfaces import Accepted, AcceptStatus, JournalEntry
from stellarstack.store.outbox import Outbox

# A result is kept while it is younger than 7 days or among the newest 100 000 ids, whichever keeps more, and until its
# `expiresAt`. So that a flood cannot fill the disk, of more than a million ids the oldest go, however young.
KEEP_IDS = 100_000
KEEP_SECONDS = 7 * 86400.0
KEEP_MOST = 1_000_000

# After so many new commands the next slice of old arrivals is looked at.
PRUNE_EVERY, PRUNE_MOST = 250, 1000

_PRUNE = """DELETE FROM journal WHERE arrival > ? AND arrival <= ? AND finished IS NOT NULL AND expires < ?
    AND (finished < ? OR arrival <= ?)"""


class Journal:
    """What the daemon was asked to do, and what came of it. Answers to commands go through `outbox`."""

    _log = Logger()

    def __init__(self, connection: sqlite3.Connection, outbox: Outbox, *, now: Callable[[], float]) -> None:
        self._connection = connection
        self._outbox = outbox
        self._now = now
        self._since_prune = 0
        self._pruned_to = 0

    def accept(self, command: Command, ack: Event) -> Accepted:
        fingerprint = command.fingerprint
        query = "SELECT arrival, fingerprint, finished, result FROM journal WHERE id = ?"
        found = self._connection.execute(query, (as_key(command.id),)).fetchone()
        if found is None:
            self._keep(command, fingerprint)
            return Accepted(AcceptStatus.NEW, tuple(self._outbox.append([ack])))
        arrival, known, finished, result = found
        if known != fingerprint:
            return Accepted(AcceptStatus.CONFLICT)
        if finished is not None:
            return Accepted(AcceptStatus.REPEATED, tuple(self._outbox.append([ack, self._repeated(_event(result))])))
        self._connection.execute("UPDATE journal SET copies = copies + 1 WHERE arrival = ?", (arrival,))
        return Accepted(AcceptStatus.COPY, tuple(self._outbox.append([ack])))

    def begin(self, command_id: str) -> None:
        statement = "UPDATE journal SET begun = ? WHERE id = ? AND begun IS NULL AND finished IS NULL"
        self._connection.execute(statement, (self._now(), as_key(command_id)))

    def finish(self, command_id: str, result: Event) -> list[OutboxRow]:
        """A second result of the same command is not kept: the first one stands."""
        query = "SELECT arrival, finished, copies FROM journal WHERE id = ?"
        found = self._connection.execute(query, (as_key(command_id),)).fetchone()
        if found is None:
            # Lost with a damaged file: whoever waits for it still gets its result.
            return self._outbox.append([result])
        arrival, finished, copies = found
        if finished is not None:
            self._log.warn("{command} has a result already; another one is left out", command=command_id)
            return []
        text = json.dumps({"type": result.type, "fields": dict(result.fields)}, separators=(",", ":"))
        statement = "UPDATE journal SET finished = ?, result = ?, command = NULL WHERE arrival = ?"
        self._connection.execute(statement, (self._now(), text, arrival))
        repeated = self._repeated(result)
        return self._outbox.append([result] + [repeated] * copies)

    def unfinished(self) -> Sequence[JournalEntry]:
        """In order of arrival. One that cannot be read (a damaged file) is left out and logged."""
        query = "SELECT arrival, id, accepted, begun, command FROM journal WHERE finished IS NULL ORDER BY arrival"
        entries = []
        for arrival, key, accepted, begun, text in self._connection.execute(query):
            try:
                entries.append(JournalEntry(_decoded(key, text), accepted, begun))
            except (ValueError, KeyError, TypeError):
                self._log.critical("entry {arrival} of the journal cannot be read", arrival=arrival)
        return entries

    def settle(self) -> None:
        """Once before each commit: lets a slice of the old results go, where that is due."""
        if self._since_prune >= PRUNE_EVERY:
            self._since_prune = 0
            self._prune()

    def _keep(self, command: Command, fingerprint: str) -> None:
        document = {**asdict(command), "origin": command.origin.value}
        expires = command.expires_at or 0.0
        self._connection.execute(
            "INSERT INTO journal (id, fingerprint, accepted, expires, copies, command) VALUES (?, ?, ?, ?, 0, ?)",
            (as_key(command.id), fingerprint, self._now(), expires if math.isfinite(expires) else 1e300,
             json.dumps(document, separators=(",", ":"))),
        )  # fmt: skip
        self._since_prune += 1

    def _repeated(self, result: Event) -> Event:
        return Event(result.type, {**result.fields, "repeat": True, "timestamp": self._now()}, durable=True)

    def _prune(self) -> None:
        """Looks at the next slice of arrivals, and after the last one that may go begins anew."""
        oldest, newest = self._connection.execute("SELECT MIN(arrival), MAX(arrival) FROM journal").fetchone()
        if newest is None:
            return
        limit = newest - KEEP_IDS
        start = max(self._pruned_to, oldest - 1)
        end = min(limit, start + PRUNE_MOST)
        if end > start:
            now = self._now()
            self._connection.execute(_PRUNE, (start, end, now, now - KEEP_SECONDS, newest - KEEP_MOST))
        self._pruned_to = end if end < limit else 0


def as_key(text: str) -> bytes:
    """Any string of JSON as bytes: half a surrogate pair too, which no text column takes."""
    return text.encode("utf-8", "surrogatepass")


def _event(text: str) -> Event:
    document = json.loads(text)
    return Event(document["type"], document["fields"], durable=True)


def _decoded(key: bytes, text: str) -> Command:
    fields: dict[str, Json] = json.loads(text)
    origin = Origin(fields.pop("origin"))
    return Command(**{**fields, "id": key.decode("utf-8", "surrogatepass"), "origin": origin})  # type: ignore[arg-type]
