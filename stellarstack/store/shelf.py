"""The small tables: servers, single values and the denylist.

Everything here runs in the store's thread, inside a transaction that `Database` holds. What cannot be read (a damaged
file) is left out and logged: one bad row does not hide the others.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping

from twisted.logger import Logger

from stellarstack.core.messages import Json
from stellarstack.store.journal import as_key


class Shelf:
    """Documents are any JSON; they come back equal."""

    _log = Logger()

    def __init__(self, connection: sqlite3.Connection, *, now: Callable[[], float]) -> None:
        self._connection = connection
        self._now = now

    def put_server(self, server_id: str, document: Mapping[str, Json]) -> None:
        statement = "INSERT OR REPLACE INTO servers (id, document) VALUES (?, ?)"
        self._connection.execute(statement, (server_id, _packed(dict(document))))

    def remove_server(self, server_id: str) -> None:
        self._connection.execute("DELETE FROM servers WHERE id = ?", (server_id,))

    def servers(self) -> dict[str, Mapping[str, Json]]:
        found: dict[str, Mapping[str, Json]] = {}
        for server_id, text in self._connection.execute("SELECT id, document FROM servers ORDER BY id"):
            document = self._unpacked(text, "servers", server_id)
            if isinstance(document, dict):
                found[server_id] = document
        return found

    def get_value(self, key: str) -> Json:
        """None where there is no such key."""
        found = self._connection.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return self._unpacked(found[0], "notes", key) if found else None

    def put_value(self, key: str, value: Json) -> None:
        self._connection.execute("INSERT OR REPLACE INTO notes (key, value) VALUES (?, ?)", (key, _packed(value)))

    def deny(self, jti: str, expires_at: float) -> None:
        """What may be forgotten goes at the same time, so the list stays as long as tokens live. Never shortens."""
        self._connection.execute("DELETE FROM denylist WHERE expires < ?", (self._now(),))
        statement = """INSERT INTO denylist (jti, expires) VALUES (?, ?)
            ON CONFLICT (jti) DO UPDATE SET expires = MAX(expires, excluded.expires)"""
        self._connection.execute(statement, (as_key(jti), float(expires_at)))

    def denied(self) -> dict[str, float]:
        query = "SELECT jti, expires FROM denylist WHERE expires >= ?"
        found = self._connection.execute(query, (self._now(),))
        return {bytes(jti).decode("utf-8", "surrogatepass"): expires for jti, expires in found}

    def _unpacked(self, text: str, table: str, key: str) -> Json:
        try:
            value: Json = json.loads(text)
        except (ValueError, TypeError):
            self._log.critical("{key} of table {table} cannot be read", key=key, table=table)
            return None
        return value


def _packed(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
