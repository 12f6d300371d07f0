"""Reads topics page by page, outside of groups."""

from __future__ import annotations

from collections.abc import Iterator

from heliograph.bus.base import Bus
from schemas.record import Record, TopicPartition

BATCH = 1000
"""Records of one page."""


def read_on(bus: Bus, partition: TopicPartition, offset: int, end: int) -> Iterator[Record]:
    """Yields the records of a partition with offsets in `[offset, end)`; keeps one page in memory."""
    while offset < end:
        polled = bus.read(partition, offset, min(BATCH, end - offset))
        for record in polled.records:
            if record.offset >= end:
                return
            yield record
        if not polled.records and not polled.gaps:
            return
        offset = polled.records[-1].offset + 1 if polled.records else polled.gaps[-1].end


def read_topic(bus: Bus, topic: str, since: int = 0) -> Iterator[Record]:
    """Yields the records that a topic holds now, in each partition from the first one not older than `since`
    (milliseconds) on."""
    for partition, extent in sorted(bus.extents(topic).items()):
        start = bus.offset_at(partition, since) if since else extent.start
        yield from read_on(bus, partition, start, extent.end)
