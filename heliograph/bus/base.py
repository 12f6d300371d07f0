"""The Bus seam: a log of topics, as Apache Kafka has it, whatever stores it.

Synchronous. Chosen by URL (`heliograph.bus.open`): `sqlite:///path/bus.db`, `memory://`, `kafka://host:port`.
Every implementation inherits the suite `tests/conformance/bus.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from schemas.record import Gap, NewRecord, Position, Record, TopicPartition


class Extent(NamedTuple):
    """What the log holds of a partition: offsets `[start, end)`. `end` is the next offset to be given."""

    start: int
    end: int


class Polled(msgspec.Struct, frozen=True):
    """What one poll brought. Records of one partition are in order of offset. A partition has at most one gap in a
    batch, and it lies before all of that partition's records in it."""

    records: Sequence[Record] = ()
    gaps: Sequence[Gap] = ()


class Lag(NamedTuple):
    """How far a group is on a partition: `cursor` is the lowest unfinished offset, `end` the next to be given."""

    cursor: int
    end: int


PartitionsChanged = Callable[[Sequence[TopicPartition]], None]


class Consumer(Protocol):
    """One member of a group. One thread owns it; only `wake` may be called from another.

    Within a group each partition belongs to at most one live member. A partition without a cursor starts at its
    earliest record. Topics made after the consumer are seen within 5 s. The owner keeps polling, at least each
    second, even while every partition is held: polling is what keeps partitions ours.
    """

    @property
    def member(self) -> str:
        """Name of this member, unique among the members of all groups."""
        ...

    def poll(self, limit: int = 5000, timeout: float = 0.0) -> Polled:
        """Up to `limit` records not yet handed out, waiting up to `timeout` seconds for the first.

        Returns early when `wake` is called. Callbacks for partitions gained and lost are called from inside.
        """
        ...

    def done(self, positions: Iterable[Position], append: Sequence[NewRecord] = ()) -> Sequence[Position]:
        """Finish records that `poll` handed out, in any order, and append what follows from them.

        Durable when it returns. One transaction where the log can (sqlite, memory): both or neither. On others
        the append is durable first; a crash between repeats the work. The committed cursor is the lowest
        unfinished offset; finished ranges beyond it travel in the commit's note, so that a restart repeats only
        what was in flight. A position of a partition that was lost meanwhile is not committed (its append still
        is made): the new owner repeats it. Cursors never go backwards. The reserve of disk space does not apply.

        Returns the positions of what was appended, in order. Raises BusFull, BusUnavailable, RecordTooLarge.
        """
        ...

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        """Hand out nothing more of a partition until `until` (seconds of the clock's `monotonic`); None lets go.

        Nothing fetched is lost; survives the loss and the return of the partition.
        """
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Hand out `offset` of an owned partition next. What was handed out before is forgotten, as if finished."""
        ...

    def assigned(self) -> frozenset[TopicPartition]:
        """The partitions that are ours now."""
        ...

    def wake(self) -> None:
        """Make a poll that waits return soon. Callable from any thread."""
        ...

    def close(self) -> None:
        """Give back all partitions. What was handed out and not finished comes to the next owner."""
        ...


class Bus(Protocol):
    """A log of topics. Safe to use from several threads; each consumer belongs to one."""

    @property
    def log_id(self) -> str:
        """Made once, when the log is first used, and kept in it."""
        ...

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Append records; returns their positions, in order, once all are durable. All of them or, where the log has
        transactions, none.

        A topic that does not exist is made. Raises BusFull (also below the reserve of disk space, so that what the
        roles owe still fits), BusUnavailable, RecordTooLarge, TopicMissing.
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
        """Join `group` on topics given by name or by `*` pattern.

        `gained` and `lost` are called from inside `poll` (and `close`) with the partitions concerned. While `lost`
        runs the partitions are still ours, so work that is finished can be committed.
        """
        ...

    def read(self, partition: TopicPartition, offset: int, limit: int = 5000) -> Polled:
        """Records from `offset` on, outside any group; a gap where the log no longer has what is asked for."""
        ...

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """The first offset whose record has a timestamp (milliseconds) not before this one; the end if none."""
        ...

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Make a topic; nothing changes if it exists. Without `partitions`: what `schemas.topics.kind_of` says."""
        ...

    def topics(self) -> Mapping[str, int]:
        """Every topic of the deployment and its number of partitions."""
        ...

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        """What the log holds of each partition. Empty for a topic that does not exist."""
        ...

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        """How far a group is, for each partition it has a cursor for."""
        ...

    def groups(self) -> Sequence[str]:
        """Every group that has a cursor."""
        ...

    def members(self, group: str) -> frozenset[str]:
        """The live members of a group."""
        ...

    def maintain(self) -> None:
        """Apply retention, compact where the log does not do so by itself, and give space back. Never removes what a
        known group has not finished, nor the last record of a key of a compacted topic, unless it is empty."""
        ...

    def close(self) -> None:
        """Let go of everything. Consumers are closed first by their owners."""
        ...
