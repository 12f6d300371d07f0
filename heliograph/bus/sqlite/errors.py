"""What SQLite says, in our words: one table, used at the edge of every call."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from schemas.errors import BusDamaged, BusError, BusFull, BusUnavailable

_RESTORE = "stop what uses it and bring back a backup with `heliograph restore`"
_SPACE = "free some space on its file system"
_RIGHTS = "check that this user may write the file and its folder"
_BUSY = "another process keeps it; try again, or end what holds it"
_BUG = "this is a mistake of ours: please report it"

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
"""What each primary result code of SQLite means for a log, and the remedy."""

_UNREADABLE = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)
"""Input and output errors that no free space mends."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def translate(error: sqlite3.Error, path: Path) -> BusError:
    """The error of ours that `error` on the log `path` is."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        if isinstance(error, sqlite3.ProgrammingError):
            return BusUnavailable(f"{path}: {error}; open the log again")
        return BusDamaged(f"{path}: {error}; {_RESTORE}")
    kind, remedy = (BusDamaged, _RESTORE) if code in _UNREADABLE else TABLE.get(code & 0xFF, (BusError, _BUG))
    return kind(f"{path}: {error}; {remedy}")


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Raise ours in place of what SQLite, the file system or a broken header raise about the log `path`."""
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
