"""Translates errors of SQLite and of the file system into ours, by one table."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from schemas.errors import BusDamaged, BusError, BusFull, BusUnavailable

_RESTORE = "stop all processes that use it and restore a backup with `heliograph restore`"
_SPACE = "free some space on its file system"
_RIGHTS = "check that this user may write the file and its folder"
_BUSY = "another process keeps it locked; try again, or end that process"
_BUG = "this is a bug in Heliograph; please report it"

TABLE: Mapping[int, tuple[type[BusError], str]] = {
    sqlite3.SQLITE_ABORT: (BusUnavailable, _BUSY),
    sqlite3.SQLITE_AUTH: (BusUnavailable, _RIGHTS),
    sqlite3.SQLITE_BUSY: (BusUnavailable, _BUSY),
    sqlite3.SQLITE_CANTOPEN: (BusUnavailable, _RIGHTS),
    sqlite3.SQLITE_CONSTRAINT: (BusDamaged, _RESTORE),
    sqlite3.SQLITE_CORRUPT: (BusDamaged, _RESTORE),
    sqlite3.SQLITE_EMPTY: (BusError, _BUG),
    sqlite3.SQLITE_ERROR: (BusDamaged, _RESTORE),
    sqlite3.SQLITE_FORMAT: (BusDamaged, _RESTORE),
    sqlite3.SQLITE_FULL: (BusFull, _SPACE),
    sqlite3.SQLITE_INTERNAL: (BusError, _BUG),
    sqlite3.SQLITE_INTERRUPT: (BusUnavailable, _BUSY),
    sqlite3.SQLITE_IOERR: (BusFull, _SPACE + ", and look for disk errors in the system's log"),
    sqlite3.SQLITE_LOCKED: (BusUnavailable, _BUSY),
    sqlite3.SQLITE_MISMATCH: (BusDamaged, _RESTORE),
    sqlite3.SQLITE_MISUSE: (BusError, _BUG),
    sqlite3.SQLITE_NOLFS: (BusFull, "its file system does not take files as large as this"),
    sqlite3.SQLITE_NOMEM: (BusUnavailable, "free some memory"),
    sqlite3.SQLITE_NOTADB: (BusDamaged, _RESTORE),
    sqlite3.SQLITE_NOTFOUND: (BusError, _BUG),
    sqlite3.SQLITE_NOTICE: (BusError, _BUG),
    sqlite3.SQLITE_PERM: (BusUnavailable, _RIGHTS),
    sqlite3.SQLITE_PROTOCOL: (BusUnavailable, _BUSY),
    sqlite3.SQLITE_RANGE: (BusError, _BUG),
    sqlite3.SQLITE_READONLY: (BusUnavailable, _RIGHTS),
    sqlite3.SQLITE_SCHEMA: (BusDamaged, _RESTORE),
    sqlite3.SQLITE_TOOBIG: (BusError, _BUG),
    sqlite3.SQLITE_WARNING: (BusError, _BUG),
}
"""Our exception and the remedy for each primary result code of SQLite."""

_UNREADABLE = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)
"""Input and output errors that free space does not repair."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def translate(error: sqlite3.Error, path: Path) -> BusError:
    """Builds our exception for an error of SQLite on the file `path`."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        if isinstance(error, sqlite3.ProgrammingError):
            return BusUnavailable(f"{path}: {error}; open the bus again")
        return BusDamaged(f"{path}: {error}; {_RESTORE}")
    kind, remedy = (BusDamaged, _RESTORE) if code in _UNREADABLE else TABLE.get(code & 0xFF, (BusError, _BUG))
    return kind(f"{path}: {error}; {remedy}")


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Raises our exceptions in place of those of SQLite, the file system and the decoder of headers, for the file `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except msgspec.MsgspecError as error:
        raise BusDamaged(f"{path}: headers that cannot be read ({error}); {_RESTORE}") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise BusFull(f"{error.filename or path}: {error.strerror}; {_SPACE}") from error
        raise BusUnavailable(f"{error.filename or path}: {error.strerror}; {_RIGHTS}") from error
