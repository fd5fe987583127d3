"""The tables, and how an older file becomes a newer one: one step of statements for each `PRAGMA user_version`."""

from __future__ import annotations

import sqlite3

# Marks the file as ours (`PRAGMA application_id`): "STLR".
APPLICATION_ID = 0x53544C52

_FIRST = (
    # What the store keeps about itself, as JSON: the outbox counters, whether the file is open.
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)",
    # Every command whose id we remember. `command` goes when `result` comes. Ids are bytes: JSON strings may hold
    # half a surrogate pair, which no text column takes. `expires` 0: the envelope had none.
    """CREATE TABLE journal (
        arrival INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, fingerprint TEXT NOT NULL, accepted REAL NOT NULL,
        begun REAL, finished REAL, expires REAL NOT NULL, copies INTEGER NOT NULL, command TEXT, result TEXT)""",
    "CREATE INDEX journal_unfinished ON journal (arrival) WHERE finished IS NULL",
    # Durable events. `rank`: what may give way when the outbox is full, first 1, then 2; NULL: never.
    """CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL, type TEXT NOT NULL, rank INTEGER, size INTEGER NOT NULL,
        channels TEXT NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX outbox_rank ON outbox (rank, seq) WHERE rank IS NOT NULL",
    "CREATE TABLE servers (id TEXT PRIMARY KEY NOT NULL, document TEXT NOT NULL)",
    "CREATE TABLE notes (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)",
    "CREATE TABLE denylist (jti BLOB PRIMARY KEY NOT NULL, expires REAL NOT NULL)",
    "CREATE INDEX denylist_expires ON denylist (expires)",
)

# Step n brings a file of version n to n + 1. What has been released is never edited, only followed by another step.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
VERSION = len(MIGRATIONS)

# What a file of our version must have, in the order in which it is worth saving.
COLUMNS: dict[str, tuple[str, ...]] = {
    "meta": ("key", "value"),
    "servers": ("id", "document"),
    "notes": ("key", "value"),
    "denylist": ("jti", "expires"),
    "journal": (
        "arrival", "id", "fingerprint", "accepted", "begun", "finished", "expires", "copies", "command", "result",
    ),
    "outbox": ("seq", "event_id", "type", "rank", "size", "channels", "body"),
}  # fmt: skip


def version_of(connection: sqlite3.Connection) -> int:
    """The file's `PRAGMA user_version`; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, steps: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """Takes all missing steps in one commit: after a crash the file is at the old version or at the new one."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version_of(connection) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version = {len(steps):d}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
