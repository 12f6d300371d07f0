"""What one agent has promised, done and told: a file of SQLite that survives it.

A run goes through these states. `due`: it will be started; `started`: it may have begun, so it is never started again;
`ended`: its records are here, and may not be in the log yet; told: they are in the log, and it is forgotten, but for the
count. Of an execution that is over only the id is left, and that goes after `KEPT`. Each change is one transaction,
durable when the call returns. Every call raises JournalUnusable when the file cannot be used.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from producers.assistant.requests import Invocation
from schemas.errors import InputError, JournalUnusable
from schemas.record import NewRecord

FORMAT = 1
KEPT = 30 * 86_400_000
"""Milliseconds for which an execution that is over is remembered: far longer than a request may be repeated."""

_SCHEMA = (
    "CREATE TABLE agent (journal TEXT, instance TEXT, log_id TEXT, cursor INTEGER)",
    "CREATE TABLE executions (invoke_id TEXT PRIMARY KEY, request BLOB, repeats INTEGER DEFAULT 0, due INTEGER,"
    " missed INTEGER DEFAULT 0, stopped INTEGER, over INTEGER)",
    "CREATE INDEX due ON executions (due) WHERE due IS NOT NULL",
    "CREATE INDEX over ON executions (over) WHERE over IS NOT NULL",
    "CREATE TABLE runs (invoke_id TEXT, repeats INTEGER, started INTEGER, records BLOB,"
    " PRIMARY KEY (invoke_id, repeats))",
    f"PRAGMA user_version = {FORMAT}",
)


class Execution(NamedTuple):
    """One request that is not over here. `repeats`: how many runs were started; `due`: when the next one is, None
    while that is not known; `missed`: how many times were let pass; `stopped`: when somebody asked to stop it. Times
    are milliseconds since the epoch."""

    request: Invocation
    repeats: int
    due: int | None
    missed: int
    stopped: int | None


class Started(NamedTuple):
    """A run that was started, without an end. `started`: milliseconds since the epoch."""

    execution: Execution
    repeats: int
    started: int


class Ended(NamedTuple):
    """A run that ended, and the records that tell it."""

    invoke_id: str
    repeats: int
    records: tuple[NewRecord, ...]


_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(Invocation).decode
_encode_records = msgspec.msgpack.Encoder().encode
_decode_records = msgspec.msgpack.Decoder(tuple[NewRecord, ...]).decode


class Journal:
    """The journal of the agent of one instance. One process at a time; one thread."""

    def __init__(self, path: Path, instance: str, log_id: str, end: int) -> None:
        """Open it, or make it for an agent that reads requests from offset `end` on. Raises InputError if another
        agent has it, or if it is of another instance or log."""
        self._path = path
        with self._translated():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(path)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = FULL")
            self._make(instance, log_id, end)
            self._check(instance, log_id, end)
        except BaseException:
            self.close()
            raise

    @property
    def id(self) -> str:
        """Made with the journal; no other has it."""
        return str(self._one("SELECT journal FROM agent"))

    @property
    def cursor(self) -> int:
        """Offset of the next request to read."""
        return int(self._one("SELECT cursor FROM agent"))

    def move_cursor(self, cursor: int) -> None:
        """Everything before `cursor` has been read."""
        self._execute("UPDATE agent SET cursor = ?", cursor)

    def accept(self, request: Invocation, due: int | None, now: int) -> bool:
        """Promise what was asked for, first at `due`; False if it is known already. What was over long ago goes."""
        statement = "INSERT OR IGNORE INTO executions (invoke_id, request, due) VALUES (?, ?, ?)"
        with self._transaction():
            self._execute("DELETE FROM executions WHERE over < ?", now - KEPT)
            return self._execute(statement, request.invoke_id, _encode(request), due).rowcount == 1

    def execution(self, invoke_id: str) -> Execution | None:
        """What was promised, unless it is over or was never known."""
        return next(iter(self._executions("invoke_id = ?", invoke_id)), None)

    def executions(self) -> Sequence[Execution]:
        """Everything that is not over."""
        return self._executions("TRUE")

    def due(self, now: int) -> Sequence[Execution]:
        """What is to be started by now, the longest due first, some at a time."""
        return self._executions("stopped IS NULL AND due <= ? ORDER BY due LIMIT 100", now)

    def stop(self, invoke_id: str, at: int) -> None:
        """Nothing more of it is to be started."""
        self._execute("UPDATE executions SET due = NULL, stopped = ? WHERE invoke_id = ?", at, invoke_id)

    def postpone(self, invoke_id: str, due: int | None, missed: int = 0) -> None:
        """The next time is another, or not known, and so many were missed."""
        statement = "UPDATE executions SET due = ?, missed = missed + ? WHERE invoke_id = ?"
        self._execute(statement, due, missed, invoke_id)

    def start(self, invoke_id: str, due: int | None, now: int, missed: int = 0) -> int:
        """The intent to start a run; returns its number. `due`: when the one after it is; so many were missed."""
        with self._transaction():
            self.postpone(invoke_id, due, missed)
            self._execute("UPDATE executions SET repeats = repeats + 1 WHERE invoke_id = ?", invoke_id)
            repeats = int(self._one("SELECT repeats FROM executions WHERE invoke_id = ?", invoke_id))
            statement = "INSERT INTO runs (invoke_id, repeats, started) VALUES (?, ?, ?)"
            self._execute(statement, invoke_id, repeats, now)
        return repeats

    def end(self, invoke_id: str, repeats: int, records: Sequence[NewRecord], over: int | None) -> None:
        """A run has ended, or will never begin, and these records tell it. `over`: when, if no further run follows."""
        with self._transaction():
            statement = "INSERT OR REPLACE INTO runs (invoke_id, repeats, records) VALUES (?, ?, ?)"
            self._execute(statement, invoke_id, repeats, _encode_records(records))
            self._execute("UPDATE executions SET repeats = ? WHERE invoke_id = ?", repeats, invoke_id)
            if over is not None:
                statement = "UPDATE executions SET over = ?, due = NULL, request = NULL WHERE invoke_id = ?"
                self._execute(statement, over, invoke_id)

    def unreported(self) -> Sequence[Ended]:
        """Runs that ended and whose records may not be in the log, the oldest first, some at a time."""
        found = self._execute(
            "SELECT invoke_id, repeats, records FROM runs WHERE records IS NOT NULL ORDER BY rowid LIMIT 100"
        )
        return [Ended(invoke_id, repeats, _decode_records(records)) for invoke_id, repeats, records in found]

    def mark_reported(self, invoke_id: str, repeats: int) -> None:
        """The records of a run are in the log."""
        self._execute("DELETE FROM runs WHERE invoke_id = ? AND repeats = ?", invoke_id, repeats)

    def unfinished(self) -> Sequence[Started]:
        """Runs that were started and have no end: when an agent starts, those that were interrupted."""
        found = self._execute("SELECT invoke_id, repeats, started FROM runs WHERE records IS NULL")
        runs = [
            (self.execution(invoke_id), repeats, started) for invoke_id, repeats, started in found.fetchall()
        ]
        return [Started(execution, repeats, started) for execution, repeats, started in runs if execution]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        os.close(self._lock)

    def _make(self, instance: str, log_id: str, end: int) -> None:
        with self._transaction():
            version = int(self._one("PRAGMA user_version"))
            if version > FORMAT:
                raise InputError(f"{self._path}: of format {version}; this version reads up to {FORMAT}")
            if version == 0:
                for statement in _SCHEMA:
                    self._execute(statement)
                self._execute("INSERT INTO agent VALUES (?, ?, ?, ?)", uuid4().hex, instance, log_id, end)

    def _check(self, instance: str, log_id: str, end: int) -> None:
        of_instance, of_log, cursor = self._execute("SELECT instance, log_id, cursor FROM agent").fetchone()
        if (of_instance, of_log) != (instance, log_id):
            raise InputError(
                f"{self._path}: is of instance {of_instance} on log {of_log}, not of {instance} on {log_id}; "
                "give the agent another --home"
            )
        if cursor > end:
            raise InputError(
                f"{self._path}: requests were read up to {cursor}, and the log ends at {end}: it is not the log "
                "that it was; give the agent another --home"
            )

    def _executions(self, where: str, *values: object) -> Sequence[Execution]:
        found = self._execute(
            f"SELECT request, repeats, due, missed, stopped FROM executions WHERE over IS NULL AND {where}",  # noqa: S608
            *values,
        )
        return [Execution(_decode_request(request), *rest) for request, *rest in found.fetchall()]

    def _one(self, statement: str, *values: object) -> Any:  # noqa: ANN401 - what a column holds
        return self._execute(statement, *values).fetchone()[0]

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        with self._translated():
            return self._connection.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with suppress(JournalUnusable):
                self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalUnusable(
                f"{self._path}: {error}; nothing is started without a journal: look at the disk"
            ) from error


def _locked(path: Path) -> int:
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"{path}: another agent uses this journal; end it, or give this one another --home"
        ) from None
    return descriptor
