"""One open database: runs many calls in one commit, each of which can fail alone.

Lives in the store's thread from its making to its end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from stellarstack.config import LimitsConfig
from stellarstack.store.faults import DATABASE_ERRORS, is_damage, is_locked, translated
from stellarstack.store.journal import Journal
from stellarstack.store.outbox import Outbox
from stellarstack.store.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Failed:
    """A call of which nothing was kept."""

    error: Exception


def failed(error: Exception, count: int) -> list[Any]:
    """An error of its own for each of `count` callers."""
    return [Failed(translated(error)) for _ in range(count)]


# A call runs with the database and answers with anything; `Failed` stands for what it raised.
Work: TypeAlias = "Callable[[Database], Any]"


class Database:
    """`damaged` and `locked` tell how the last `run` ended."""

    def __init__(
        self, connection: sqlite3.Connection, *, node_id: str, now: Callable[[], float], limits: LimitsConfig
    ) -> None:
        self.connection = connection
        self.outbox = Outbox(connection, node_id=node_id, now=now, limits=limits)
        self.journal = Journal(connection, self.outbox, now=now)
        self.shelf = Shelf(connection, now=now)
        self.damaged = False
        self.locked = False

    def run(self, works: Sequence[Work]) -> list[Any]:
        """All in one commit; where that fails, each in its own, so that a small one can still find room."""
        self.damaged = self.locked = False
        try:
            return self._commit(works)
        except DATABASE_ERRORS as error:
            self._note(error)
            if len(works) == 1 or self.damaged or self.locked:
                return failed(error, len(works))
        return [answer for work in works for answer in self._run_alone(work)]

    def _run_alone(self, work: Work) -> list[Any]:
        try:
            return self._commit([work])
        except DATABASE_ERRORS as error:
            self._note(error)
            return failed(error, 1)

    def close(self) -> None:
        """Marks the file as closed in order; SQLite then folds the -wal into it. Needs no room on a full disk."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            self.connection.execute("DELETE FROM meta WHERE key = 'open'")
        finally:
            self.connection.close()

    def abandon(self) -> None:
        """Lets go of a damaged file."""
        self.connection.close()

    def _commit(self, works: Sequence[Work]) -> list[Any]:
        before = self.outbox.counters
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            answers = [self._guarded(work) for work in works]
            self.outbox.settle()
            self.journal.settle()
            self.connection.execute("COMMIT")
        except BaseException:
            self.outbox.counters = before
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self.outbox.committed()
        return answers

    def _guarded(self, work: Work) -> Any:
        """Takes back what `work` did where it raises. Raises where the whole transaction is lost with it."""
        before = self.outbox.counters
        self.connection.execute("SAVEPOINT call")
        try:
            answer = work(self)
        except Exception as error:
            if is_damage(error) or not self.connection.in_transaction:
                raise
            self.connection.execute("ROLLBACK TO call")
            self.outbox.counters = before
            answer = Failed(translated(error))
        self.connection.execute("RELEASE call")
        return answer

    def _note(self, error: Exception) -> None:
        self.damaged = self.damaged or is_damage(error)
        self.locked = self.locked or is_locked(error)
