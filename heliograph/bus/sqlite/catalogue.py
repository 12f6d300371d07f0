"""Topics and extents of all partitions, in a snapshot that is loaded again only after the file has changed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from heliograph.bus.base import Extent
from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.schema import connect
from schemas.record import TopicPartition


class Snapshot(NamedTuple):
    """Topics and extents at one moment. `topics`: the ids of each topic's partitions, in order; the same object as in the
    snapshot before if no partition was added. `extents`: by the id of a partition."""

    topics: Mapping[str, tuple[int, ...]]
    extents: Mapping[int, Extent]

    def identity(self, partition: TopicPartition) -> int | None:
        """Finds the id of a partition; None if it does not exist."""
        ids = self.topics.get(partition.topic, ())
        return ids[partition.partition] if 0 <= partition.partition < len(ids) else None


class Catalogue:
    """The newest snapshot, shared by all threads of a process. `PRAGMA data_version` tells when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = -1
        self._snapshot = Snapshot({}, {})
        with translated(path):
            self._connection = connect(path, reader=True)

    def refresh(self) -> Snapshot:
        """Returns the newest snapshot: the same object as before if nothing in it changed."""
        with self._lock, translated(self._path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._snapshot = _load(self._connection, self._snapshot)
                self._version = version
            return self._snapshot

    def known(self) -> Snapshot:
        """Returns the last snapshot without looking at the file."""
        return self._snapshot

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._connection.close()


def _load(connection: sqlite3.Connection, before: Snapshot) -> Snapshot:
    rows = connection.execute("SELECT id, start, next FROM partitions").fetchall()
    extents = {identity: Extent(start, end) for identity, start, end in rows}
    if extents == before.extents:
        return before
    if extents.keys() == before.extents.keys():
        return Snapshot(before.topics, extents)
    topics: dict[str, tuple[int, ...]] = {}
    named = connection.execute("SELECT topic, id FROM partitions ORDER BY topic, partition").fetchall()
    for topic, identity in named:
        topics[topic] = (*topics.get(topic, ()), identity)
    return Snapshot(topics, {identity: extents.get(identity, Extent(0, 0)) for _, identity in named})
