"""`MemoryBus` passes the conformance suite, and loses records and members on demand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heliograph.bus.base import Bus
from heliograph.bus.memory import MemoryBus
from schemas.clock import Clock, ManualClock
from schemas.record import TopicPartition
from tests.conformance.bus import BusConformance
from tests.conformance.bus_driver import Member, events, values
from tests.conformance.bus_topics import RETENTION, RetentionConformance


class TestMemoryBus(BusConformance, RetentionConformance):
    @pytest.fixture
    def clock(self) -> Clock:
        return ManualClock()

    @pytest.fixture
    def bus(self, clock: Clock) -> MemoryBus:
        return MemoryBus(clock, retention=RETENTION)

    @pytest.fixture
    def another_handle(self, bus: Bus) -> Bus:
        return bus

    @pytest.fixture
    def reopen(self, bus: Bus) -> Callable[[], Bus]:
        return lambda: bus

    @pytest.fixture
    def truncate(self, bus: MemoryBus) -> Callable[[TopicPartition, int], None]:
        return bus.truncate

    @pytest.fixture
    def killed_consumer(self, bus: MemoryBus) -> Callable[[str, str, int], None]:
        def die(topic: str, group: str, count: int) -> None:
            member = Member(bus, topic, group)
            member.collect(count)
            bus.kill(member.consumer.member)

        return die


def test_a_killed_consumer_has_no_callbacks_and_commits_nothing() -> None:
    bus = MemoryBus()
    bus.append(events("t", 3))
    member = Member(bus, "t", "g")
    records = member.collect(3)
    bus.kill(member.consumer.member)
    member.done(records)
    assert [what for what, _ in member.callbacks] == ["gained"]
    assert values(member.poll()) == []
    assert bus.lag("g")[TopicPartition("t", 0)].cursor == 0


def test_truncation_beyond_the_end_stops_at_the_end() -> None:
    bus = MemoryBus()
    bus.append(events("t", 3))
    bus.truncate(TopicPartition("t", 0), 99)
    assert bus.extents("t")[TopicPartition("t", 0)] == (3, 3)


def test_without_retention_maintain_keeps_everything() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    bus.append(events("t", 3))
    clock.advance(10**9)
    bus.maintain()
    assert bus.extents("t")[TopicPartition("t", 0)] == (0, 3)
