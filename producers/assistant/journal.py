"""The journal of one agent: an SQLite file with its accepted requests, its runs, and the records not yet appended.

A run has these states. Due: it will be started. Started: it may have begun, so it is never started again. Ended: its
records are in the journal, and may not be on the bus yet. Reported: its records are on the bus, and the journal keeps
only the number of runs. After the last run, the journal keeps only the id of the execution, for `KEPT` milliseconds.
Each change is one transaction, durable on return. Every call raises JournalUnusable if the file cannot be used.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from producers.assistant.requests import Invocation
from schemas.errors import InputError, JournalUnusable
from schemas.record import NewRecord

FORMAT = 1
KEPT = 30 * 86_400_000
"""Milliseconds for which the id of an ended execution is kept: much longer than a copied request is valid."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """An accepted request that is not over. `repeats`: number of started runs; `due`: time of the next run, None if it
    is not known; `missed`: number of missed times; `stopped`: time of the request to stop it. Times are milliseconds
    since the epoch."""

    request: Invocation
    repeats: int
    due: int | None
    missed: int
    stopped: int | None


class Started(NamedTuple):
    """A run that was started and has not ended. `started`: milliseconds since the epoch."""

    execution: Execution
    repeats: int
    started: int


class Ended(NamedTuple):
    """A run that ended, with the records that report it."""

    invoke_id: str
    repeats: int
    records: tuple[NewRecord, ...]


_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(Invocation).decode
_encode_records = msgspec.msgpack.Encoder().encode
_decode_records = msgspec.msgpack.Decoder(tuple[NewRecord, ...]).decode


class Journal:
    """The journal of one instance's agent. One process at a time may open it, and one thread use it."""

    def __init__(self, path: Path, instance: str, log_id: str, end: int) -> None:
        """Opens the journal, or creates one for an agent that reads requests from offset `end` on. Raises InputError if
        another agent uses the journal, or if it belongs to another instance or bus."""
        self._path = path
        with self._translated():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(path)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = FULL")
            self._create(instance, log_id, end)
            self._check(instance, log_id, end)
            self.id = str(self._one("SELECT journal FROM agent"))
        except BaseException:
            self.close()
            raise

    def read_cursor(self) -> int:
        """Returns the offset of the next request to read."""
        return int(self._one("SELECT cursor FROM agent"))

    def move_cursor(self, cursor: int) -> None:
        """Sets the offset of the next request to read."""
        self._execute("UPDATE agent SET cursor = ?", cursor)

    def accept(self, request: Invocation, due: int | None, now: int) -> bool:
        """Stores a request whose first run is at `due`; returns False if the journal has the request already.
        Removes the ids of executions that ended more than `KEPT` ago."""
        statement = "INSERT OR IGNORE INTO executions (invoke_id, request, due) VALUES (?, ?, ?)"
        with self._transaction():
            self._execute("DELETE FROM executions WHERE over < ?", now - KEPT)
            return self._execute(statement, request.invoke_id, _encode(request), due).rowcount == 1

    def execution(self, invoke_id: str) -> Execution | None:
        """Returns an execution; None if it is over or unknown."""
        return next(iter(self._executions("invoke_id = ?", invoke_id)), None)

    def executions(self) -> Sequence[Execution]:
        """Returns all executions that are not over."""
        return self._executions("TRUE")

    def due(self, now: int) -> Sequence[Execution]:
        """Returns at most 100 executions with a run due by `now`, the earliest first."""
        return self._executions("stopped IS NULL AND due <= ? ORDER BY due LIMIT 100", now)

    def stop(self, invoke_id: str, at: int) -> None:
        """Marks an execution as stopped: no further run of it starts."""
        self._execute("UPDATE executions SET due = NULL, stopped = ? WHERE invoke_id = ?", at, invoke_id)

    def reschedule(self, invoke_id: str, due: int | None, missed: int = 0) -> None:
        """Sets the time of the next run, None if it is not known, and adds to the number of missed times."""
        statement = "UPDATE executions SET due = ?, missed = missed + ? WHERE invoke_id = ?"
        self._execute(statement, due, missed, invoke_id)

    def start(self, invoke_id: str, due: int | None, now: int, missed: int = 0) -> int:
        """Records that a run is about to start; returns its number. `due`: time of the run after it; `missed`: adds to
        the number of missed times."""
        with self._transaction():
            self.reschedule(invoke_id, due, missed)
            self._execute("UPDATE executions SET repeats = repeats + 1 WHERE invoke_id = ?", invoke_id)
            repeats = int(self._one("SELECT repeats FROM executions WHERE invoke_id = ?", invoke_id))
            statement = "INSERT INTO runs (invoke_id, repeats, started) VALUES (?, ?, ?)"
            self._execute(statement, invoke_id, repeats, now)
        return repeats

    def end(self, invoke_id: str, repeats: int, records: Sequence[NewRecord], over: int | None) -> None:
        """Records that a run ended, or will never start, with the records that report it. `over`: the time of the end
        if no further run follows, else None."""
        with self._transaction():
            statement = "INSERT OR REPLACE INTO runs (invoke_id, repeats, records) VALUES (?, ?, ?)"
            self._execute(statement, invoke_id, repeats, _encode_records(records))
            self._execute("UPDATE executions SET repeats = ? WHERE invoke_id = ?", repeats, invoke_id)
            if over is not None:
                statement = "UPDATE executions SET over = ?, due = NULL, request = NULL WHERE invoke_id = ?"
                self._execute(statement, over, invoke_id)

    def unreported(self) -> Sequence[Ended]:
        """Returns at most 100 ended runs whose records may not be on the bus, the oldest first."""
        found = self._execute(
            "SELECT invoke_id, repeats, records FROM runs WHERE records IS NOT NULL ORDER BY rowid LIMIT 100"
        )
        return [Ended(invoke_id, repeats, _decode_records(records)) for invoke_id, repeats, records in found]

    def mark_reported(self, invoke_id: str, repeats: int) -> None:
        """Removes a run whose records are on the bus."""
        self._execute("DELETE FROM runs WHERE invoke_id = ? AND repeats = ?", invoke_id, repeats)

    def unfinished(self) -> Sequence[Started]:
        """Returns the runs that were started and have not ended; when an agent starts, they were interrupted."""
        found = self._execute("SELECT invoke_id, repeats, started FROM runs WHERE records IS NULL")
        runs = [
            (self.execution(invoke_id), repeats, started) for invoke_id, repeats, started in found.fetchall()
        ]
        return [Started(execution, repeats, started) for execution, repeats, started in runs if execution]

    def close(self) -> None:
        """Closes the file and releases its lock."""
        self._connection.close()
        os.close(self._lock)

    def _create(self, instance: str, log_id: str, end: int) -> None:
        with self._transaction():
            version = int(self._one("PRAGMA user_version"))
            if version > FORMAT:
                raise InputError(
                    f"{self._path}: has format {version}, and this version of Heliograph reads up to {FORMAT}; upgrade"
                )
            if version == 0:
                for statement in _SCHEMA:
                    self._execute(statement)
                self._execute("INSERT INTO agent VALUES (?, ?, ?, ?)", uuid4().hex, instance, log_id, end)

    def _check(self, instance: str, log_id: str, end: int) -> None:
        of_instance, of_log, cursor = self._execute("SELECT instance, log_id, cursor FROM agent").fetchone()
        if (of_instance, of_log) != (instance, log_id):
            raise InputError(
                f"{self._path}: belongs to instance {of_instance} on the bus {of_log}, not to {instance} on the bus "
                f"{log_id}; give the agent another --home"
            )
        if cursor > end:
            raise InputError(
                f"{self._path}: requests were read up to offset {cursor}, but the topic ends at {end}, so it was "
                "replaced; give the agent another --home"
            )

    def _executions(self, where: str, *values: object) -> Sequence[Execution]:
        found = self._execute(
            f"SELECT request, repeats, due, missed, stopped FROM executions WHERE over IS NULL AND {where}",  # noqa: S608
            *values,
        )
        return [
            Execution(
                request=_decode_request(request), repeats=repeats, due=due, missed=missed, stopped=stopped
            )
            for request, repeats, due, missed, stopped in found.fetchall()
        ]

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
                f"{self._path}: {error}; the agent starts no run without its journal; check the disk"
            ) from error


def _locked(path: Path) -> int:
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"{path}: another agent uses this journal; end that agent, or give this one another --home"
        ) from None
    return descriptor
