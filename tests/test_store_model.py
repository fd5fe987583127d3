"""Any sequence of calls against a model of lists and dictionaries, with failing commits and restarts in between."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import LimitsConfig
from stellarstack.core.messages import Event, OutboxRow
from stellarstack.interfaces import AcceptStatus
from stellarstack.store.database import Database, Failed
from tests.examples import examples
from tests.fakes_store import NODE, ack, audit, command, memory_database, result, run, status

ROWS = 30
COMMANDS = st.sampled_from(["c1", "c2", "c3", "c4"])
EVENTS = st.lists(st.sampled_from([status, audit]), max_size=12)


@dataclass
class Told:
    """What the model knows of one command."""

    payload: int
    copies: int = 0
    begun: bool = False
    ended: bool = False


@dataclass
class Model:
    """`events`: seq -> eventId of all that were ever committed. `journal` in order of arrival."""

    events: dict[int, str] = field(default_factory=dict)
    last: int = 0
    delivered: int = 0
    journal: dict[str, Told] = field(default_factory=dict)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.limits = LimitsConfig(outbox_rows=ROWS)
        self.database = memory_database(limits=self.limits)

    def teardown(self) -> None:
        self.database.connection.close()

    def committed(self, rows: list[OutboxRow] | tuple[OutboxRow, ...], kinds: list[str]) -> None:
        """`rows` are the next numbers, of these types."""
        assert [row.type for row in rows] == kinds
        for row in rows:
            self.model.last += 1
            assert row.seq == self.model.last
            self.model.events[row.seq] = row.event_id

    @rule(name=COMMANDS, payload=st.integers(1, 2))
    def accept(self, name: str, payload: int) -> None:
        answer = run(self.database, lambda db: db.journal.accept(command(name, n=payload), ack(name)))
        told = self.model.journal.get(name)
        if told is None:
            assert answer.status is AcceptStatus.NEW
            self.model.journal[name] = Told(payload)
        elif told.payload != payload:
            assert answer.status is AcceptStatus.CONFLICT and not answer.rows
            return
        elif told.ended:
            assert answer.status is AcceptStatus.REPEATED
            assert json.loads(answer.rows[1].body)["repeat"] is True
            self.committed(answer.rows, ["command.ack", "command.result"])
            return
        else:
            assert answer.status is AcceptStatus.COPY
            told.copies += 1
        self.committed(answer.rows, ["command.ack"])

    @rule(name=COMMANDS)
    def begin(self, name: str) -> None:
        run(self.database, lambda db: db.journal.begin(name))
        if name in self.model.journal and not self.model.journal[name].ended:
            self.model.journal[name].begun = True

    @rule(name=COMMANDS)
    def finish(self, name: str) -> None:
        rows = run(self.database, lambda db: db.journal.finish(name, result(name)))
        told = self.model.journal.get(name, Told(0))
        copies, told.copies = (0 if told.ended else told.copies + 1), 0
        told.ended = True
        self.committed(rows, ["command.result"] * copies)

    @rule(kinds=EVENTS)
    def append(self, kinds: list[Any]) -> None:
        rows = run(self.database, lambda db: db.outbox.append([kind() for kind in kinds]))
        self.committed(rows, [kind().type for kind in kinds])

    @rule(kinds=EVENTS)
    def fail(self, kinds: list[Any]) -> None:
        """A commit in which one call fails, between two that do not."""
        bad = Event("heartbeat", {}, durable=False)
        first, failed, last = self.database.run([
            lambda db: db.outbox.append([kind() for kind in kinds]),
            lambda db: (db.journal.accept(command("c1", n=9), ack("c1")), db.outbox.append([status(), bad])),
            lambda db: db.outbox.append([status()]),
        ])  # fmt: skip
        assert isinstance(failed, Failed)
        self.committed([*first, *last], [kind().type for kind in kinds] + ["server.status"])

    @rule(kinds=EVENTS)
    def fail_to_commit(self, kinds: list[Any]) -> None:
        """A disk that is full when the commit comes: nothing is kept."""
        text = "x" * 5000
        (pages,) = self.database.connection.execute("PRAGMA page_count").fetchone()
        self.database.connection.execute(f"PRAGMA max_page_count = {pages:d}").fetchone()
        events = [status(text=text) for _ in range(40)]
        answers = self.database.run([lambda db: db.outbox.append(events), lambda db: db.outbox.append(events)])
        self.database.connection.execute("PRAGMA max_page_count = 1000000").fetchone()
        for answer in answers:
            if not isinstance(answer, Failed):
                self.committed(answer, ["server.status"] * 40)

    @rule(limit=st.integers(1, 10), ahead=st.integers(0, 3))
    def publish(self, limit: int, ahead: int) -> None:
        """The publisher reads on from what was delivered, and delivers some or all of it."""
        rows = run(self.database, lambda db: db.outbox.after(self.model.delivered, limit))
        if len(rows) > ahead:
            self.model.delivered = rows[len(rows) - 1 - ahead].seq
            run(self.database, lambda db: db.outbox.delivered(self.model.delivered))

    @precondition(lambda self: self.model.delivered)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        seq = data.draw(st.integers(0, self.model.delivered))
        run(self.database, lambda db: db.outbox.rewind(seq))
        self.model.delivered = seq

    @rule(ahead=st.integers(-5, 50))
    def raise_sequence(self, ahead: int) -> None:
        pending = [row.seq for row in self.pending()]
        target = self.model.last + ahead
        run(self.database, lambda db: db.outbox.raise_sequence(target))
        if target > self.model.delivered:
            moved = {target + n: self.model.events.get(seq, "") for n, seq in enumerate(pending, 1)}
            self.model.events.update(moved)
            self.model.last, self.model.delivered = target + len(pending), target

    @rule()
    def restart(self) -> None:
        self.database = Database(self.database.connection, node_id=NODE, now=lambda: 0.0, limits=self.limits)

    def pending(self) -> list[OutboxRow]:
        """Looks without having the rows handed out."""
        query = "SELECT seq, event_id, type, body FROM outbox WHERE seq > ? ORDER BY seq"
        found = self.database.connection.execute(query, (self.model.delivered,))
        return [OutboxRow(seq, event_id, kind, body, ()) for seq, event_id, kind, body in found]

    @invariant()
    def counters_are_right(self) -> None:
        rows = self.pending()
        state = run(self.database, lambda db: db.outbox.state())
        assert (state.last_seq, state.delivered_seq) == (self.model.last, self.model.delivered)
        assert (state.pending_rows, state.pending_bytes) == (len(rows), sum(len(row.body) for row in rows))

    @invariant()
    def every_number_is_there_or_told(self) -> None:
        rows = self.pending()
        there = {row.seq for row in rows}
        for row in rows:
            body = json.loads(row.body)
            assert (body["seq"], body["eventId"]) == (row.seq, row.event_id)
            if body.get("code") == "events_dropped":
                there.update(range(body["fromSeq"], body["toSeq"] + 1))
        assert there >= set(range(self.model.delivered + 1, self.model.last + 1)) - self.told_before(rows)

    def told_before(self, rows: list[OutboxRow]) -> set[int]:
        """What alerts tell that were delivered already."""
        told: set[int] = set()
        query = "SELECT body FROM outbox WHERE seq <= ? AND type = 'node.alert'"
        for (text,) in self.database.connection.execute(query, (self.model.delivered,)):
            body = json.loads(text)
            told.update(range(body["fromSeq"], body["toSeq"] + 1))
        return told

    @invariant()
    def only_what_may_gives_way(self) -> None:
        kept = {row.type for row in self.pending()}
        if len(self.pending()) > ROWS:
            # Rows that the publisher has read may not be replaced, all others of these types are gone.
            handed = self.database.outbox.counters.handed_seq
            left = [row for row in self.pending() if row.type in ("console.audit", "server.status")]
            assert all(row.seq <= handed for row in left), kept

    @invariant()
    def journal_is_right(self) -> None:
        entries = run(self.database, lambda db: db.journal.unfinished())
        wanted = [(name, told.begun) for name, told in self.model.journal.items() if not told.ended]
        assert [(entry.command.id, entry.begun is not None) for entry in entries] == wanted


class ModelTests(SynchronousTestCase):
    def test_any_sequence_of_calls(self) -> None:
        """K12, W14: whatever is called in whatever order, each seq is there or told, and each command is answered."""
        some = examples(15, stateful_step_count=40)
        run_state_machine_as_test(StoreMachine, settings=some)
