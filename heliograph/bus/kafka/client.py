"""The seam inside the bus: what is asked of a Kafka client library.

Topics and groups carry their short names here; a client adds the namespace. Every error that leaves a client is one of
`schemas.errors`, or `Fenced`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from heliograph.bus.base import Extent
from schemas.record import NewRecord, Record, TopicPartition

TIMEOUT = 10.0
"""Seconds for which a request or an append may take before it counts as failed."""
CONNECT_WITHIN = 6.0
"""Seconds within which a broker has answered, or there is none."""
SESSION = 6.0
"""Seconds of silence after which a member's partitions go to others."""
HEARTBEAT = 0.5
"""Seconds between heartbeats, which is how soon a member hears of a rebalance."""
POLL_WITHIN = 60.0
"""Seconds between two polls after which a member that hangs loses its partitions."""
LOOK_EVERY = 2.0
"""Seconds between looks for new topics and partitions."""
RECORD_BYTES = 1024 * 1024 + 64 * 1024
"""Largest record or batch on the broker: RECORD_LIMIT and what frames it."""
NO_METADATA = ""


class Fenced(Exception):  # noqa: N818
    """A commit came too late: the group has moved on without us."""


class Commit(NamedTuple):
    """A cursor and what is finished beyond it."""

    offset: int
    note: str


class Fetched(msgspec.Struct):
    """What one poll of a client brought. Records of a partition are in order.

    `positions`: where the client reads on, for partitions where it stepped over offsets that will never hold a record
    (markers of transactions); `out_of_range`: partitions whose position the log does not have, which rest until a
    `seek`.
    """

    records: dict[TopicPartition, list[Record]]
    positions: dict[TopicPartition, int]
    out_of_range: set[TopicPartition]


PartitionsMoved = Callable[[Sequence[TopicPartition]], None]


class GroupClient(Protocol):
    """A member of a group. One thread owns it."""

    def poll(self, limit: int, timeout: float) -> Fetched:
        """What there is, up to `limit` records, waiting up to `timeout` seconds for the first. Calls `gained` and
        `lost` of its making; what was gained rests until `start`."""
        ...

    def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read the gained partitions from these offsets on."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on at `offset`."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch nothing of these, without losing the place."""
        ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch them again."""
        ...

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """The group's commits; partitions without one are left out."""
        ...

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Store commits; durable when it returns. Raises Fenced."""
        ...

    def close(self) -> None:
        """Leave the group at once, without callbacks."""
        ...


class PartitionReader(Protocol):
    """Reads one partition at a time, outside of groups."""

    def assign(self, partition: TopicPartition, offset: int) -> None:
        """Read `partition` from `offset` on."""
        ...

    def poll(self, limit: int, timeout: float) -> Fetched:
        """As of a member of a group."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


class NewTopic(NamedTuple):
    """A topic to make. `replication` -1: the broker's default."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


class Connection(Protocol):
    """One library on one cluster. Safe to use from several threads."""

    def check(self) -> None:
        """Raise BusUnavailable unless a broker answers within CONNECT_WITHIN."""
        ...

    def append(self, records: Sequence[NewRecord], partitions: Sequence[int]) -> Sequence[int]:
        """Append each record to its partition; returns their offsets once every one is acknowledged by all."""
        ...

    def member(
        self, topics: Sequence[str], group: str, name: str, gained: PartitionsMoved, lost: PartitionsMoved
    ) -> GroupClient:
        """Join a group under a client id, on names and `*` patterns."""
        ...

    def reader(self) -> PartitionReader:
        """A reader outside of groups."""
        ...

    def topics(self) -> Mapping[str, int]:
        """Every topic of the namespace and its number of partitions."""
        ...

    def create(self, topic: NewTopic) -> None:
        """Make a topic; nothing changes if it exists. Raises TopicMissing if it may not be made."""
        ...

    def extents(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Extent]:
        """Extents of partitions that exist; `end` is that of committed records."""
        ...

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """First offset whose record is not older than `timestamp` (milliseconds); None if there is none."""
        ...

    def groups(self) -> Sequence[str]:
        """Every group of the namespace."""
        ...

    def commits(self, group: str) -> Mapping[TopicPartition, int]:
        """The cursors of a group."""
        ...

    def members(self, group: str) -> frozenset[str]:
        """Client ids of the live members of a group."""
        ...

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Remove the records below these offsets."""
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...
