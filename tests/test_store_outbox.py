"""The outbox: gapless `seq`, its bound, and what happens when Redis is ahead or behind (PROTOCOL 3)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import LimitsConfig
from stellarstack.core.messages import Event, OutboxRow
from stellarstack.interfaces import OutboxState
from stellarstack.store import outbox
from stellarstack.store.database import Database, Failed
from tests.fakes_store import NODE, audit, memory_database, result, run, status


class OutboxCase(SynchronousTestCase):
    limits = LimitsConfig()

    def setUp(self) -> None:
        self.time = 1000.0
        self.database = memory_database(now=lambda: self.time, limits=self.limits)
        self.addCleanup(self.database.connection.close)

    def append(self, *events: Event) -> list[OutboxRow]:
        rows: list[OutboxRow] = run(self.database, lambda db: db.outbox.append(events))
        return rows

    def after(self, seq: int = 0, limit: int = 10**6) -> list[OutboxRow]:
        rows: list[OutboxRow] = run(self.database, lambda db: db.outbox.after(seq, limit))
        return rows

    def delivered(self, up_to: int) -> None:
        run(self.database, lambda db: db.outbox.delivered(up_to))

    def rewind(self, seq: int) -> int:
        count: int = run(self.database, lambda db: db.outbox.rewind(seq))
        return count

    @property
    def state(self) -> OutboxState:
        found: OutboxState = run(self.database, lambda db: db.outbox.state())
        return found

    def seqs(self) -> list[int]:
        """The numbers of all pending rows, without having them handed out."""
        query = "SELECT seq FROM outbox WHERE seq > ? ORDER BY seq"
        return [seq for (seq,) in self.database.connection.execute(query, (self.state.delivered_seq,))]

    def kept(self) -> int:
        (count,) = self.database.connection.execute("SELECT COUNT(*) FROM outbox").fetchone()
        return int(count)

    def alerts(self) -> list[dict[str, Any]]:
        query = "SELECT body FROM outbox WHERE type = 'node.alert' ORDER BY seq"
        return [json.loads(body) for (body,) in self.database.connection.execute(query)]

    def assert_counted(self) -> None:
        """The counters say what a full scan would."""
        query = "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM outbox WHERE seq > ?"
        found = self.database.connection.execute(query, (self.state.delivered_seq,)).fetchone()
        self.assertEqual((self.state.pending_rows, self.state.pending_bytes), tuple(found))


class OrderTests(OutboxCase):
    def test_numbered_at_commit(self) -> None:
        """Each event gets the next seq and an eventId of its own, in the row and in the body."""
        rows = self.append(status(), status()) + self.append(result())
        self.assertEqual([row.seq for row in rows], [1, 2, 3])
        self.assertEqual(len({row.event_id for row in rows}), 3)
        for row in rows:
            body = json.loads(row.body)
            self.assertEqual((body["seq"], body["eventId"], body["type"]), (row.seq, row.event_id, row.type))

    def test_channels(self) -> None:
        """A row knows the channels that carry it."""
        (row,) = self.append(status("s7"))
        self.assertEqual(row.channels, (f"stellar:nodes:{NODE}:events", "stellar:servers:s7:status"))

    def test_after_gives_back_what_was_committed(self) -> None:
        """What the publisher reads is what append answered, in order, from where it asks, as many as it asks."""
        rows = self.append(*(status(n=n) for n in range(10)))
        self.assertEqual(self.after(), rows)
        self.assertEqual(self.after(3, 4), rows[3:7])

    def test_delivered_rows_are_not_pending(self) -> None:
        """Delivered rows are not handed out again, and the counters tell what is left."""
        rows = self.append(*(status(n=n) for n in range(5)))
        self.delivered(3)
        self.assertEqual(self.after(), rows[3:])
        self.assertEqual(self.state, OutboxState(5, 3, 2, sum(len(row.body) for row in rows[3:])))

    def test_delivered_backwards_or_too_far(self) -> None:
        """An older mark changes nothing; one beyond the newest row stops there."""
        self.append(status(), status())
        self.delivered(2)
        self.delivered(1)
        self.delivered(99)
        self.assertEqual(self.state, OutboxState(2, 2, 0, 0))
        self.assertEqual(self.append(status())[0].seq, 3)

    def test_transient_event(self) -> None:
        """A transient event is refused, and the numbers go on as if it had not been."""
        self.assertRaises(ValueError, self.append, status(), Event("heartbeat", {}, durable=False))
        self.assertEqual(self.append(status())[0].seq, 1)

    def test_no_json(self) -> None:
        """A failing call fails alone: the others of its commit are kept, without a gap."""
        works: list[Callable[[Database], Any]] = [
            lambda db: db.outbox.append([status()]),
            lambda db: db.outbox.append([status(), status(n=float("nan"))]),
            lambda db: db.outbox.append([status()]),
        ]
        first, broken, last = self.database.run(works)
        self.assertIsInstance(broken, Failed)
        self.assertEqual([first[0].seq, last[0].seq], [1, 2])
        self.assertEqual(self.seqs(), [1, 2])
        self.assert_counted()

    def test_nothing_to_append(self) -> None:
        """No events, no rows."""
        self.assertEqual(self.append(), [])
        self.assertEqual(self.state, OutboxState(0, 0, 0, 0))

    def test_w14_forty_thousand(self) -> None:
        """W14: 40 000 events in one call, delivered in one call, by statements of at most 500 variables."""
        self.database.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 500)
        self.append(*(status(n=n) for n in range(40_000)))
        seen = 0
        while rows := self.after(seen, 500):
            self.assertEqual([row.seq for row in rows], list(range(seen + 1, seen + len(rows) + 1)))
            seen = rows[-1].seq
        self.assertEqual(seen, 40_000)
        self.delivered(seen)
        self.assertEqual(self.state, OutboxState(40_000, 40_000, 0, 0))

    def test_counters_survive(self) -> None:
        """Another database object on the same file goes on where this one was."""
        self.append(*(status(n=n) for n in range(5)))
        self.delivered(2)
        again = Database(self.database.connection, node_id=NODE, now=lambda: 0.0, limits=self.limits)
        self.assertEqual(run(again, lambda db: db.outbox.state()), self.state)


class BoundTests(OutboxCase):
    limits = LimitsConfig(outbox_rows=10, outbox_bytes=10**6)

    def fill(self, *kinds: Callable[[], Event]) -> None:
        for kind in kinds:
            self.append(kind())

    def test_audit_goes_first(self) -> None:
        """Beyond the bound the oldest console.audit gives way, and an alert at its place tells so."""
        self.fill(*[status] * 4, *[audit] * 4, *[result] * 5)
        self.assertEqual(self.seqs(), [1, 2, 3, 4, 5, 9, 10, 11, 12, 13])
        (alert,) = self.alerts()
        self.assertEqual((alert["seq"], alert["fromSeq"], alert["toSeq"], alert["count"]), (5, 5, 8, 4))
        self.assertEqual((alert["code"], alert["nodeId"]), ("events_dropped", NODE))
        self.assert_counted()

    def test_status_goes_next(self) -> None:
        """When no console.audit is left the oldest server.status gives way; the one alert takes it in."""
        self.fill(*[status] * 4, *[audit] * 4, *[result] * 7)
        self.assertEqual(self.seqs(), [3, 4, 5, 9, 10, 11, 12, 13, 14, 15])
        (alert,) = self.alerts()
        self.assertEqual((alert["seq"], alert["fromSeq"], alert["toSeq"], alert["count"]), (5, 1, 8, 6))
        self.assert_counted()

    def test_results_never(self) -> None:
        """command.result never gives way, even where the bound cannot be kept."""
        self.fill(*[result] * 8, status, *[result] * 8)
        self.assertEqual([row.type for row in self.after()].count("command.result"), 16)
        self.assert_counted()

    def test_every_number_is_there_or_told(self) -> None:
        """A reader finds each seq in the stream or in the range of an alert."""
        kinds: list[Callable[[], Event]] = [audit, result, status]
        self.fill(*kinds * 20)
        told = {n for alert in self.alerts() for n in range(alert["fromSeq"], alert["toSeq"] + 1)}
        self.assertEqual(set(range(1, 61)) - set(self.seqs()) - told, set())
        dropped = sum(alert["count"] for alert in self.alerts())
        self.assertEqual(len(self.seqs()), 60 - dropped + len(self.alerts()))

    def test_what_is_on_its_way_stays(self) -> None:
        """Rows that the publisher has read are not replaced: the stream may hold them already."""
        self.fill(*[audit] * 10)
        handed = self.after(0, 4)
        self.fill(*[result] * 5)
        self.assertEqual(self.seqs()[:4], [row.seq for row in handed])
        self.assertEqual(self.alerts()[0]["seq"], 5)

    def test_alert_on_its_way_is_not_changed(self) -> None:
        """A later loss gets an alert of its own where the first one has been read by the publisher."""
        self.fill(*[audit] * 12)
        self.assertEqual(self.alerts()[0]["count"], 3)
        self.after(0, 2)
        self.fill(*[audit] * 3)
        self.assertEqual([alert["count"] for alert in self.alerts()], [3, 4])
        self.assert_counted()

    def test_bytes(self) -> None:
        """The bound counts bytes too."""
        self.database = memory_database(limits=LimitsConfig(outbox_rows=1000, outbox_bytes=2000))
        self.addCleanup(self.database.connection.close)
        for _ in range(20):
            self.append(audit(command="x" * 200))
        self.assertLessEqual(self.state.pending_bytes, 2000)
        self.assertEqual(self.alerts()[0]["count"] + self.state.pending_rows - 1, 20)
        self.assert_counted()

    def test_many_at_once(self) -> None:
        """W14: a call that goes far beyond the bound is trimmed in slices."""
        self.append(*(audit(n=n) for n in range(2000)))
        self.assertEqual(self.state.pending_rows, 10)
        (alert,) = self.alerts()
        self.assertEqual((alert["fromSeq"], alert["toSeq"], alert["count"]), (1, 1991, 1991))


class KeptTests(OutboxCase):
    def setUp(self) -> None:
        super().setUp()
        for name, value in (("KEEP_ROWS", 10), ("KEEP_MOST", 100), ("PRUNE_FROM", 1)):
            self.patch(outbox, name, value)

    def deliver(self, count: int) -> None:
        rows = self.append(*(status(n=n) for n in range(count)))
        self.delivered(rows[-1].seq)

    def test_kept_for_ten_minutes(self) -> None:
        """Delivered rows are kept for 10 minutes, however many came since."""
        self.deliver(50)
        self.time += 590
        self.deliver(1)
        self.assertEqual(self.kept(), 51)

    def test_newest_are_kept(self) -> None:
        """After 10 minutes the newest delivered rows are kept and the others go."""
        self.deliver(50)
        self.time += 601
        self.deliver(1)
        self.assertEqual(self.kept(), 10)

    def test_flood_is_bounded(self) -> None:
        """Beyond the ceiling the oldest delivered rows go, however young."""
        for _ in range(10):
            self.deliver(50)
        self.assertLessEqual(self.kept(), 100)

    def test_pending_are_never_pruned(self) -> None:
        """Undelivered rows stay, whatever their age."""
        self.append(*(status(n=n) for n in range(200)))
        self.time += 10_000
        self.append(status())
        self.assertEqual(self.kept(), 201)

    def test_clock_set_back(self) -> None:
        """A clock that jumps back keeps rows longer, never shorter, and breaks nothing."""
        self.deliver(50)
        self.time -= 500
        self.deliver(1)
        self.assertEqual(self.kept(), 51)
        self.time += 700
        self.deliver(1)
        self.assertEqual(self.kept(), 10)

    def test_rewind(self) -> None:
        """K10: rows above the stream's newest count as undelivered again, unchanged, in order."""
        self.deliver(20)
        before = [row.body for row in self.append(status())]
        self.assertEqual(self.rewind(15), 5)
        rows = self.after()
        self.assertEqual([row.seq for row in rows], [16, 17, 18, 19, 20, 21])
        self.assertEqual(rows[-1].body, before[0])
        self.assert_counted()

    def test_rewind_to_where_we_are(self) -> None:
        """A stream that has all that was delivered needs nothing."""
        self.deliver(5)
        self.assertEqual(self.rewind(5), 0)
        self.assertEqual(self.rewind(7), 0)
        self.assertEqual(self.state.delivered_seq, 5)

    def test_rewind_beyond_what_is_kept(self) -> None:
        """K10: where delivered rows are gone, an alert at the first missing number tells the range."""
        self.deliver(50)
        self.time += 700
        self.deliver(1)
        self.assertEqual(self.rewind(20), 11)
        rows = self.after()
        self.assertEqual([row.seq for row in rows], [21, *range(42, 52)])
        (alert,) = self.alerts()
        self.assertEqual((alert["fromSeq"], alert["toSeq"], alert["count"]), (21, 41, 21))
        self.assert_counted()

    def test_rewind_where_nothing_is_kept(self) -> None:
        """K10: with no row left the alert alone closes the gap."""
        run(self.database, lambda db: db.outbox.raise_sequence(100))
        self.assertEqual(self.rewind(90), 1)
        (alert,) = self.alerts()
        self.assertEqual((alert["fromSeq"], alert["toSeq"], alert["count"]), (91, 100, 10))
        self.assertEqual(self.append(status())[0].seq, 101)


