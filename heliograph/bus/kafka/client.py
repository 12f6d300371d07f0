"""The seam inside the bus on Kafka: what a client library must do.

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
"""Time limit in seconds of a request or an append."""
CONNECT_WITHIN = 6.0
"""Time limit in seconds for the first answer of a broker."""
SESSION = 6.0
"""Seconds without a heartbeat after which a member's partitions go to others."""
HEARTBEAT = 0.5
"""Seconds between heartbeats, which is how soon a member hears of a rebalance."""
POLL_WITHIN = 60.0
"""Seconds between two polls after which a member that hangs loses its partitions."""
LOOK_EVERY = 2.0
"""Seconds between looks for new topics and partitions."""
RECORD_BYTES = 1024 * 1024 + 64 * 1024
"""Bytes of the largest record or batch on the broker: RECORD_LIMIT and what frames it."""


class Fenced(Exception):  # noqa: N818
    """A commit came too late: the group has given the partitions to another member."""


class Commit(NamedTuple):
    """A cursor, and a note of the offsets beyond it that are finished."""

    offset: int
    note: str


class Fetched(msgspec.Struct):
    """The result of one poll of a client. Records of a partition are in order.

    `positions`: the next offset to read, for partitions where the client stepped over offsets that will never hold a
    record (markers of transactions). `out_of_range`: partitions whose position is not in the topic any more, which rest
    until a `seek`.
    """

    records: dict[TopicPartition, list[Record]]
    positions: dict[TopicPartition, int]
    out_of_range: set[TopicPartition]


PartitionsMoved = Callable[[Sequence[TopicPartition]], None]


class GroupClient(Protocol):
    """A member of a group. One thread owns it."""

    def poll(self, limit: int, timeout: float) -> Fetched:
        """Returns up to `limit` records, waiting up to `timeout` seconds for the first.

        Calls the callbacks `gained` and `lost` of this member. Gained partitions rest until `start`.
        """
        ...

    def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Reads the gained partitions from these offsets on."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Reads on at `offset`."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stops fetching from partitions without losing the position."""
        ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetches from paused partitions again."""
        ...

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Asks for the group's commits; partitions without one are left out."""
        ...

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Stores commits; durable when it returns. Raises Fenced."""
        ...

    def close(self) -> None:
        """Leaves the group at once, without callbacks."""
        ...


class PartitionReader(Protocol):
    """A reader of one partition at a time, outside of groups."""

    def assign(self, partition: TopicPartition, offset: int) -> None:
        """Reads `partition` from `offset` on."""
        ...

    def poll(self, limit: int, timeout: float) -> Fetched:
        """Returns up to `limit` records, waiting up to `timeout` seconds for the first."""
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...


class NewTopic(NamedTuple):
    """A topic to create. `replication` -1: the broker's default."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


class Connection(Protocol):
    """One client library, connected to one cluster. Safe to use from several threads."""

    def check(self) -> None:
        """Raises BusUnavailable unless a broker answers within CONNECT_WITHIN."""
        ...

    def append(self, records: Sequence[NewRecord], partitions: Sequence[int]) -> Sequence[int]:
        """Appends each record to its partition; returns their offsets once all in-sync replicas have stored every record."""
        ...

    def member(
        self, topics: Sequence[str], group: str, name: str, *, gained: PartitionsMoved, lost: PartitionsMoved
    ) -> GroupClient:
        """Joins a group on topics given by name or `*` pattern; `name` is the client id."""
        ...

    def reader(self) -> PartitionReader:
        """Makes a reader outside of groups."""
        ...

    def topics(self) -> Mapping[str, int]:
        """Lists every topic of the namespace with its number of partitions."""
        ...

    def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Reads the settings of topics, by Apache Kafka's names."""
        ...

    def create(self, topic: NewTopic) -> None:
        """Creates a topic, unless it exists. Raises TopicMissing if that is not permitted."""
        ...

    def check_creation(self, topic: NewTopic) -> None:
        """Raises BusError if the broker would refuse to create this topic; creates nothing."""
        ...

    def delete_topics(self, topics: Sequence[str]) -> None:
        """Deletes topics with all their records."""
        ...

    def extents(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Extent]:
        """Reads the extents of those partitions that exist; `end` is that of committed records."""
        ...

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """Finds the first offset whose record is not older than `timestamp` (milliseconds); None if there is none."""
        ...

    def groups(self) -> Sequence[str]:
        """Lists every group of the namespace."""
        ...

    def commits(self, group: str) -> Mapping[TopicPartition, int]:
        """Reads the cursors of a group."""
        ...

    def members(self, group: str) -> frozenset[str]:
        """Lists the client ids of the live members of a group."""
        ...

    def delete_groups(self, groups: Sequence[str]) -> None:
        """Deletes groups with their cursors. Groups that still have members stay."""
        ...

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Removes the records below these offsets."""
        ...

    def close(self) -> None:
        """Closes all connections."""
        ...
