"""Whatever state the file is in, the daemon starts, and nothing of it is thrown away (SECURITY K16)."""

from __future__ import annotations

import random
import shutil
import sqlite3
import stat
from functools import partial
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import LimitsConfig
from stellarstack.core.messages import Command
from stellarstack.interfaces import AcceptStatus
from stellarstack.store import opening
from stellarstack.store.counters import Counters
from stellarstack.store.database import Database
from stellarstack.store.opening import StoreIssue, open_connection
from stellarstack.store.schema import APPLICATION_ID, MIGRATIONS, VERSION, migrate, version_of
from tests.fakes_store import NODE, ack, audit, command, result, run, status


class OpeningCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "daemon.sqlite"
        self.time = 1_700_000_000.0

    def open(self, **options: Any) -> tuple[Database, list[StoreIssue]]:
        connection, issues = open_connection(
            self.path, node_id=NODE, now=lambda: self.time, busy_seconds=0.05, **options
        )
        self.addCleanup(connection.close)
        return Database(connection, node_id=NODE, now=lambda: self.time, limits=LimitsConfig()), issues

    def reopen(self, *issues: str, **options: Any) -> Database:
        """Opens and expects these issue codes."""
        database, found = self.open(**options)
        self.assertEqual([issue.code for issue in found], list(issues), found)
        return database

    def filled(self, count: int = 50) -> Database:
        """An open database with something in every table, more events than one page holds."""
        database = self.reopen()
        run(database, partial(self.fill, count))
        return database

    def fill(self, count: int, database: Database) -> None:
        for n in range(count):
            database.shelf.put_server(f"s{n}", {"name": "x" * 500, "n": n})
            database.journal.accept(command(f"c{n}", n=n), ack(f"c{n}"))
            if n % 2 == 0:
                database.journal.finish(f"c{n}", result(f"c{n}", status="succeeded"))
        database.shelf.put_value("drain", {"on": True})
        database.shelf.deny("jti1", self.time + 100)
        database.outbox.append([status(text="y" * 300, n=n) for n in range(count)])
        database.outbox.delivered(10)

    def crash(self, database: Database) -> None:
        """Leaves the file as a `kill -9` does: the -wal stays."""
        copies = {name: (self.path.parent / name).read_bytes() for name in ("daemon.sqlite", "daemon.sqlite-wal")}
        database.connection.close()
        for name, content in copies.items():
            (self.path.parent / name).write_bytes(content)

    def wal(self) -> Path:
        return self.path.with_name("daemon.sqlite-wal")

    def assert_usable(self, database: Database) -> None:
        run(database, lambda db: db.shelf.put_server("new", {"a": 1}))
        self.assertEqual(run(database, lambda db: db.shelf.servers())["new"], {"a": 1})
        last = run(database, lambda db: db.outbox.state()).last_seq
        self.assertEqual(run(database, lambda db: db.outbox.append([status()]))[0].seq, last + 1)

    def assert_all_there(self, database: Database, count: int = 50) -> None:
        self.assertEqual(len(run(database, lambda db: db.shelf.servers())), count)
        self.assertEqual(run(database, lambda db: db.shelf.get_value("drain")), {"on": True})
        self.assertEqual(run(database, lambda db: db.shelf.denied()), {"jti1": self.time + 100})
        self.assertEqual(len(run(database, lambda db: db.journal.unfinished())), count // 2)
        state = run(database, lambda db: db.outbox.state())
        self.assertEqual((state.last_seq, state.delivered_seq), (count * 5 // 2, 10))
        rows = run(database, lambda db: db.outbox.after(0, 10_000))
        self.assertEqual([row.seq for row in rows], list(range(11, count * 5 // 2 + 1)))
        again = run(database, lambda db: db.journal.accept(command("c0", n=0), ack("c0")))
        self.assertIs(again.status, AcceptStatus.REPEATED)


class HealthyFileTests(OpeningCase):
    def test_new_file(self) -> None:
        """A missing folder and file are made, readable by the daemon alone, in WAL mode with synchronous=FULL."""
        database = self.reopen()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.wal().stat().st_mode), 0o600)
        connection = database.connection
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone()[0], "wal")
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchone()[0], 2)
        self.assertEqual(connection.execute("PRAGMA application_id").fetchone()[0], APPLICATION_ID)
        self.assertEqual(version_of(connection), VERSION)

    def test_closed_in_order(self) -> None:
        """What was kept is there after close and open, and the -wal is folded in."""
        self.filled().close()
        self.assertFalse(self.wal().exists())
        self.assert_all_there(self.reopen())

    def test_k07_after_a_crash(self) -> None:
        """K07: what was committed before a kill -9 is there, and nobody is alarmed."""
        self.crash(self.filled())
        self.assert_all_there(self.reopen())

    def test_migration_is_one_commit(self) -> None:
        """A step that fails leaves the file at its version, with its rows; taken again it goes through."""
        connection = self.filled().connection
        steps = (*MIGRATIONS, ("CREATE TABLE more (a)", "INSERT INTO more VALUES (1)"), ("CREATE TABLE nowhere.x (a)",))
        self.assertRaises(sqlite3.Error, migrate, connection, steps)
        self.assertEqual(version_of(connection), VERSION)
        self.assertRaises(sqlite3.Error, connection.execute, "SELECT * FROM more")
        migrate(connection, steps[:-1])
        self.assertEqual(version_of(connection), VERSION + 1)
        self.assertEqual(connection.execute("SELECT a FROM more").fetchall(), [(1,)])

    def test_migrations_are_taken_once(self) -> None:
        """A file of the newest version is left as it is."""
        connection = self.filled().connection
        migrate(connection)
        self.assertEqual(connection.execute("SELECT COUNT(*) FROM servers").fetchone(), (50,))


class DamagedFileTests(OpeningCase):
    def kept(self) -> Path:
        return self.path.with_name(f"daemon.sqlite.corrupt-{int(self.time)}")

    def test_k16_not_a_database(self) -> None:
        """K16: a file of something else is set aside, kept as it was, and a new one made."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"not a database at all\n" * 1000)
        database, (issue,) = self.open()
        self.assertEqual((issue.code, issue.severity, issue.kept), ("database_corrupt", "critical", self.kept()))
        self.assertEqual(self.kept().read_bytes(), b"not a database at all\n" * 1000)
        self.assert_usable(database)

    def test_k16_of_another_program(self) -> None:
        """K16: a good database that is not ours is set aside, never written to."""
        self.path.parent.mkdir(parents=True)
        other = sqlite3.connect(self.path)
        other.execute("CREATE TABLE servers (id, document)")
        other.commit()
        other.close()
        before = self.path.read_bytes()
        self.assert_usable(self.reopen("database_corrupt"))
        self.assertEqual(self.kept().read_bytes(), before)

    def test_k16_newer_version(self) -> None:
        """K16: a file of a newer daemon is set aside; what this daemon understands of it comes over."""
        database = self.filled()
        database.connection.execute("ALTER TABLE servers ADD COLUMN colour TEXT")
        database.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        database.close()
        self.assert_all_there(self.reopen("database_corrupt"))

    def test_k16_wal_deleted(self) -> None:
        """K16: a -wal that somebody deleted is noticed; what the file itself holds comes over."""
        database = self.filled()
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        run(database, lambda db: db.shelf.put_server("late", {}))
        self.crash(database)
        self.wal().unlink()
        self.assert_all_there(self.reopen("database_corrupt"))

    def test_k16_file_deleted(self) -> None:
        """K16: a -wal without its file is kept, not thrown away as SQLite would."""
        self.crash(self.filled())
        self.path.unlink()
        log = self.wal().read_bytes()
        self.assert_usable(self.reopen("database_corrupt"))
        self.assertEqual(self.path.with_name(self.kept().name + "-wal").read_bytes(), log)

    def test_k16_truncated_to_nothing(self) -> None:
        """K16: an empty file is told, its -wal kept."""
        self.crash(self.filled())
        self.path.write_bytes(b"")
        self.assert_usable(self.reopen("database_corrupt"))
        self.assertTrue(self.path.with_name(self.kept().name + "-wal").stat().st_size)

    def test_k16_truncated(self) -> None:
        """K16: of a file cut in half the rows that can be read come over."""
        self.filled(count=200).close()
        content = self.path.read_bytes()
        self.path.write_bytes(content[: len(content) // 2])
        self.assert_usable(self.reopen("database_corrupt"))
        self.assertEqual(self.kept().stat().st_size, len(content) // 2)

    def test_k16_one_bad_page(self) -> None:
        """K16: one bad page of the servers loses its own rows and no others."""
        database = self.filled(count=200)
        pages = "SELECT pageno FROM dbstat WHERE name = 'servers' AND pagetype = 'leaf' ORDER BY pageno"
        try:
            leaves = [page for (page,) in database.connection.execute(pages)]
        except sqlite3.OperationalError:
            leaves = []
        database.close()
        content = bytearray(self.path.read_bytes())
        for page in leaves[3:5] or self.pages_with(content, b'"name":"xxxx'):
            content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
        self.path.write_bytes(content)
        found = self.reopen("database_corrupt")
        servers = run(found, lambda db: db.shelf.servers())
        self.assertGreater(len(servers), 170)
        self.assertLess(len(servers), 200)
        self.assertEqual(len(run(found, lambda db: db.journal.unfinished())), 100)
        self.assertEqual(run(found, lambda db: db.outbox.state()).pending_rows, 490)

    def pages_with(self, content: bytearray, text: bytes) -> list[int]:
        """Two leaves of a table, found by what stands in their rows."""
        pages = [n + 1 for n in range(len(content) // 4096) if content[n * 4096 : n * 4096 + 4096].count(text) > 3]
        return pages[3:5]

    def test_k16_lost_events_are_told(self) -> None:
        """K16: pending events in a bad page leave a gap that one events_dropped tells, the others keep their seq."""
        database = self.filled(count=200)
        database.close()
        content = bytearray(self.path.read_bytes())
        (page, *_) = self.pages_with(content, b'"text":"yyyy')
        content[(page - 1) * 4096 : page * 4096] = bytes(4096)
        self.path.write_bytes(content)
        found = self.reopen("database_corrupt")
        rows = run(found, lambda db: db.outbox.after(0, 10_000))
        (alert,) = [row for row in rows if b"events_dropped" in row.body]
        missing = set(range(11, 501)) - {row.seq for row in rows}
        self.assertTrue(missing)
        self.assertEqual(alert.seq, min(missing) - 1)
        told = f'"fromSeq":{alert.seq},"toSeq":{max(missing)},"count":{len(missing) + 1}'
        self.assertIn(told.encode(), alert.body)
        state = run(found, lambda db: db.outbox.state())
        self.assertEqual((state.last_seq, state.pending_rows), (500, len(rows)))
        self.assert_usable(found)

    def test_k16_bytes_flipped_anywhere(self) -> None:
        """K16: wherever bytes are flipped, the store opens, works, and keeps the old file where it was set aside."""
        self.filled().close()
        good = self.path.read_bytes()
        dice = random.Random(16)
        for _ in range(25):
            bad = bytearray(good)
            for _ in range(dice.choice((1, 20, 500))):
                bad[dice.randrange(len(bad))] ^= dice.randrange(1, 256)
            self.path.write_bytes(bad)
            self.time += 1
            database, issues = self.open()
            self.use_everything(database)
            database.connection.close()
            for issue in issues:
                assert issue.kept is not None
                self.assertEqual(issue.kept.read_bytes(), bad)
                issue.kept.unlink()
            for name in self.path.parent.iterdir():
                name.unlink()

    def use_everything(self, database: Database) -> None:
        """Every read, and a write of each kind: each may fail as a database does, none with a bug of ours."""
        database.run([
            lambda db: db.shelf.servers(), lambda db: db.shelf.denied(), lambda db: db.shelf.get_value("drain"),
            lambda db: db.journal.unfinished(), lambda db: db.outbox.after(0, 1000),
        ])  # fmt: skip
        if database.damaged:
            database.abandon()
            database, _ = self.open(suspect=True)
        self.assert_usable(database)
        wanted: Command = command("fresh")
        self.assertIs(
            run(database, lambda db: db.journal.accept(wanted, ack("fresh"))).status, AcceptStatus.NEW
        )  # fmt: skip
        database.connection.close()

    def test_k16_second_file_of_the_same_second(self) -> None:
        """K16: a file set aside never takes the place of an earlier one."""
        for _ in range(3):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(b"rubbish" * 1000)
            self.reopen("database_corrupt").close()
        kept = sorted(path.name for path in self.path.parent.glob("*.corrupt-*"))
        self.assertEqual(kept, [self.kept().name, self.kept().name + "-2", self.kept().name + "-3"])

    def test_k16_kept_with_its_companions(self) -> None:
        """K16: the -wal goes with the file, both byte for byte, and what it holds comes over too."""
        database = self.filled()
        database.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        self.crash(database)
        content, log = self.path.read_bytes(), self.wal().read_bytes()
        self.assert_all_there(self.reopen("database_corrupt"))
        self.assertEqual(self.kept().read_bytes(), content)
        self.assertEqual(self.path.with_name(self.kept().name + "-wal").read_bytes(), log)

    def test_suspect_looks_at_every_index(self) -> None:
        """K16: an index that lost an entry is found where damage was met; all rows come over."""
        database = self.filled()
        connection = database.connection
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = sql || ' AND arrival > 30' WHERE name = 'journal_unfinished'"
        )
        connection.execute("PRAGMA writable_schema = OFF")
        database.close()
        self.reopen().close()
        self.assert_all_there(self.reopen("database_corrupt", suspect=True))

    def test_rows_without_meaning_stay_behind(self) -> None:
        """K16: a row whose content is no JSON any more is not carried over."""
        database = self.filled()
        execute = database.connection.execute
        execute("UPDATE servers SET document = '{\"na' WHERE id = 's7'")
        execute("UPDATE journal SET command = 'x' WHERE arrival = 2")
        execute("UPDATE outbox SET body = X'7B7D' WHERE seq = 100")
        execute("UPDATE meta SET value = '{}' WHERE key = 'outbox'")
        execute(f"PRAGMA user_version = {VERSION + 1}")
        database.close()
        found = self.reopen("database_corrupt")
        self.assertEqual(len(run(found, lambda db: db.shelf.servers())), 49)
        self.assertEqual(len(run(found, lambda db: db.journal.unfinished())), 24)
        state = run(found, lambda db: db.outbox.state())
        # Without counters nobody knows what was delivered: all is sent again, Redis refuses what it has. An alert
        # stands for the bad one.
        self.assertEqual((state.last_seq, state.delivered_seq, state.pending_rows), (125, 0, 125))

    def test_counters_that_cannot_be_right(self) -> None:
        """K16: counters that are unreadable or behind the rows are not believed; the rows come over."""
        for value in ('{"last', '{"last_seq": "x"}', Counters(last_seq=3).encode()):
            self.time += 1
            database = self.filled()
            database.connection.execute("UPDATE meta SET value = ? WHERE key = 'outbox'", (value,))
            database.close()
            found = self.reopen("database_corrupt")
            self.assertEqual(run(found, lambda db: db.outbox.state()).last_seq, 125)
            self.assert_usable(found)
            found.close()
            self.path.unlink()

    def test_missing_table(self) -> None:
        """K16: a file that lacks a table is set aside, the other tables come over."""
        database = self.filled()
        database.connection.execute("DROP TABLE servers")
        database.close()
        found = self.reopen("database_corrupt")
        self.assertEqual(run(found, lambda db: db.shelf.get_value("drain")), {"on": True})
        self.assert_usable(found)

    def test_crash_in_a_replacement(self) -> None:
        """K15, K16: a daemon that dies while it replaces a file goes on with that at its next start."""
        self.filled().close()
        good = self.path.read_bytes()
        folder = self.path.parent
        (folder / "daemon.sqlite").write_bytes(b"rubbish" * 1000)
        (folder / "daemon.sqlite-wal").write_bytes(b"old log")
        (folder / "daemon.sqlite.replacement").write_bytes(good)
        self.assert_all_there(self.reopen("database_corrupt"))
        self.assertEqual(self.kept().read_bytes(), b"rubbish" * 1000)
        self.assertEqual((folder / (self.kept().name + "-wal")).read_bytes(), b"old log")

    def test_crash_before_a_replacement(self) -> None:
        """K15, K16: what a dead daemon left of a half-built file is thrown away, the old one is still there."""
        self.filled().close()
        building = self.path.with_name("daemon.sqlite.building")
        shutil.copy(self.path, building)
        content = bytearray(self.path.read_bytes())
        content[16:18] = b"\x00\x01"
        self.path.write_bytes(content)
        self.assert_usable(self.reopen("database_corrupt"))
        self.assertFalse(building.exists())


class NotNowTests(OpeningCase):
    def test_k16_locked(self) -> None:
        """K16: a file that another process has locked is not damaged: an error, nothing set aside, later it opens."""
        self.filled().close()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        error = self.assertRaises(sqlite3.OperationalError, self.open)
        self.assertEqual(error.sqlite_errorname, "SQLITE_BUSY")
        other.execute("COMMIT")
        other.close()
        self.assertEqual(list(self.path.parent.glob("*.corrupt-*")), [])
        self.assert_all_there(self.reopen())

    def test_locked_after_a_crash(self) -> None:
        """K16: an attempt that fails while the -wal is there does not make the next one miss it."""
        self.crash(self.filled())
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.assertRaises(sqlite3.OperationalError, self.open)
        other.execute("ROLLBACK")
        self.crash_of_another(other)
        self.assert_all_there(self.reopen())

    def crash_of_another(self, other: sqlite3.Connection) -> None:
        log = self.wal().read_bytes()
        other.close()
        self.wal().write_bytes(log)

    def test_failing_migration_keeps_the_sign_of_a_log(self) -> None:
        """K14: a full disk at the opening does not look like a deleted -wal afterwards."""
        self.crash(self.filled())

        def full(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA max_page_count = 1")
            connection.execute("CREATE TABLE too_much AS SELECT zeroblob(1000000)")

        self.patch(opening, "migrate", full)
        self.assertRaises(sqlite3.OperationalError, self.open)
        self.patch(opening, "migrate", migrate)
        self.assert_all_there(self.reopen())

    def test_k16_folder_in_the_way(self) -> None:
        """K16: what cannot be opened at all is an error, and it is left alone."""
        self.path.mkdir(parents=True)
        self.assertRaises(sqlite3.OperationalError, self.open)
        self.assertTrue(self.path.is_dir())

    def test_audit_rank_survives(self) -> None:
        """K16: what may give way still may after a salvage."""
        database = self.filled()
        run(database, lambda db: db.outbox.append([audit()]))
        database.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        database.close()
        found = self.reopen("database_corrupt")
        ranks = found.connection.execute("SELECT rank, COUNT(*) FROM outbox GROUP BY rank ORDER BY rank").fetchall()
        self.assertEqual(ranks, [(None, 75), (1, 1), (2, 50)])
