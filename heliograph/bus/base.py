"""The seam *bus*: topics with partitions and groups, as Apache Kafka has them, whatever stores them.

Synchronous. An implementation is chosen by URL (`heliograph.bus.open`): `sqlite:///path/bus.db`, `memory://`, `kafka://host:port`.
Every implementation inherits the suite `tests/conformance/bus.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from schemas.record import Gap, NewRecord, Position, Record, TopicPartition


class Extent(NamedTuple):
    """The offsets that a partition holds, `[start, end)`. `end` is the offset of the next record to be appended."""

    start: int
    end: int


class Polled(msgspec.Struct, frozen=True):
    """The result of one poll or read. Records of one partition are in order of offset. A partition has at most one
    gap, and the gap precedes all records of that partition in the result."""

    records: Sequence[Record] = ()
    gaps: Sequence[Gap] = ()


class Lag(NamedTuple):
    """Progress of a group on a partition: `cursor` is the lowest unfinished offset, `end` that of the next record to be
    appended."""

    cursor: int
    end: int


PartitionsChanged = Callable[[Sequence[TopicPartition]], None]


class Consumer(Protocol):
    """One member of a group. One thread owns it; only `wake` may be called from another.

    Within a group each partition belongs to at most one live member. A partition without a cursor is read from its
    earliest record. The consumer sees topics created after it within 5 s. Its owner must poll at least once a second,
    even while every partition is held, because a member that does not poll loses its partitions.
    """

    @property
    def member(self) -> str:
        """Name of this member, unique among the members of all groups."""
        ...

    def poll(self, limit: int = 5000, timeout: float = 0.0) -> Polled:
        """Returns up to `limit` records not yet handed out, waiting up to `timeout` seconds for the first.

        Returns early when `wake` is called. Calls the callbacks for partitions gained and lost.
        """
        ...

    def done(self, positions: Iterable[Position], append: Sequence[NewRecord] = ()) -> Sequence[Position]:
        """Finishes records that `poll` handed out, in any order, and appends the records that result from them.

        Both are durable when it returns. SQLite and memory do both or neither, in one transaction. On Kafka the append
        is durable first, and a crash before the commit repeats the work. The committed cursor is the lowest unfinished
        offset; finished ranges beyond it travel in the commit's note, so that a restart repeats only unfinished records.
        If a partition was lost meanwhile, its positions are not committed and the new owner repeats them; `append` is
        still appended. Cursors never go backwards. The reserve of disk space does not apply.

        Returns the positions of the appended records, in order. Raises BusFull, BusUnavailable, RecordTooLarge.
        """
        ...

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        """Hands out nothing more of a partition until `until` (seconds of the clock's `monotonic`); None ends the hold.

        No fetched record is lost. The hold stays when the partition is lost and comes back.
        """
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Hands out `offset` of an owned partition next. Forgets the records handed out before, as if finished."""
        ...

    def assigned(self) -> frozenset[TopicPartition]:
        """Returns the partitions that this member owns now."""
        ...

    def wake(self) -> None:
        """Makes a poll that waits, or else the next one, return soon. May be called from any thread."""
        ...

    def close(self) -> None:
        """Leaves the group and gives all partitions back. The next owners get the unfinished records."""
        ...


class Bus(Protocol):
    """The topics of a deployment. Safe to use from several threads; each consumer belongs to one thread."""

    @property
    def log_id(self) -> str:
        """Identity of these topics, made at their first use and stored with them. It tells them from others that have
        the same names and offsets. "Log" is an older word for the content of a bus, kept in stored names."""
        ...

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Appends records; returns their positions, in order, once all are durable. If it fails, SQLite and memory have
        appended none of them, Kafka perhaps some.

        Creates topics that do not exist. Raises BusFull (also while less disk space is free than the reserve, which is
        kept for `Consumer.done`), BusUnavailable, RecordTooLarge, TopicMissing.
        """
        ...

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        gained: PartitionsChanged | None = None,
        lost: PartitionsChanged | None = None,
    ) -> Consumer:
        """Joins `group` on topics given by name or by `*` pattern.

        `poll` and `close` call `gained` and `lost` with the partitions concerned. While `lost` runs, the member still
        owns the partitions and can commit finished work.
        """
        ...

    def read(self, partition: TopicPartition, offset: int, limit: int = 5000) -> Polled:
        """Reads records from `offset` on, outside any group; a gap stands for offsets that have been removed."""
        ...

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """Finds the first offset whose record is not older than `timestamp` (milliseconds); the end if there is none."""
        ...

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Creates a topic unless it exists. Without `partitions` it gets as many as `schemas.topics.kind_of` says, else the
        default of the bus."""
        ...

    def topics(self) -> Mapping[str, int]:
        """Lists every topic of the deployment with its number of partitions."""
        ...

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        """Returns the extent of each partition of a topic; empty for a topic that does not exist."""
        ...

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        """Returns cursor and end of each partition that the group has a cursor for."""
        ...

    def groups(self) -> Sequence[str]:
        """Lists every group that has a cursor."""
        ...

    def members(self, group: str) -> frozenset[str]:
        """Lists the live members of a group."""
        ...

    def maintain(self) -> None:
        """Applies retention, compacts topics where nothing else does, and gives disk space back.

        Never removes a record that a known group has not finished, nor the last record of a key of a compacted topic
        unless its value is empty.
        """
        ...

    def close(self) -> None:
        """Closes files and connections. The owners of consumers close these first."""
        ...
