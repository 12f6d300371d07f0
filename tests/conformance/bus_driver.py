"""Drives consumers in the suites of the bus. Waits have time limits, and allow for a bus that acts with a delay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from heliograph.bus.base import Bus
from schemas.clock import Clock, ManualClock
from schemas.record import Gap, NewRecord, Position, Record, TopicPartition

WITHIN = 30.0
"""Time limit in seconds for expected records and rebalances."""
QUIET = 0.4
"""Seconds for which `expect_quiet` polls; a record in this time fails the test."""


def events(topic: str, count: int, partition: int | None = 0, first: int = 0) -> list[NewRecord]:
    """Builds `count` records with the values b"0", b"1" … from `first` on."""
    return [NewRecord(topic, b"%d" % number, partition=partition) for number in range(first, first + count)]


def values(records: Iterable[Record]) -> list[int]:
    return [int(record.value) for record in records]


def let_pass(clock: Clock, seconds: float) -> None:
    if isinstance(clock, ManualClock):
        clock.advance(seconds)
    else:
        time.sleep(seconds)


class Member:
    """A consumer that keeps its records, gaps and callbacks."""

    def __init__(
        self,
        bus: Bus,
        topics: str | Sequence[str],
        group: str,
        on_lost: Callable[[Member], None] | None = None,
    ) -> None:
        self.records: list[Record] = []
        self.gaps: list[Gap] = []
        self.callbacks: list[tuple[str, frozenset[TopicPartition]]] = []
        self._on_lost = on_lost
        wanted = [topics] if isinstance(topics, str) else topics
        self.consumer = bus.consumer(wanted, group, gained=self._gained, lost=self._lost)

    def poll(self, limit: int = 5000, timeout: float = 0.05) -> Sequence[Record]:
        polled = self.consumer.poll(limit, timeout)
        assert len(polled.records) <= limit
        self.records.extend(polled.records)
        self.gaps.extend(polled.gaps)
        return polled.records

    def collect(self, count: int, limit: int = 5000) -> list[Record]:
        """Polls until `count` more records have been returned."""
        before = len(self.records)
        eventually(lambda: len(self.records) >= before + count, self, limit=limit)
        return self.records[before:]

    def expect_quiet(self) -> None:
        deadline = time.monotonic() + QUIET
        while time.monotonic() < deadline:
            assert values(self.poll()) == []

    def done(self, records: Iterable[Record], append: Sequence[NewRecord] = ()) -> Sequence[Position]:
        return self.consumer.done([record.position for record in records], append)

    def owned_by_callbacks(self) -> frozenset[TopicPartition]:
        owned: frozenset[TopicPartition] = frozenset()
        for what, partitions in self.callbacks:
            owned = owned | partitions if what == "gained" else owned - partitions
        return owned

    def _gained(self, partitions: Sequence[TopicPartition]) -> None:
        self.callbacks.append(("gained", frozenset(partitions)))

    def _lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.callbacks.append(("lost", frozenset(partitions)))
        if self._on_lost is not None:
            self._on_lost(self)


def eventually(condition: Callable[[], bool], *members: Member, limit: int = 5000) -> None:
    """Polls all members in turn until the condition holds."""
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, [(m.records[-5:], m.gaps, m.callbacks) for m in members]
        for member in members:
            member.poll(limit)


def settled(*members: Member, partitions: int) -> None:
    """Polls until the members own all partitions in fair shares, each partition once."""

    def fair() -> bool:
        owned = [member.consumer.assigned() for member in members]
        sizes = [len(each) for each in owned]
        different = {partition for each in owned for partition in each}
        return sum(sizes) == len(different) == partitions and max(sizes) - min(sizes) <= 1

    eventually(fair, *members)
