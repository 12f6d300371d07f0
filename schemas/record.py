"""Records, and where they lie: topic, partition, offset, position, as in Apache Kafka."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.errors import InputError

Headers = tuple[tuple[str, bytes], ...]

FORMAT = "heliograph-format"
"""Header of every record of ours: the version of the record's form. A newer reader reads older ones."""
FORMAT_VERSION = b"1"
CHECKED = "heliograph-checked"
"""Header of a record whose value passed the edge's full validation; what has none is checked by the router."""


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}"


class Position(NamedTuple):
    """Where one record lies. As text: `topic:partition:offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition it lies in."""
        return TopicPartition(self.topic, self.partition)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read `topic:partition:offset`; InputError says what is wrong with it."""
        topic, _, rest = text.partition(":")
        partition, _, offset = rest.partition(":")
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            raise InputError(
                f"position {text!r}: expected topic:partition:offset, as in events.ecs.disk:0:17"
            )
        return cls(topic, int(partition), int(offset))


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to append. Without a partition the bus chooses one: by the hash of the key, as Java's default
    partitioner does; without a key, any."""

    topic: str
    value: bytes
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as read. `timestamp`: milliseconds since the epoch, when the log took it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: Headers
    value: bytes

    @property
    def position(self) -> Position:
        """Where it lies."""
        return Position(self.topic, self.partition, self.offset)

    def header(self, name: str) -> bytes | None:
        """The first header of that name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Gap(NamedTuple):
    """Offsets `[start, end)` of a partition that the log no longer has, though the cursor asked for them."""

    topic: str
    partition: int
    start: int
    end: int
