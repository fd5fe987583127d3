"""The one thread that touches the database: takes all calls that wait, commits once, answers each.

The reactor's side is `call`: one Deferred and one queue entry. All answers of a commit come back in one
`callFromThread`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from stellarstack.errors import StoreFailed
from stellarstack.store.database import Database, Failed, Work, failed
from stellarstack.store.faults import reason, translated
from stellarstack.store.opening import StoreIssue

BATCH_MOST = 500
QUEUE_MOST = 20_000
# Between two attempts to open a file that cannot be opened.
REOPEN_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    work: Work
    answer: Deferred[Any] = field(default_factory=Deferred)


class Writer:
    """`open_database` is called in the thread, with True where the file is suspected to be damaged; sqlite3.Error or
    OSError: not now. `issue` is called in the reactor's thread with what the opening found.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: IReactorFromThreads,
        open_database: Callable[[bool], tuple[Database, list[StoreIssue]]],
        issue: Callable[[StoreIssue], None],
        queue_most: int = QUEUE_MOST,
    ) -> None:
        self._reactor = reactor
        self._open_database = open_database
        self._issue = issue
        self._queue_most = queue_most
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._waiting = 0
        self._state = "new"
        self._ended: Deferred[None] = Deferred()
        # Only the thread looks at these.
        self._database: Database | None = None
        self._suspect = False
        self._fault: Exception = StoreFailed("the database is not open")
        self._open_after = 0.0
        self._damaged_at = -REOPEN_SECONDS
        self._told = False

    def start(self) -> None:
        """Starts the thread; calls may come at once and wait for the opening."""
        self._state = "running"
        Thread(target=self._run, name="store", daemon=True).start()

    def call(self, work: Work) -> Deferred[Any]:
        """Runs `work` in the thread; answers after the commit. StoreFailed: nothing of it was kept."""
        if self._state != "running":
            raise StoreFailed("the database is closed")
        if self._waiting >= self._queue_most:
            raise StoreFailed(f"over {self._queue_most} calls wait for the database")
        self._waiting += 1
        call = _Call(work)
        self._calls.put(call)
        return call.answer

    def stop(self) -> Deferred[None]:
        """Fires when everything that was called is answered and the file is closed. May be called again."""
        if self._state == "running":
            self._calls.put(None)
        elif self._state == "new":
            self._ended.callback(None)
        self._state = "stopped"
        stopped: Deferred[None] = Deferred()
        self._ended.addCallback(lambda _: stopped.callback(None))
        return stopped

    # ------------------------------------------------------------- the thread

    def _run(self) -> None:
        self._open()
        ending = False
        while not ending:
            batch = self._take(BATCH_MOST)
            ending = batch[-1] is None
            calls = [call for call in batch if call is not None]
            if calls:
                self._reactor.callFromThread(self._answer, calls, self._answers([call.work for call in calls]))
            if self._database is not None and self._database.locked and not ending:
                self._refuse_waiting()
        self._close()
        self._reactor.callFromThread(self._ended.callback, None)

    def _take(self, most: int) -> list[_Call | None]:
        """Waits for the first call, then takes all that wait. None is the last there is."""
        batch = [self._calls.get()]
        batch += [self._calls.get() for _ in range(min(self._calls.qsize(), most - 1))]
        return batch

    def _answers(self, works: Sequence[Work]) -> Sequence[Any]:
        if self._database is None and not self._open():
            return failed(self._fault, len(works))
        database = self._database
        assert database is not None
        try:
            answers = database.run(works)
        except Exception as error:
            # A bug of ours: the calls fail with it, the thread lives on.
            self._log.failure("the database's thread met a bug")
            return failed(error, len(works))
        if database.damaged:
            self._give_up(database)
        return answers

    def _refuse_waiting(self) -> None:
        """Another process holds the lock: what came while we waited for it does not wait as long once more."""
        if self._calls.empty():
            return
        waiting = self._take(self._queue_most)
        calls = [call for call in waiting if call is not None]
        locked = StoreFailed("another process holds the lock of the database")
        self._reactor.callFromThread(self._answer, calls, failed(locked, len(calls)))
        if len(calls) < len(waiting):
            self._calls.put(None)

    def _open(self) -> bool:
        if monotonic() < self._open_after:
            return False
        try:
            self._database, issues = self._open_database(self._suspect)
        except Exception as error:
            self._open_after = monotonic() + REOPEN_SECONDS
            self._unavailable(error)
            return False
        self._suspect, self._told = False, False
        for issue in issues:
            self._reactor.callFromThread(self._issue, issue)
        return True

    def _unavailable(self, error: Exception) -> None:
        self._fault = translated(error)
        if not isinstance(self._fault, StoreFailed):
            self._log.failure("the database cannot be opened")
        if not self._told:
            self._told = True
            issue = StoreIssue("database_unavailable", "critical", str(self._fault))
            self._reactor.callFromThread(self._issue, issue)

    def _give_up(self, database: Database) -> None:
        """The file is damaged: the next call opens it again, which sets it aside."""
        self._database, self._suspect = None, True
        self._fault = StoreFailed("the database file is damaged; it is being replaced")
        self._open_after = monotonic() + REOPEN_SECONDS if self._damaged_lately() else 0.0
        database.abandon()

    def _damaged_lately(self) -> bool:
        before, self._damaged_at = self._damaged_at, monotonic()
        return self._damaged_at - before < REOPEN_SECONDS

    def _close(self) -> None:
        if self._database is None:
            return
        try:
            self._database.close()
        except sqlite3.Error as error:
            self._log.warn("the database did not close in order: {reason}", reason=reason(error))

    # ------------------------------------------------------------- back in the reactor

    def _answer(self, batch: list[_Call], answers: Sequence[Any]) -> None:
        self._waiting -= len(batch)
        for call, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Failed):
                call.answer.errback(Failure(answer.error))
            else:
                call.answer.callback(answer)
