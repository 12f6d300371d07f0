"""The one connection of a process that writes. What several threads ask for at once goes into one transaction."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.schema import connect
from schemas.errors import BusError, BusUnavailable

LOCK_WAIT = 10.0
"""Seconds after which a log that other processes keep locked is given up."""
_PAUSE = 0.0005

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]
"""What is done inside a transaction. It may be run again after a rollback, so it changes nothing but the file."""


class _Job:
    """Work of one thread, and what came of it."""

    __slots__ = ("error", "finished", "result", "work")

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.finished = False

    def end(self, error: Exception | None) -> None:
        self.error = error
        self.finished = True


class Writer:
    """Runs work in transactions, each of them durable when `run` returns. For any number of threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[_Job] = deque()
        self._turn = threading.Lock()
        with translated(path):
            self._connection = connect(path, reader=False)

    def run(self, work: Work[Result]) -> Result:
        """Do `work` in a transaction, together with what other threads wait to have done.

        Whoever has the turn commits for all that came meanwhile. Raises BusFull, BusUnavailable, BusDamaged.
        """
        job = _Job(work)
        self._waiting.append(job)
        with self._turn:
            if not job.finished:
                self._commit_waiting(job)
        if job.error is not None:
            raise job.error
        return cast("Result", job.result)

    def checkpoint(self) -> None:
        """Write the log ahead back into the file and cut it to nothing, unless somebody is reading or writing."""
        with self._turn, translated(self._path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go of the connection; later work raises BusUnavailable."""
        with self._turn:
            self._connection.close()

    def _commit_waiting(self, own: _Job) -> None:
        jobs = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._commit(jobs)
        finally:
            # Only an interrupt leaves jobs unfinished: those of other threads are theirs to run.
            self._waiting.extend(job for job in jobs if not job.finished and job is not own)

    def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            self._begin()
        except BusError as error:
            for job in jobs:
                job.end(error)
            return
        try:
            with translated(self._path):
                for job in jobs:
                    job.result = job.work(self._connection)
                self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - it goes to the thread whose work raised it
            self._roll_back()
            if len(jobs) == 1:
                jobs[0].end(error)
            else:
                for job in jobs:
                    self._commit([job])
        except BaseException:
            self._roll_back()
            raise
        else:
            for job in jobs:
                job.end(None)

    def _begin(self) -> None:
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    with translated(self._path):
                        raise
                if time.monotonic() >= deadline:
                    raise BusUnavailable(
                        f"{self._path}: locked by another process for {LOCK_WAIT:g} s; try again, or end what holds it"
                    ) from error
                time.sleep(_PAUSE)
            except sqlite3.Error:
                with translated(self._path):
                    raise
            else:
                return

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with translated(self._path):
                self._connection.execute("ROLLBACK")
