"""The memory of the wheel does not grow with the number of waiting records."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import pytest

from heliograph.bus.base import Bus, Extent, Lag, PartitionsChanged, Polled
from router.deliver.wheel import LIMIT, Wheel
from schemas.clock import ManualClock
from schemas.record import NewRecord, Position, Record, TopicPartition
from schemas.topics import DELIVERIES, TIERS, retry_topic

PARTITIONS = [TopicPartition(retry_topic(width), number) for width in TIERS for number in range(4)]
VALUE = 500
"""Bytes of a record's value."""


class Endless:
    """A bus and its only consumer. Each partition has `each` records, which are built when they are polled; in each
    second as many are due as the wheel may have in memory."""

    def __init__(self, clock: ManualClock, each: int) -> None:
        self.clock = clock
        self.each = each
        self.start = clock.now()
        self.cursors = dict.fromkeys(PARTITIONS, 0)
        self.held: set[TopicPartition] = set()
        self.back = 0

    def create(self, topic: str) -> None:
        assert topic

    def consumer(
        self, _topics: Sequence[str], _group: str, *, gained: PartitionsChanged, lost: PartitionsChanged
    ) -> Endless:
        gained(PARTITIONS)
        self.lost = lost
        return self

    def poll(self, limit: int, _timeout: float) -> Polled:
        for partition in PARTITIONS:
            if partition not in self.held and self.cursors[partition] < self.each:
                first = self.cursors[partition]
                end = min(first + limit, self.each)
                self.cursors[partition] = end
                return Polled([self._record(partition, offset) for offset in range(first, end)])
        return Polled()

    def done(self, positions: Iterable[Position], append: Sequence[NewRecord]) -> None:
        assert len(list(positions)) == len(append)
        self.back += sum(record.topic == DELIVERIES for record in append)

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        (self.held.discard if until is None else self.held.add)(partition)

    def assigned(self) -> frozenset[TopicPartition]:
        return frozenset(PARTITIONS)

    def lag(self, _group: str) -> Mapping[TopicPartition, Lag]:
        return {partition: Lag(cursor, self.each) for partition, cursor in self.cursors.items()}

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        return {partition: Extent(0, self.each) for partition in PARTITIONS if partition.topic == topic}

    def _record(self, partition: TopicPartition, offset: int) -> Record:
        due = self.start + 1000 * (1 + offset // LIMIT)
        wait = b'{"due":%d,"total":%d}' % (due, due // 1000)
        return Record(*partition, offset, self.start, b"ops", (("wait", wait),), bytes(VALUE))


def peak(each: int) -> int:
    """Returns the peak of memory in bytes while the first records come back."""
    clock = ManualClock()
    log = Endless(clock, each)
    tracemalloc.start()
    try:
        wheel = Wheel(cast("Bus", log), clock)
        while log.back < len(PARTITIONS) * LIMIT:
            wheel.step(0.0)
            if not wheel.busy():
                clock.advance(max(wheel.until_ready(), 0.001))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_million_waiting_records_need_no_more_memory_than_a_few() -> None:
    few = peak(3 * LIMIT)
    million = peak(1_000_000 // len(PARTITIONS))
    assert million == pytest.approx(few, rel=0.1)
    assert million < 2 * len(PARTITIONS) * LIMIT * (VALUE + 1000)
