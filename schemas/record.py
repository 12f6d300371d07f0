"""Records and their positions: topic, partition and offset, as in Apache Kafka."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.errors import InputError

Headers = tuple[tuple[str, bytes], ...]

FORMAT = "heliograph-format"
"""Header of every record that Heliograph writes: the version of the record's form. Newer readers read older forms."""
FORMAT_VERSION = b"1"
CHECKED = "heliograph-checked"
"""Header of a record whose value the edge has validated in full; the router validates records that lack it."""


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}"


class Position(NamedTuple):
    """The position of a record. Its text is `topic:partition:offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def topic_partition(self) -> TopicPartition:
        """The record's partition."""
        return TopicPartition(self.topic, self.partition)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads `topic:partition:offset`. Raises InputError for any other text."""
        topic, _, rest = text.partition(":")
        partition, _, offset = rest.partition(":")
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            raise InputError(
                f"position {text!r}: expected topic:partition:offset, as in events.ecs.disk:0:17"
            )
        return cls(topic, int(partition), int(offset))


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to append. If `partition` is None, the bus chooses one: by the hash of the key, as Java's default
    partitioner does, or any partition for a record without a key."""

    topic: str
    value: bytes
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as read. `timestamp`: the time at which the bus stored it, in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: Headers
    value: bytes

    @property
    def position(self) -> Position:
        """The record's topic, partition and offset."""
        return Position(self.topic, self.partition, self.offset)

    def header(self, name: str) -> bytes | None:
        """Returns the value of the first header called `name`, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Gap(NamedTuple):
    """Offsets `[start, end)` that a reader asked for and the partition no longer has."""

    topic: str
    partition: int
    start: int
    end: int