class RaiseTests(OutboxCase):
    limits = LimitsConfig(outbox_rows=200, outbox_bytes=10**6)

    def raise_sequence(self, seq: int) -> None:
        run(self.database, lambda db: db.outbox.raise_sequence(seq))

    def parsed(self, rows: Sequence[OutboxRow]) -> list[dict[str, Any]]:
        return [json.loads(row.body) for row in rows]

    def test_pending_rows_are_renumbered(self) -> None:
        """K16: after a lost database the numbers go on above the stream, the events stay the same ones."""
        rows = self.append(*(status(text="é\ud800", n=n) for n in range(150)))
        self.delivered(20)
        self.raise_sequence(5000)
        found = self.after()
        self.assertEqual([row.seq for row in found], list(range(5001, 5131)))
        self.assertEqual([row.event_id for row in found], [row.event_id for row in rows[20:]])
        wanted = [{**body, "seq": seq} for seq, body in enumerate(self.parsed(rows[20:]), 5001)]
        self.assertEqual(self.parsed(found), wanted)
        self.assertEqual(self.append(status())[0].seq, 5131)
        self.assert_counted()

    def test_among_our_pending(self) -> None:
        """K16: a stream that reaches into our numbers, with events that are not ours, moves the pending ones above."""
        rows = self.append(*(status(n=n) for n in range(90)))
        self.delivered(10)
        self.raise_sequence(30)
        found = self.after()
        self.assertEqual([row.seq for row in found], list(range(31, 111)))
        self.assertEqual([row.event_id for row in found], [row.event_id for row in rows[10:]])
        self.assert_counted()

    def test_below_our_counter(self) -> None:
        """A number up to which all was delivered changes nothing."""
        self.append(*(status(n=n) for n in range(5)))
        self.delivered(4)
        before = self.state
        self.raise_sequence(4)
        self.raise_sequence(3)
        self.assertEqual(self.state, before)

    def test_of_an_empty_outbox(self) -> None:
        """With nothing pending only the counter moves."""
        self.raise_sequence(77)
        self.assertEqual(self.state, OutboxState(77, 77, 0, 0))
        self.assertEqual(self.append(status())[0].seq, 78)

    def test_loss_alert_moves_along(self) -> None:
        """A renumbered events_dropped tells a range in the new numbers."""
        self.append(*(audit(n=n) for n in range(300)))
        self.raise_sequence(1000)
        (alert,) = self.alerts()
        self.assertEqual((alert["seq"], alert["fromSeq"], alert["toSeq"], alert["count"]), (1001, 1001, 1001, 101))
        self.assertEqual(self.seqs(), list(range(1001, 1201)))
