"""What SQLite's errors mean for the store: wait, try again later, or set the file aside. Performs no I/O."""

from __future__ import annotations

import sqlite3

from stellarstack.errors import StoreFailed

# Python cannot always decode what SQLite says about a damaged file.
DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)


class Unusable(Exception):
    """The file cannot serve as our database; `str()` says why in a few words. It is to be set aside."""


def is_locked(error: BaseException) -> bool:
    """Another process holds the lock; the busy timeout has passed."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: BaseException) -> bool:
    """The file's content is not what SQLite wrote."""
    return isinstance(error, UnicodeDecodeError) or _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_unusable(error: BaseException) -> bool:
    """Like `is_damage`, while a file is opened: there SQLite also says a mere "error" of what it cannot read."""
    return is_damage(error) or _code(error) in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_FORMAT)


def translated(error: Exception) -> Exception:
    """A new StoreFailed for what SQLite or the file system said; a bug of ours stays what it is."""
    if isinstance(error, StoreFailed):
        return StoreFailed(str(error))
    if isinstance(error, DATABASE_ERRORS):
        return StoreFailed(f"the database does not take this: {reason(error)}")
    if isinstance(error, OSError):
        return StoreFailed(f"the database file cannot be used: {error.strerror or error}")
    return error


def reason(error: Exception) -> str:
    """SQLite's own words with the name of the code: `database or disk is full (SQLITE_FULL)`."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error)


def _code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
