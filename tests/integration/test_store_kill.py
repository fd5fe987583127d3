"""A store whose process is killed at any moment keeps all that it answered (SECURITY K07, K15).

Run as a module it is the process that gets killed: it prints a line for each answer of the store.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import LimitsConfig
from stellarstack.interfaces import AcceptStatus
from stellarstack.store.database import Database
from stellarstack.store.opening import open_connection
from stellarstack.store.sqlite_store import SqliteStore
from tests.fakes_store import NODE, ack, command, result, run

ROOT = Path(__file__).absolute().parents[2]
ROUNDS, WORKERS = 12, 20


class KillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "daemon.sqlite"
        self.accepted: set[str] = set()
        self.finished: set[str] = set()
        self.rows: dict[int, str] = {}

    def killed(self, name: str, after: int) -> None:
        """Runs the process until it has printed `after` lines, kills it, and notes what it was answered."""
        argv = [sys.executable, "-m", "tests.integration.test_store_kill", str(self.path), name]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            for number, line in enumerate(process.stdout, 1):
                self.note(line.decode())
                if number == after:
                    process.send_signal(signal.SIGKILL)
        self.assertEqual(process.returncode, -signal.SIGKILL)

    def note(self, line: str) -> None:
        if not line.endswith("\n"):
            return
        what, command_id, *rows = line.split()
        (self.accepted if what == "accepted" else self.finished).add(command_id)
        for row in rows:
            seq, event_id = row.split("=")
            self.assertNotIn(int(seq), self.rows)
            self.rows[int(seq)] = event_id

    def check(self) -> None:
        connection, issues = open_connection(self.path, node_id=NODE, now=lambda: 0.0)
        self.assertEqual(issues, [])
        found = dict(connection.execute("SELECT seq, event_id FROM outbox"))
        database = Database(connection, node_id=NODE, now=lambda: 0.0, limits=LimitsConfig())
        last = run(database, lambda db: db.outbox.state()).last_seq
        self.assertEqual(sorted(found), list(range(1, last + 1)))
        self.assertEqual({seq: found[seq] for seq in self.rows}, self.rows)
        kept = {bytes(key).decode(): ended for key, ended in connection.execute("SELECT id, finished FROM journal")}
        self.assertEqual(self.accepted - set(kept), set())
        self.assertEqual({each for each in self.finished if kept[each] is None}, set())
        database.close()

    def test_k07_k15_killed_at_random_points(self) -> None:
        """K07, K15: all that was answered is there after a kill -9, once, and seq is unbroken, over many kills."""
        dice = random.Random()
        for number in range(ROUNDS):
            self.killed(f"r{number}", after=dice.choice((1, 2, 30, 200, 1000)))
            self.check()
        self.assertGreater(len(self.finished), 0)

    def test_k07_killed_while_copies_come(self) -> None:
        """K07: a command that was accepted before the kill is a copy afterwards, one that was finished is repeated."""
        self.killed("r", after=300)
        connection, _ = open_connection(self.path, node_id=NODE, now=lambda: 0.0)
        self.addCleanup(connection.close)
        database = Database(connection, node_id=NODE, now=lambda: 0.0, limits=LimitsConfig())
        for command_id in sorted(self.accepted):
            again = run(database, lambda db, wanted=command_id: db.journal.accept(command(wanted), ack(wanted)))  # type: ignore[misc]
            expected = (AcceptStatus.REPEATED,) if command_id in self.finished else (
                AcceptStatus.COPY, AcceptStatus.REPEATED)  # fmt: skip
            self.assertIn(again.status, expected)


async def work(store: SqliteStore, name: str) -> None:
    number = 0
    while True:
        number += 1
        command_id = f"{name}-{number}"
        accepted = await store.accept(command(command_id), ack(command_id))
        tell("accepted", command_id, accepted.rows)
        await store.begin(command_id)
        if number % 3:
            tell("finished", command_id, await store.finish(command_id, result(command_id, status="succeeded")))


def tell(what: str, command_id: str, rows: Any) -> None:
    told = " ".join(f"{row.seq}={row.event_id}" for row in rows)
    os.write(1, f"{what} {command_id} {told}\n".encode())


async def main(reactor: Any, path: str, name: str) -> None:
    store = SqliteStore(path=Path(path), node_id=NODE, reactor=reactor)
    await store.open()
    for worker in range(WORKERS):
        Deferred.fromCoroutine(work(store, f"{name}-{worker}")).addErrback(lambda failure: failure.printTraceback())


if __name__ == "__main__":
    from twisted.internet import reactor

    Deferred.fromCoroutine(main(reactor, *sys.argv[1:]))
    reactor.run()
