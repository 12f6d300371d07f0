"""Reading connections, each lent to one thread for one short read, so that the file can be checkpointed."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.schema import connect


class Readers:
    """A pool of reading connections, as many as were ever in use at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []

    @contextmanager
    def lend(self) -> Generator[sqlite3.Connection]:
        """Lends a connection. Every cursor on it must be read to its end or closed. Raises BusUnavailable, BusDamaged."""
        with translated(self._path):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = connect(self._path, reader=True)
            try:
                yield connection
            except BaseException:
                connection.close()  # it may still be inside a read
                raise
            self._idle.append(connection)

    def close(self) -> None:
        """Closes the connections that are not lent."""
        while self._idle:
            self._idle.pop().close()
