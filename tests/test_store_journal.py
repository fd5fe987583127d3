"""The journal: every command runs once, every copy is answered (PROTOCOL 4)."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Command, Event, Origin, OutboxRow
from stellarstack.interfaces import Accepted, AcceptStatus
from stellarstack.store import journal
from tests.fakes_store import ack, command, memory_database, result, run


def bodies(rows: tuple[OutboxRow, ...] | list[OutboxRow]) -> list[dict[str, Any]]:
    return [json.loads(row.body) for row in rows]


class JournalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = 1000.0
        self.database = memory_database(now=lambda: self.time)
        self.addCleanup(self.database.connection.close)

    def accept(self, wanted: Command, answer: Event | None = None) -> Accepted:
        accepted: Accepted = run(self.database, lambda db: db.journal.accept(wanted, answer or ack(wanted.id)))
        return accepted

    def finish(self, command_id: str = "c1", **fields: Any) -> list[OutboxRow]:
        rows: list[OutboxRow] = run(
            self.database, lambda db: db.journal.finish(command_id, result(command_id, **fields))
        )
        return rows

    def forget_nothing_before(self, count: int, first: int = 0) -> None:
        for number in range(first, first + count):
            self.accept(command(f"n{number}"))
            self.finish(f"n{number}")

    def known(self, command_id: str) -> bool:
        return self.accept(command(command_id)).status is not AcceptStatus.NEW

    def keep_little(self, ids: int, most: int = 10**6) -> None:
        self.patch(journal, "KEEP_IDS", ids)
        self.patch(journal, "KEEP_MOST", most)
        self.patch(journal, "PRUNE_EVERY", 1)

    def test_new_command_is_acked(self) -> None:
        """A new command is journaled and its ack stands in the outbox."""
        accepted = self.accept(command())
        self.assertIs(accepted.status, AcceptStatus.NEW)
        self.assertEqual([row.type for row in accepted.rows], ["command.ack"])
        self.assertEqual(accepted.rows[0].seq, 1)

    def test_k12_copy_while_it_runs(self) -> None:
        """K12: copies of a running command get an ack each, and a repeated result each when it ends."""
        self.accept(command())
        for _ in range(99):
            self.assertIs(self.accept(command()).status, AcceptStatus.COPY)
        found = bodies(self.finish(status="succeeded"))
        self.assertEqual(len(found), 100)
        self.assertNotIn("repeat", found[0])
        self.assertTrue(all(body["repeat"] is True for body in found[1:]))

    def test_k12_copy_after_the_end(self) -> None:
        """K12: a copy of an ended command gets ack and result at once, equal but for eventId, seq and timestamp."""
        self.accept(command())
        (first,) = bodies(self.finish(status="succeeded", result={"status": "running"}, durationMs=5))
        accepted = self.accept(command())
        self.assertIs(accepted.status, AcceptStatus.REPEATED)
        again = bodies(accepted.rows)[1]
        self.assertEqual(again.pop("repeat"), True)
        for key in ("eventId", "seq", "timestamp"):
            self.assertNotEqual(first.pop(key), again.pop(key), key)
        self.assertEqual(first, again)

    def test_copy_by_another_door(self) -> None:
        """The same command by pub/sub and by queue is one command."""
        self.accept(command(origin=Origin.PUBSUB, serverId="s1"))
        self.assertIs(self.accept(command(origin=Origin.QUEUE, serverId="s1")).status, AcceptStatus.COPY)
        self.assertEqual(len(run(self.database, lambda db: db.journal.unfinished())), 1)

    def test_conflict(self) -> None:
        """An id used again with another payload or type is a conflict, and nothing is kept of it."""
        self.accept(command(serverId="s1"))
        self.assertEqual(self.accept(command(serverId="s2")), Accepted(AcceptStatus.CONFLICT))
        self.assertEqual(self.accept(command(kind="server.stop", serverId="s1")).status, AcceptStatus.CONFLICT)
        self.finish()
        self.assertEqual(self.accept(command(serverId="s2")).status, AcceptStatus.CONFLICT)
        self.assertEqual(run(self.database, lambda db: db.outbox.state()).last_seq, 2)

    def test_unfinished_in_order_of_arrival(self) -> None:
        """K07: unfinished commands come back whole and in order of arrival, with the time they were begun."""
        wanted = [
            Command(f"c{n}", "server.start", {"serverId": "s\ud800", "n": n, "f": 0.5}, Origin.QUEUE, "s1", 3.0, 4.5)
            for n in (3, 1, 2)
        ]
        for each in wanted:
            self.accept(each)
        self.time = 1007.0
        run(self.database, lambda db: db.journal.begin("c1"))
        self.time = 1009.0
        run(self.database, lambda db: db.journal.begin("c1"))
        entries = run(self.database, lambda db: db.journal.unfinished())
        self.assertEqual([entry.command for entry in entries], wanted)
        self.assertEqual([entry.begun for entry in entries], [None, 1007.0, None])
        self.assertEqual({entry.accepted for entry in entries}, {1000.0})

    def test_finished_is_not_unfinished(self) -> None:
        """A command with a result does not come back, and its payload is not kept."""
        self.accept(command(secret="hunter2"))
        self.finish()
        self.assertEqual(run(self.database, lambda db: db.journal.unfinished()), [])
        dump = "\n".join(self.database.connection.iterdump())
        self.assertNotIn("hunter2", dump)

    def test_one_result(self) -> None:
        """A second result for the same command is left out."""
        self.accept(command())
        self.assertEqual(len(self.finish(status="succeeded")), 1)
        self.assertEqual(self.finish(status="failed"), [])
        self.assertEqual(bodies(self.accept(command()).rows)[1]["status"], "succeeded")

    def test_result_of_an_unknown_command(self) -> None:
        """K16: the result of a command that was lost with a damaged file still goes out."""
        self.assertEqual(len(self.finish("lost")), 1)

    def test_ids_of_any_json_string(self) -> None:
        """An id may be any JSON string: half a surrogate pair, a NUL, nothing in common with SQL."""
        for wanted in ("\ud800", "a\0b", "a\0c", "'; DROP TABLE journal; --", "é", "日本"):
            self.assertIs(self.accept(command(wanted)).status, AcceptStatus.NEW)
            self.assertIs(self.accept(command(wanted)).status, AcceptStatus.COPY)
        found = run(self.database, lambda db: db.journal.unfinished())
        self.assertEqual(found[0].command.id, "\ud800")

    def test_unreadable_entry(self) -> None:
        """K16: an entry that a damaged file made unreadable does not hide the others."""
        self.accept(command("c1"))
        self.accept(command("c2"))
        self.database.connection.execute("UPDATE journal SET command = '{\"or' WHERE arrival = 1")
        entries = run(self.database, lambda db: db.journal.unfinished())
        self.assertEqual([entry.command.id for entry in entries], ["c2"])

    def test_kept_for_seven_days(self) -> None:
        """A result is kept for 7 days even where more than the newest ids came since."""
        self.keep_little(ids=5)
        self.forget_nothing_before(20)
        self.time += 6 * 86400
        self.forget_nothing_before(20, first=20)
        self.assertTrue(self.known("n0"))

    def test_kept_among_the_newest(self) -> None:
        """A result is kept for longer than 7 days while it is among the newest ids, and no longer."""
        self.keep_little(ids=5)
        self.forget_nothing_before(20)
        self.time += 8 * 86400
        self.forget_nothing_before(3, first=20)
        self.assertTrue(self.known("n18"))
        self.assertFalse(self.known("n0"))

    def test_kept_until_it_expires(self) -> None:
        """A result is kept until its expiresAt, whatever its age and however many came since."""
        self.keep_little(ids=5, most=10)
        late = command("late", expires_at=self.time + 30 * 86400)
        self.accept(late)
        self.finish("late")
        self.time += 29 * 86400
        self.forget_nothing_before(20)
        self.assertIs(self.accept(late).status, AcceptStatus.REPEATED)
        self.time += 9 * 86400
        self.forget_nothing_before(20, first=20)
        self.assertIs(self.accept(late).status, AcceptStatus.NEW)

    def test_unfinished_is_never_forgotten(self) -> None:
        """A command without a result stays in the journal, whatever its age."""
        self.keep_little(ids=5, most=10)
        self.accept(command("slow"))
        self.time += 100 * 86400
        self.forget_nothing_before(30)
        self.assertTrue(self.known("slow"))

    def test_flood_is_bounded(self) -> None:
        """Of more ids than the ceiling the oldest go, however young."""
        self.keep_little(ids=5, most=10)
        self.forget_nothing_before(60)
        (count,) = self.database.connection.execute("SELECT COUNT(*) FROM journal").fetchone()
        self.assertLessEqual(count, 12)
        self.assertTrue(self.known("n59"))

    def test_expires_at_without_end(self) -> None:
        """An expiresAt that is no finite number is kept like one far away."""
        self.accept(command("c1", expires_at=float("inf")))
        self.finish("c1")
        self.assertIs(self.accept(command("c1", expires_at=float("inf"))).status, AcceptStatus.REPEATED)
