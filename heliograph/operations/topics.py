"""Topics: their sizes, the lag of each group, and their records from a start."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from heliograph.app.config import Config
from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from schemas.errors import InputError, NotFound
from schemas.record import Record, TopicPartition
from schemas.times import parse_when

if TYPE_CHECKING:
    from heliograph.diagnose.kafka_plan import Plan

FOLLOW_SECONDS = 0.2
"""Seconds between two reads while `tail` follows a topic without new records."""


class TopicSize(NamedTuple):
    """The number of a topic's partitions, of the records that it holds, and of all records ever appended."""

    topic: str
    partitions: int
    records: int
    appended: int


class GroupLag(NamedTuple):
    """The position of a group on a partition: `cursor` is the lowest offset that it has not finished."""

    group: str
    partition: TopicPartition
    cursor: int
    end: int
    members: int

    @property
    def lag(self) -> int:
        """The number of offsets that the group has not finished."""
        return self.end - self.cursor


class StartKind(enum.StrEnum):
    """The kinds of a start in a topic."""

    EARLIEST = "earliest"
    LATEST = "latest"
    OFFSET = "offset"
    TIME = "time"


class Start(NamedTuple):
    """The place to start reading a topic. `value`: the offset, or the time in milliseconds since the epoch."""

    kind: StartKind
    value: int = 0


EARLIEST = Start(StartKind.EARLIEST)
"""The start at the first record of each partition."""


def list_topics(bus: Bus) -> list[TopicSize]:
    """Lists all topics by name. Raises BusError."""
    sizes: list[TopicSize] = []
    for topic, partitions in sorted(bus.topics().items()):
        extents = bus.extents(topic).values()
        records = sum(extent.end - extent.start for extent in extents)
        sizes.append(TopicSize(topic, partitions, records, sum(extent.end for extent in extents)))
    return sizes


def list_lags(bus: Bus) -> list[GroupLag]:
    """Lists the position of every group on every partition that it reads. Raises BusError."""
    lags: list[GroupLag] = []
    for group in bus.groups():
        members = len(bus.members(group))
        lags += [
            GroupLag(group, partition, at.cursor, at.end, members)
            for partition, at in sorted(bus.lag(group).items())
        ]
    return lags


def parse_start(text: str, now: int) -> Start:
    """Reads a start: `earliest`, `latest`, an offset, or a time as `parse_when` reads it. Raises InputError."""
    if text in {StartKind.EARLIEST, StartKind.LATEST}:
        return Start(StartKind(text))
    if text.isdecimal():
        return Start(StartKind.OFFSET, int(text))
    try:
        return Start(StartKind.TIME, parse_when(text, now))
    except InputError:
        raise InputError(
            f"start {text!r}: expected earliest, latest, an offset, or a time as 2h or 2026-01-31T12:00:00Z"
        ) from None


def tail(bus: Bus, topic: str, start: Start = EARLIEST, *, follow: bool = False) -> Iterator[Record]:
    """Reads the records of a topic from a start, each partition in order; with `follow` it waits for new ones.

    Raises NotFound (when called, not when the first record is read), BusError.
    """
    cursors = _find_cursors(bus, topic, start)
    return _follow(bus, topic, cursors) if follow else _read_to_end(bus, topic, cursors)


def plan_topics(config: Config) -> Plan | None:
    """Returns the topics and ACLs that a Kafka cluster needs; None for another bus. Connects to nothing.

    Raises InvalidConfiguration.
    """
    if not config.bus_url.startswith("kafka://"):
        return None
    from heliograph.bus.kafka.settings import parse
    from heliograph.bus.open import KAFKA_PARTITIONS
    from heliograph.diagnose.kafka_plan import plan

    section = config.bus
    return plan(
        parse(config.bus_url, section.namespace),
        section.partitions or KAFKA_PARTITIONS,
        section.retention_hours * 3600,
        [topic for topic in config.events.topics if "*" not in topic],
    )


def _find_cursors(bus: Bus, topic: str, start: Start) -> dict[TopicPartition, int]:
    extents = bus.extents(topic)
    if not extents:
        raise NotFound(f"no topic named {topic!r}; `heliograph topics` lists the names")
    match start.kind:
        case StartKind.EARLIEST:
            return {partition: extent.start for partition, extent in extents.items()}
        case StartKind.LATEST:
            return {partition: extent.end for partition, extent in extents.items()}
        case StartKind.OFFSET:
            return {partition: max(start.value, extent.start) for partition, extent in extents.items()}
        case StartKind.TIME:
            return {partition: bus.offset_at(partition, start.value) for partition in extents}


def _read_to_end(bus: Bus, topic: str, cursors: Mapping[TopicPartition, int]) -> Iterator[Record]:
    """Yields the records that the topic has now, each partition from its cursor."""
    for partition, extent in bus.extents(topic).items():
        yield from read_on(bus, partition, cursors.get(partition, extent.start), extent.end)


def _follow(bus: Bus, topic: str, start: Mapping[TopicPartition, int]) -> Iterator[Record]:
    cursors = dict(start)
    while True:
        found = False
        for record in _read_to_end(bus, topic, cursors):
            found = True
            cursors[record.position.topic_partition] = record.offset + 1
            yield record
        if not found:
            time.sleep(FOLLOW_SECONDS)
