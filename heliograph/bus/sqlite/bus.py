"""`SqliteBus`: the seam of the bus over one SQLite file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from heliograph.bus.base import Extent, Lag, PartitionsChanged, Polled
from heliograph.bus.sqlite import groups, ownership, retention, rows
from heliograph.bus.sqlite.consumer import SqliteConsumer
from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.file import BusFile
from heliograph.bus.sqlite.reserve import Reserve
from schemas.clock import Clock, SystemClock
from schemas.record import NewRecord, Position, TopicPartition

_EMPTY_KEPT_MS = 24 * 3600 * 1000
"""Milliseconds for which the empty record that ends a key stays in a compacted topic, as `delete.retention.ms` on Apache
Kafka."""


class SqliteBus:
    """A bus in the file `path`, with its lock files in the folder `<path>.locks`, for the processes of one host.

    `partitions`: of a topic that says nothing else. `retention_seconds`: how long records stay that every known
    group has finished; None keeps everything. `reserve_bytes`: below this much free disk space `append` raises
    BusFull, while `done` still works; 0 for no reserve. Raises BusUnavailable, BusDamaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        partitions: int = 4,
        retention_seconds: float | None,
        reserve_bytes: int,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._retention = retention_seconds
        self._file = BusFile(path, partitions, self._clock)
        self._reserve = Reserve(path, reserve_bytes)

    @property
    def log_id(self) -> str:
        """Identity of the topics, made with the file and stored in it."""
        return self._file.log_id

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Appends all or none."""
        if not records:
            return ()
        self._reserve.check()
        batch = self._file.prepare(records)
        positions = self._file.writer.run(lambda connection: batch.write(connection, self._clock.now()))
        self._file.watch.notify()
        return positions

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        gained: PartitionsChanged | None = None,
        lost: PartitionsChanged | None = None,
    ) -> SqliteConsumer:
        """Joins a group; the new member's share comes with its next polls."""
        return SqliteConsumer(self._file, group, topics, gained=gained, lost=lost)

    def read(self, partition: TopicPartition, offset: int, limit: int = 5000) -> Polled:
        """Reads records outside any group; nothing of a partition that does not exist."""
        snapshot = self._file.catalogue.refresh()
        identity = snapshot.identity(partition)
        if identity is None or offset >= snapshot.extents[identity].end:
            return Polled()
        span = Extent(offset, snapshot.extents[identity].end)
        with self._file.readers.lend() as connection:
            found = rows.read(connection, partition, identity, span=span, limit=limit)
        return Polled(found.records, [] if found.gap is None else [found.gap])

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """Finds the first offset whose record is not older than `timestamp` (milliseconds)."""
        snapshot = self._file.catalogue.refresh()
        identity = snapshot.identity(partition)
        if identity is None:
            return 0
        with self._file.readers.lend() as connection:
            return rows.offset_at(connection, identity, snapshot.extents[identity], timestamp)

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Creates a topic. Raises TopicMissing for a name that Apache Kafka would refuse."""
        self._file.create(topic, partitions)

    def topics(self) -> Mapping[str, int]:
        """Lists every topic with its number of partitions."""
        return {topic: len(ids) for topic, ids in self._file.catalogue.refresh().topics.items()}

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        """Returns the extent of each partition of a topic."""
        snapshot = self._file.catalogue.refresh()
        return {
            TopicPartition(topic, number): snapshot.extents[identity]
            for number, identity in enumerate(snapshot.topics.get(topic, ()))
        }

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        """Returns cursor and end of each partition that the group has a cursor for."""
        with self._file.readers.lend() as connection:
            return groups.lag(connection, group)

    def groups(self) -> Sequence[str]:
        """Lists every group that has a cursor."""
        with self._file.readers.lend() as connection:
            return groups.groups(connection)

    def members(self, group: str) -> frozenset[str]:
        """Lists the members that were not closed and whose process is alive."""
        with translated(self._file.path):
            return ownership.living_members(self._file.locks, group)

    def maintain(self) -> None:
        """Removes records that are older than the retention and behind every cursor, or that a newer record of their key has
        replaced, and gives their space back."""
        now, snapshot = self._clock.now(), self._file.catalogue.refresh()
        if self._retention is not None:
            retention.expire(self._file.writer, snapshot, now - round(self._retention * 1000))
        retention.compact(self._file.writer, snapshot, now - _EMPTY_KEPT_MS)
        retention.give_space_back(self._file.writer)

    def close(self) -> None:
        """Closes the file; later calls raise BusUnavailable."""
        self._file.close()
