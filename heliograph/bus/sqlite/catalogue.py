"""What topics there are and how far each partition goes: a snapshot that is read anew only when the file changed."""

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
    """`topics`: the ids of a topic's partitions, in order; the same object as long as nothing was added.
    `extents`: by the id of a partition."""

    topics: Mapping[str, tuple[int, ...]]
    extents: Mapping[int, Extent]

    def identity(self, partition: TopicPartition) -> int | None:
        """The id of a partition; None if there is none."""
        ids = self.topics.get(partition.topic, ())
        return ids[partition.partition] if 0 <= partition.partition < len(ids) else None


class Catalogue:
    """Shared by all threads of a process. `PRAGMA data_version` says whether the file changed since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = -1
        self._snapshot = Snapshot({}, {})
        with translated(path):
            self._connection = connect(path, reader=True)

    def refresh(self) -> Snapshot:
        """The newest snapshot: the same object as before if nothing in it changed."""
        with self._lock, translated(self._path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._snapshot = _load(self._connection, self._snapshot)
                self._version = version
            return self._snapshot

    def known(self) -> Snapshot:
        """The last snapshot, without a look at the file."""
        return self._snapshot

    def close(self) -> None:
        """Let go of the connection."""
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
