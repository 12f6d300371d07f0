"""The embedded log as the seam has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from heliograph.bus.base import Extent, Lag, PartitionsChanged, Polled
from heliograph.bus.sqlite import groups, log, ownership, retention
from heliograph.bus.sqlite.consumer import SqliteConsumer
from heliograph.bus.sqlite.errors import translated
from heliograph.bus.sqlite.file import LogFile
from heliograph.bus.sqlite.reserve import Reserve
from schemas.clock import Clock, SystemClock
from schemas.record import NewRecord, Position, TopicPartition

_EMPTY_KEPT_MS = 24 * 3600 * 1000
"""How long the empty record that ends a key stays in a compacted topic, as `delete.retention.ms` on Apache Kafka."""


class SqliteBus:
    """A log in one file `path`, with its lock files in the folder `<path>.locks`, for the processes of one host.

    `partitions`: of a topic that says nothing else. `retention_seconds`: how long records stay that every known
    group has finished; None keeps everything. `reserve_bytes`: below this much free disk space `append` raises
    BusFull, while `done` still works; 0 for none. Raises BusUnavailable, BusDamaged.
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
        self._file = LogFile(path, partitions, self._clock)
        self._reserve = Reserve(path, reserve_bytes)

    @property
    def log_id(self) -> str:
        """Made with the file, and kept in it."""
        return self._file.log_id

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Append all or none."""
        if not records:
            return ()
        self._reserve.check()
        batch = self._file.ready(records)
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
        """Join a group; what falls to the new member comes with its next polls."""
        return SqliteConsumer(self._file, group, topics, gained=gained, lost=lost)

    def read(self, partition: TopicPartition, offset: int, limit: int = 5000) -> Polled:
        """Records outside any group; nothing of a partition that does not exist."""
        snapshot = self._file.catalogue.refresh()
        identity = snapshot.identity(partition)
        if identity is None or offset >= snapshot.extents[identity].end:
            return Polled()
        span = Extent(offset, snapshot.extents[identity].end)
        with self._file.readers.lend() as connection:
            found = log.read(connection, partition, identity, span, limit)
        return Polled(found.records, [] if found.gap is None else [found.gap])

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """First offset whose record is not older than `timestamp` (milliseconds)."""
        snapshot = self._file.catalogue.refresh()
        identity = snapshot.identity(partition)
        if identity is None:
            return 0
        with self._file.readers.lend() as connection:
            return log.offset_at(connection, identity, snapshot.extents[identity], timestamp)

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Make a topic. Raises TopicMissing for a name that Apache Kafka would refuse."""
        self._file.create(topic, partitions)

    def topics(self) -> Mapping[str, int]:
        """Every topic and its number of partitions."""
        return {topic: len(ids) for topic, ids in self._file.catalogue.refresh().topics.items()}

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        """What there is of each partition of a topic."""
        snapshot = self._file.catalogue.refresh()
        return {
            TopicPartition(topic, number): snapshot.extents[identity]
            for number, identity in enumerate(snapshot.topics.get(topic, ()))
        }

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        """Cursor and end of each partition that the group has a cursor for."""
        with self._file.readers.lend() as connection:
            return groups.lag(connection, group)

    def groups(self) -> Sequence[str]:
        """Every group that has a cursor."""
        with self._file.readers.lend() as connection:
            return groups.groups(connection)

    def members(self, group: str) -> frozenset[str]:
        """Members whose process is alive and that were not closed."""
        with translated(self._file.path):
            return ownership.living_members(self._file.locks, group)

    def maintain(self) -> None:
        """Remove what is older than the retention and behind every cursor, and what is replaced; give its space back."""
        now, snapshot = self._clock.now(), self._file.catalogue.refresh()
        if self._retention is not None:
            retention.expire(self._file.writer, snapshot, now - round(self._retention * 1000))
        retention.compact(self._file.writer, snapshot, now - _EMPTY_KEPT_MS)
        retention.give_space_back(self._file.writer)

    def close(self) -> None:
        """Let go of the file; what is called later raises BusUnavailable."""
        self._file.close()
