"""Sizes of topics, lags of groups, and reading a topic from a start."""

from __future__ import annotations

import pytest

from heliograph.bus.memory import MemoryBus
from heliograph.operations.topics import Start, StartKind, list_lags, list_topics, parse_start, tail
from schemas.clock import ManualClock
from schemas.errors import InputError, NotFound
from schemas.record import NewRecord, TopicPartition

TOPIC = "events.other"


@pytest.fixture
def bus() -> MemoryBus:
    """Four records, a second apart; the first is lost."""
    clock = ManualClock(1_000_000)
    bus = MemoryBus(clock, partitions=1)
    for number in range(4):
        bus.append([NewRecord(TOPIC, b"%d" % number)])
        clock.advance(1)
    bus.truncate(TopicPartition(TOPIC, 0), 1)
    return bus


def test_a_topic_has_records_and_a_number_ever_appended(bus: MemoryBus) -> None:
    assert list_topics(bus) == [(TOPIC, 1, 3, 4)]


def test_the_lag_of_a_group_counts_its_unfinished_records(bus: MemoryBus) -> None:
    consumer = bus.consumer([TOPIC], "router")
    consumer.done([consumer.poll().records[0].position])
    (found,) = list_lags(bus)
    assert (found.group, found.partition, found.cursor, found.end) == (
        "router",
        TopicPartition(TOPIC, 0),
        2,
        4,
    )
    assert (found.lag, found.members) == (2, 1)
    consumer.close()
    assert list_lags(bus)[0].members == 0


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", Start(StartKind.EARLIEST)),
        ("latest", Start(StartKind.LATEST)),
        ("3", Start(StartKind.OFFSET, 3)),
        ("2s", Start(StartKind.TIME, 8_000)),
        ("1970-01-01T00:00:03Z", Start(StartKind.TIME, 3_000)),
    ],
)
def test_a_start_is_a_word_an_offset_or_a_time(text: str, start: Start) -> None:
    assert parse_start(text, 10_000) == start


def test_an_invalid_start_is_refused() -> None:
    with pytest.raises(InputError, match="start 'soon': expected earliest, latest, an offset, or a time"):
        parse_start("soon", 0)


@pytest.mark.parametrize(
    ("start", "values"),
    [
        (Start(StartKind.EARLIEST), [1, 2, 3]),
        (Start(StartKind.LATEST), []),
        (Start(StartKind.OFFSET, 0), [1, 2, 3]),
        (Start(StartKind.OFFSET, 3), [3]),
        (Start(StartKind.OFFSET, 9), []),
        (Start(StartKind.TIME, 1_002_000), [2, 3]),
    ],
)
def test_a_topic_is_read_from_a_start(bus: MemoryBus, start: Start, values: list[int]) -> None:
    assert [int(record.value) for record in tail(bus, TOPIC, start)] == values


def test_following_a_topic_gives_records_that_are_appended_later(bus: MemoryBus) -> None:
    records = tail(bus, TOPIC, Start(StartKind.OFFSET, 3), follow=True)
    assert next(records).value == b"3"
    bus.append([NewRecord(TOPIC, b"new")])
    assert next(records).value == b"new"


def test_an_unknown_topic_is_not_found(bus: MemoryBus) -> None:
    with pytest.raises(NotFound, match="no topic named 'none'; `heliograph topics` lists the names"):
        tail(bus, "none")
