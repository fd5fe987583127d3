"""Opens the database file, whatever state it is in: a damaged one is set aside, never thrown away (SECURITY K16)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stellarstack.atomic import sync_folder
from stellarstack.store.counters import Counters
from stellarstack.store.faults import DATABASE_ERRORS, Unusable, is_unusable, reason
from stellarstack.store.salvage import Salvaged, connect_reader, lenient_text, salvage
from stellarstack.store.schema import APPLICATION_ID, COLUMNS, VERSION, migrate, version_of

BUSY_SECONDS = 5.0
_COMPANIONS = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class StoreIssue:
    """What people should know about the database. `code` and `severity` as in node.alert, `message` one line; `kept`:
    where the old file is now.
    """

    code: str
    severity: str
    message: str
    kept: Path | None = None


def open_connection(
    path: Path, *, node_id: str, now: Callable[[], float], busy_seconds: float = BUSY_SECONDS, suspect: bool = False
) -> tuple[sqlite3.Connection, list[StoreIssue]]:
    """Opens the file, or a new one with what could be read of the old. `suspect`: look at every index too.

    sqlite3.Error or OSError: not now (locked, read-only, disk full). Nothing was changed; try again later.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    issues = _finish_replacement(path, now)
    try:
        return _checked(path, busy_seconds, suspect), issues
    except Unusable as fault:
        found = _replace(path, str(fault), node_id=node_id, now=now)
    return _checked(path, busy_seconds, False), [*issues, found]


def _checked(path: Path, busy_seconds: float, suspect: bool) -> sqlite3.Connection:
    """Unusable: set this file aside. sqlite3.Error: it cannot be opened now."""
    had_log = _refuse_remains(path)
    with _faults_told():
        if path.exists():
            # Looks without writing: closing this one leaves the -wal as it is.
            with closing(connect_reader(path, busy_seconds)) as reader:
                _examine(reader, had_log, suspect)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = _connect(path, busy_seconds)
        try:
            migrate(connection)
            _mark_open(connection)
        except BaseException:
            connection.close()
            if had_log:
                # Closing took the -wal away, which the next attempt would miss.
                _companion(path, "-wal").touch(0o600)
            raise
    return connection


@contextmanager
def _faults_told() -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        if is_unusable(error):
            raise Unusable(reason(error)) from error
        raise


def _refuse_remains(path: Path) -> bool:
    """Whether there is a -wal. Unusable: what SQLite would take for a new file is all that is left of an old one."""
    log = _companion(path, "-wal")
    had_log = log.exists()
    if path.exists() and not path.stat().st_size:
        raise Unusable("it is empty")
    if not path.exists() and had_log and log.stat().st_size:
        raise Unusable("it is gone, only its -wal file is left")
    return had_log


def _connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, cached_statements=256)
    connection.text_factory = lenient_text
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def _examine(reader: sqlite3.Connection, had_log: bool, suspect: bool) -> None:
    tables = reader.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    if tables and reader.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise Unusable("it belongs to another program")
    if version_of(reader) > VERSION:
        raise Unusable(f"it was written by a newer daemon (version {version_of(reader)}, ours is {VERSION})")
    check = "PRAGMA integrity_check(1)" if suspect else "PRAGMA quick_check(1)"
    verdict = reader.execute(check).fetchone()[0]
    if verdict != "ok":
        raise Unusable(f"its check says: {' '.join(str(verdict).split())[:200]}")
    if version_of(reader) == VERSION:
        for table, columns in COLUMNS.items():
            reader.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 0")  # noqa: S608  our own names
        _examine_counters(reader)
    if not had_log and not suspect and _was_open(reader):
        raise Unusable("its -wal file is missing, and with it perhaps the last commits")


def _examine_counters(reader: sqlite3.Connection) -> None:
    found = reader.execute("SELECT value FROM meta WHERE key = 'outbox'").fetchone()
    top = reader.execute("SELECT MAX(seq) FROM outbox").fetchone()[0] or 0
    try:
        counters = Counters.decode(found[0]) if found else Counters()
        sane = top <= counters.last_seq and counters.delivered_seq <= counters.last_seq
    except (ValueError, KeyError, TypeError):
        sane = False
    if not sane:
        raise Unusable("its counters cannot be right")


def _was_open(connection: sqlite3.Connection) -> bool:
    """Whether the last one to use it did not close it in order: then there must be a -wal."""
    if not version_of(connection):
        return False
    return connection.execute("SELECT 1 FROM meta WHERE key = 'open'").fetchone() is not None


def _mark_open(connection: sqlite3.Connection) -> None:
    """Writes into the file itself, not only into the -wal, that there is a -wal to look for."""
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('open', '1')")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


# ------------------------------------------------------------------ a new file for a bad one


def _replace(path: Path, fault: str, *, node_id: str, now: Callable[[], float]) -> StoreIssue:
    """Makes the new file under another name first: at a crash the next start goes on where this one was."""
    building = path.with_name(path.name + ".building")
    _remove(building)
    os.close(os.open(building, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with closing(_connect(building, BUSY_SECONDS)) as connection:
        migrate(connection)
        saved = salvage(path, connection, node_id=node_id, now=now)
    os.replace(building, _replacement(path))
    kept = _swap(path, now)
    return _set_aside(path, kept, fault, saved)


def _finish_replacement(path: Path, now: Callable[[], float]) -> list[StoreIssue]:
    if not _replacement(path).exists():
        return []
    kept = _swap(path, now)
    return [_set_aside(path, kept, "a replacement was under way when the daemon died", None)]


def _swap(path: Path, now: Callable[[], float]) -> Path:
    """The -wal goes first: the new file must never meet the old one's."""
    kept = _free_name(path, now())
    for suffix in (*_COMPANIONS, ""):
        old = _companion(path, suffix)
        if old.exists():
            os.replace(old, _companion(kept, suffix))
    os.replace(_replacement(path), path)
    sync_folder(path.parent)
    return kept


def _set_aside(path: Path, kept: Path, fault: str, saved: Salvaged | None) -> StoreIssue:
    rows = f"; {saved.told()}" if saved else ""
    message = f"{path.name} was set aside as {kept.name}: {fault}{rows}"
    return StoreIssue("database_corrupt", "critical", message, kept)


def _free_name(path: Path, now: float) -> Path:
    first = path.with_name(f"{path.name}.corrupt-{int(now)}")
    number, name = 1, first
    while any(_companion(name, suffix).exists() for suffix in ("", *_COMPANIONS)):
        number += 1
        name = first.with_name(f"{first.name}-{number}")
    return name


def _replacement(path: Path) -> Path:
    return path.with_name(path.name + ".replacement")


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _remove(path: Path) -> None:
    for suffix in ("", *_COMPANIONS, "-journal"):
        _companion(path, suffix).unlink(missing_ok=True)
