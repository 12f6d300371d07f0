"""The bus file: its tables, their version, and connections to it.

A record's row id packs its partition and its offset, so one b-tree holds all partitions, each of them in one run.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.filelock import waiting_lock
from schemas.errors import BusDamaged, BusUnavailable

APPLICATION_ID = 0x48454C49
"""`HELI`, in the file's header: tells a bus file from any other SQLite file."""

OFFSET_BITS = 42
"""Bits of an offset in a row id; the other 21 bits hold the partition's id."""
OFFSET_MASK = (1 << OFFSET_BITS) - 1

_PAGE_BYTES = 16 * 1024
_CHECKPOINT_BYTES = 16 * 1024 * 1024
_CACHE_KIB = 16 * 1024
_WAIT = 10.0
"""Time limit in seconds of opening and reading a file while another process opens, recovers or closes it."""

STEPS: Sequence[Sequence[str]] = (
    (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE partitions (
            id INTEGER PRIMARY KEY,
            topic TEXT NOT NULL,
            partition INTEGER NOT NULL,
            start INTEGER NOT NULL DEFAULT 0,
            next INTEGER NOT NULL DEFAULT 0,
            newest INTEGER NOT NULL DEFAULT 0,
            UNIQUE (topic, partition))""",
        """CREATE TABLE records (
            id INTEGER PRIMARY KEY,
            timestamp INTEGER NOT NULL,
            key BLOB,
            headers BLOB,
            value BLOB NOT NULL)""",
        """CREATE TABLE cursors (
            consumers TEXT NOT NULL,
            partition INTEGER NOT NULL REFERENCES partitions,
            cursor INTEGER NOT NULL,
            note TEXT NOT NULL DEFAULT '',
            epoch INTEGER NOT NULL,
            PRIMARY KEY (consumers, partition)) WITHOUT ROWID""",
    ),
)
"""Statements that turn version n of the file into version n+1; `PRAGMA user_version` counts the steps a file has had."""


def pack(partition: int, offset: int) -> int:
    """Computes the row id of a record. `partition`: the id of its row in `partitions`."""
    return partition << OFFSET_BITS | offset


def connect(path: Path, *, reader: bool) -> sqlite3.Connection:
    """Opens a connection in autocommit, for one thread at a time. A reader cannot write, and waits while the file is being
    recovered; a writer, once it is open, never waits inside SQLite. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // _PAGE_BYTES}")
    connection.execute("PRAGMA query_only = ON" if reader else "PRAGMA busy_timeout = 0")
    return connection


def prepare_file(path: Path, locks: Path) -> str:
    """Creates the file if it is missing, readable by its owner alone, or upgrades an older one. Returns its log id.

    Raises BusDamaged if the file is not a bus file, BusUnavailable if a newer version wrote it or it cannot be opened.
    """
    with translated(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        locks.mkdir(mode=0o700, exist_ok=True)
        with waiting_lock(locks / "open", _WAIT):
            with suppress(FileExistsError):
                path.touch(mode=0o600, exist_ok=False)  # SQLite gives the files beside it the same mode
            connection = connect(path, reader=False)
            try:
                connection.execute(f"PRAGMA busy_timeout = {round(_WAIT * 1000)}")
                _upgrade(connection, path)
                (log_id,) = connection.execute("SELECT value FROM meta WHERE name = 'log id'").fetchone()
            finally:
                connection.close()
    return str(log_id)


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection, path)
    if version == len(STEPS):
        return
    if version == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN EXCLUSIVE")
    for step in STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('log id', ?)", (uuid.uuid4().hex,))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(STEPS)}")
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise BusDamaged(
            f"{path}: an SQLite file, but not a bus of Heliograph; name another file in [bus] url"
        )
    if version > len(STEPS):
        raise BusUnavailable(
            f"{path}: written by a newer Heliograph (version {version} of the file, this one knows {len(STEPS)}); "
            "install the newer one"
        )
    return int(version)
