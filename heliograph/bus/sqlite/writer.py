"""The only writing connection of a process. Work of several threads goes into one transaction."""

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
"""Time limit in seconds for a file that other processes keep locked."""
_PAUSE = 0.0005

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]
"""Work inside a transaction. It may run again after a rollback, so it must change nothing but the file."""


class _Job:
    """Work of one thread, with its result or error."""

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
    """Runs work in transactions, each durable when `run` returns. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[_Job] = deque()
        self._turn = threading.Lock()
        with translated(path):
            self._connection = connect(path, reader=False)

    def run(self, work: Work[Result]) -> Result:
        """Runs `work` in a transaction, together with the waiting work of other threads.

        The thread that has the turn commits for all that wait. Raises BusFull, BusUnavailable, BusDamaged.
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
        """Moves the write-ahead log into the file and empties it, unless another connection reads or writes."""
        with self._turn, translated(self._path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Closes the connection; later work raises BusUnavailable."""
        with self._turn:
            self._connection.close()

    def _commit_waiting(self, own: _Job) -> None:
        jobs = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._commit(jobs)
        finally:
            # Only an interrupt leaves jobs unfinished; other threads run theirs themselves.
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
        except Exception as error:  # noqa: BLE001 - raised again in the thread whose work it was
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
                        f"{self._path}: locked by another process for {LOCK_WAIT:g} s; try again, or end that process"
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
