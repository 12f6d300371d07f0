"""Checks that every bus makes before it appends records."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.errors import RecordTooLarge, TopicMissing
from schemas.record import NewRecord
from schemas.topics import RECORD_LIMIT, valid_name


def check_topic(topic: str) -> None:
    """Raises TopicMissing unless Apache Kafka would accept `topic` as a name."""
    if not valid_name(topic):
        raise TopicMissing(f"topic {topic[:60]!r}: use 1 to 249 letters, digits, '.', '_' and '-'")


def check_partition(topic: str, partition: int, partitions: int) -> None:
    """Raises TopicMissing if a topic of `partitions` partitions has no partition of this number."""
    if not 0 <= partition < partitions:
        raise TopicMissing(f"topic {topic}: has no partition {partition}, only 0 to {partitions - 1}")


def check_sizes(records: Iterable[NewRecord]) -> None:
    """Raises RecordTooLarge for a record whose value, key and headers together exceed RECORD_LIMIT."""
    for record in records:
        size = len(record.value) + len(record.key or b"")
        for name, value in record.headers:
            size += len(name) + len(value)
        if size > RECORD_LIMIT:
            raise RecordTooLarge(
                f"topic {record.topic}: a record of {size} bytes is above the limit of {RECORD_LIMIT}"
            )
