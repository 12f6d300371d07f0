from __future__ import annotations

from heliograph.bus import reading
from heliograph.bus.memory import MemoryBus
from heliograph.bus.reading import read_on, read_topic
from schemas.clock import ManualClock
from schemas.record import NewRecord, TopicPartition

PARTITION = TopicPartition("words", 0)


def test_reading_skips_removed_records_and_stops_at_the_end_offset() -> None:
    bus = MemoryBus(ManualClock(), partitions=1)
    count = 2 * reading.BATCH + 1
    bus.append([NewRecord("words", b"%d" % number) for number in range(count)])
    assert [one.offset for one in read_on(bus, PARTITION, 0, count)] == list(range(count))
    assert [one.offset for one in read_on(bus, PARTITION, 5, 7)] == [5, 6]
    bus.truncate(PARTITION, 6)
    assert [one.offset for one in read_on(bus, PARTITION, 3, 8)] == [6, 7]
    assert list(read_on(bus, PARTITION, 3, 5)) == []
    assert list(read_on(bus, PARTITION, 8, 8)) == []
    assert list(read_on(bus, TopicPartition("none", 0), 0, 9)) == []


def test_a_topic_is_read_from_a_time_on_partition_by_partition() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock, partitions=2)
    for number in range(6):
        bus.append([NewRecord("words", b"%d" % number, partition=number % 2)])
        clock.advance(1)
    assert [one.value for one in read_topic(bus, "words")] == [b"0", b"2", b"4", b"1", b"3", b"5"]
    assert [one.value for one in read_topic(bus, "words", clock.now() - 3000)] == [b"4", b"3", b"5"]
    assert list(read_topic(bus, "none")) == []
