"""Suite of topics: appending, reading and retention, without groups."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from heliograph.bus.base import Bus, Extent
from heliograph.bus.partition import partition_for
from schemas.clock import Clock, ManualClock, SystemClock
from schemas.errors import RecordTooLarge, TopicMissing
from schemas.record import Gap, Headers, NewRecord, Position, Record, TopicPartition
from schemas.topics import RECORD_LIMIT
from tests.conformance.bus_driver import events, let_pass, values

RETENTION = 60.0
"""Retention in seconds of a bus that the fixtures open with a `ManualClock`."""


def read_all(bus: Bus, topic: str) -> list[Record]:
    """Reads all records of a topic, partition after partition, in small pages."""
    records: list[Record] = []
    for partition, extent in sorted(bus.extents(topic).items()):
        at = extent.start
        while at < extent.end:
            page = bus.read(partition, at, 700)
            assert not page.gaps
            assert 0 < len(page.records) <= 700
            records.extend(page.records)
            at = page.records[-1].offset + 1
    return records


class BusFixtures:
    """Fixtures that an implementation provides. The bus is new and empty, and new topics have 4 partitions."""

    @pytest.fixture
    def clock(self) -> Clock:
        """Returns the clock with which the bus is opened. With a ManualClock the suite tests retention, too."""
        return SystemClock()

    @pytest.fixture
    def bus(self, clock: Clock) -> Bus:
        raise NotImplementedError

    @pytest.fixture
    def another_handle(self, bus: Bus) -> Bus:
        """Opens the topics of `bus` a second time, as another process would."""
        raise NotImplementedError

    @pytest.fixture
    def reopen(self, bus: Bus) -> Callable[[], Bus]:
        """Returns a function that closes `bus` and opens its topics again."""
        raise NotImplementedError

    @pytest.fixture
    def truncate(self) -> Callable[[TopicPartition, int], None]:
        """Returns a function that removes the records of a partition below an offset, finished or not."""
        pytest.skip("this bus cannot remove records on demand")

    @pytest.fixture
    def killed_consumer(self) -> Callable[[str, str, int], None]:
        """Returns a function that runs a consumer of a topic and group, and kills it as by kill -9 after `count`
        records."""
        pytest.skip("this bus cannot kill a consumer")

    @pytest.fixture
    def topic(self) -> str:
        return f"t{uuid.uuid4().hex[:10]}.events"

    @pytest.fixture
    def group(self) -> str:
        return f"g{uuid.uuid4().hex[:10]}"


class TopicConformance(BusFixtures):
    """Tests of appending, reading and creating topics."""

    @pytest.mark.parametrize(
        ("key", "headers", "value"),
        [
            (None, (), b"{}"),
            (b"", (), b""),
            (b"k", (("a", b""), ("a", b"2"), ("\u00e4\u6c34", bytes(range(256)))), bytes(range(256))),
            (b"\x00\xff", (("heliograph-format", b"1"),), "\u901a\u77e5".encode()),
        ],
    )
    def test_a_record_is_read_back_byte_for_byte(
        self, bus: Bus, clock: Clock, topic: str, key: bytes | None, headers: Headers, value: bytes
    ) -> None:
        before = clock.now()
        (position,) = bus.append([NewRecord(topic, value, key, headers)])
        (record,) = bus.read(position.topic_partition, position.offset).records
        assert (record.position, record.key, record.headers, record.value) == (position, key, headers, value)
        assert before <= record.timestamp <= clock.now()

    def test_append_returns_positions_in_the_order_of_the_records(self, bus: Bus, topic: str) -> None:
        records = [NewRecord(topic, b"%d" % number, partition=number % 3) for number in range(30)]
        positions = bus.append(records)
        assert [position.partition for position in positions] == [number % 3 for number in range(30)]
        read = {record.position: record.value for record in read_all(bus, topic)}
        assert [read[position] for position in positions] == [record.value for record in records]

    def test_offsets_of_a_partition_ascend_in_the_order_of_append(self, bus: Bus, topic: str) -> None:
        positions = [*bus.append(events(topic, 10)), *bus.append(events(topic, 10, first=10))]
        offsets = [position.offset for position in positions]
        assert offsets == sorted(set(offsets))
        assert values(read_all(bus, topic)) == list(range(20))

    def test_an_append_of_no_records_returns_no_positions(self, bus: Bus) -> None:
        assert list(bus.append([])) == []

    def test_one_append_may_write_to_several_topics(self, bus: Bus, topic: str) -> None:
        bus.append([NewRecord(topic, b"1"), NewRecord(f"{topic}.other", b"2"), NewRecord(topic, b"3")])
        assert sorted(values(read_all(bus, topic))) == [1, 3]
        assert values(read_all(bus, f"{topic}.other")) == [2]

    def test_a_key_chooses_the_partition_as_java_does(self, bus: Bus, topic: str) -> None:
        keys = [f"i-{number}".encode() for number in range(50)]
        positions = bus.append([NewRecord(topic, b"", key) for key in keys])
        assert [position.partition for position in positions] == [partition_for(key, 4) for key in keys]

    def test_a_record_without_a_key_goes_to_any_partition(self, bus: Bus, topic: str) -> None:
        positions = bus.append(events(topic, 20, partition=None))
        assert {position.partition for position in positions} <= set(range(4))
        assert sorted(values(read_all(bus, topic))) == list(range(20))

    def test_a_partition_that_does_not_exist_is_refused(self, bus: Bus, topic: str) -> None:
        bus.create(topic)
        with pytest.raises(TopicMissing, match=r"4|partition"):
            bus.append([*events(topic, 1), *events(topic, 1, partition=4)])
        assert read_all(bus, topic) == []

    def test_one_append_may_hold_many_records(self, bus: Bus, topic: str) -> None:
        positions = bus.append(events(topic, 12_000, partition=None))
        assert len(set(positions)) == 12_000
        assert sorted(values(read_all(bus, topic))) == list(range(12_000))

    def test_a_record_at_the_size_limit_is_appended_and_a_larger_one_is_refused(
        self, bus: Bus, topic: str
    ) -> None:
        room = RECORD_LIMIT - len(b"key") - len("h") - len(b"header")
        bus.append([NewRecord(topic, b"x" * room, b"key", (("h", b"header"),))])
        with pytest.raises(RecordTooLarge, match=str(RECORD_LIMIT)):
            bus.append(
                [NewRecord(topic, b"ok"), NewRecord(topic, b"x" * (room + 1), b"key", (("h", b"header"),))]
            )
        assert len(read_all(bus, topic)) == 1

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "\u901a\u77e5", "x" * 250])
    def test_a_name_that_kafka_would_refuse_is_refused(self, bus: Bus, topic: str, name: str) -> None:
        with pytest.raises(TopicMissing):
            bus.create(name)
        with pytest.raises(TopicMissing):
            bus.append([NewRecord(topic, b"1"), NewRecord(name, b"2")])
        assert name not in bus.topics()
        assert read_all(bus, topic) == []

    def test_a_topic_is_created_by_its_first_append(self, bus: Bus, topic: str) -> None:
        assert topic not in bus.topics()
        assert bus.extents(topic) == {}
        bus.append([NewRecord(topic, b"1"), NewRecord("subscriptions", b"2")])
        assert bus.topics()[topic] == 4
        assert bus.topics()["subscriptions"] == 1

    def test_a_topic_is_created_with_the_requested_partitions(
        self, bus: Bus, another_handle: Bus, topic: str
    ) -> None:
        bus.create(topic, 7)
        bus.create(topic, 3)
        bus.create(f"{topic}.default")
        assert bus.topics()[topic] == another_handle.topics()[topic] == 7
        assert bus.topics()[f"{topic}.default"] == 4
        assert sorted(bus.extents(topic)) == [TopicPartition(topic, number) for number in range(7)]

    def test_extents_give_the_offsets_of_each_partition(self, bus: Bus, topic: str) -> None:
        bus.append([*events(topic, 5, partition=1), *events(topic, 2, partition=3)])
        extents = bus.extents(topic)
        assert [extents[TopicPartition(topic, number)] for number in range(4)] == [
            Extent(0, 0),
            Extent(0, 5),
            Extent(0, 0),
            Extent(0, 2),
        ]

    def test_reading_respects_the_limit_and_ends_at_the_end(self, bus: Bus, topic: str) -> None:
        partition = TopicPartition(topic, 0)
        bus.append(events(topic, 10))
        assert values(bus.read(partition, 3, 4).records) == [3, 4, 5, 6]
        assert values(bus.read(partition, 8).records) == [8, 9]
        assert list(bus.read(partition, 10).records) == []
        assert list(bus.read(TopicPartition(f"{topic}.none", 0), 0).records) == []

    def test_removed_records_are_read_as_a_gap(
        self, bus: Bus, truncate: Callable[[TopicPartition, int], None], topic: str
    ) -> None:
        partition = TopicPartition(topic, 0)
        bus.append(events(topic, 10))
        truncate(partition, 4)
        polled = bus.read(partition, 1, 2)
        assert list(polled.gaps) == [Gap(topic, 0, 1, 4)]
        assert values(polled.records) == [4, 5]
        assert list(bus.read(partition, 4, 2).gaps) == []
        assert bus.extents(topic)[partition] == Extent(4, 10)

    def test_offsets_continue_after_all_records_were_removed(
        self, bus: Bus, truncate: Callable[[TopicPartition, int], None], topic: str
    ) -> None:
        bus.append(events(topic, 10))
        truncate(TopicPartition(topic, 0), 10)
        assert bus.extents(topic)[TopicPartition(topic, 0)] == Extent(10, 10)
        assert list(bus.append(events(topic, 1))) == [Position(topic, 0, 10)]

    def test_an_offset_is_found_by_time(self, bus: Bus, clock: Clock, topic: str) -> None:
        partition = TopicPartition(topic, 0)
        bus.append(events(topic, 3))
        let_pass(clock, 0.02)
        between = clock.now()
        let_pass(clock, 0.02)
        (third,) = bus.append(events(topic, 1))
        assert bus.offset_at(partition, 0) == 0
        assert bus.offset_at(partition, between) == third.offset
        timestamp = bus.read(partition, third.offset).records[0].timestamp
        assert bus.offset_at(partition, timestamp) == third.offset
        assert bus.offset_at(partition, timestamp + 60_000) == third.offset + 1

    def test_the_log_id_is_the_same_in_every_handle_and_after_reopening(
        self, bus: Bus, another_handle: Bus, reopen: Callable[[], Bus], topic: str
    ) -> None:
        bus.append(events(topic, 3))
        first = bus.log_id
        assert first
        assert another_handle.log_id == first
        again = reopen()
        assert again.log_id == first
        assert values(read_all(again, topic)) == [0, 1, 2]

    def test_another_handle_reads_appended_records(self, bus: Bus, another_handle: Bus, topic: str) -> None:
        bus.append(events(topic, 3))
        another_handle.append(events(topic, 3, first=3))
        assert values(read_all(bus, topic)) == values(read_all(another_handle, topic)) == [0, 1, 2, 3, 4, 5]

    def test_concurrent_appends_lose_nothing(self, bus: Bus, another_handle: Bus, topic: str) -> None:
        def work(worker: int) -> list[Position]:
            handle = (bus, another_handle)[worker % 2]
            return [
                position
                for batch in range(5)
                for position in handle.append(events(topic, 20, first=worker * 100 + batch * 20))
            ]

        with ThreadPoolExecutor(4) as pool:
            positions = [position for each in pool.map(work, range(4)) for position in each]
        assert len(set(positions)) == 400
        records = read_all(bus, topic)
        assert sorted(values(records)) == list(range(400))
        for worker in range(4):
            own = [value for value in values(records) if value // 100 == worker]
            assert own == sorted(own)


class RetentionConformance(BusFixtures):
    """Tests of retention by `maintain`, on a bus with a ManualClock. A bus whose server applies retention does not
    inherit them."""

    def test_retention_removes_records_that_no_group_needs(self, bus: Bus, clock: Clock, topic: str) -> None:
        manual = needs_manual(clock)
        bus.append([*events(topic, 3), *events("subscriptions", 3)])
        manual.advance(RETENTION / 2)
        bus.append(events(topic, 3, first=3))
        bus.maintain()
        assert len(read_all(bus, topic)) == 6
        manual.advance(RETENTION / 2 + 1)
        bus.maintain()
        assert values(read_all(bus, topic)) == [3, 4, 5]
        assert values(read_all(bus, "subscriptions")) == [0, 1, 2]

    def test_retention_never_removes_records_that_a_group_has_not_finished(
        self, bus: Bus, clock: Clock, topic: str, group: str
    ) -> None:
        manual = needs_manual(clock)
        bus.append(events(topic, 10))
        consumer = bus.consumer([topic], group)
        handed_out = [record.position for record in consumer.poll(5, 5.0).records]
        manual.advance(RETENTION + 1)
        bus.maintain()
        assert len(read_all(bus, topic)) == 10
        consumer.done(handed_out[:3])
        consumer.close()
        bus.maintain()
        assert values(read_all(bus, topic))[0] == 3

    def test_topics_kept_until_consumed_keep_everything_until_a_group_reads_them(
        self, bus: Bus, clock: Clock, group: str
    ) -> None:
        """A deliverer must find all deliveries, however late it starts for the first time."""
        manual = needs_manual(clock)
        bus.append(events("deliveries", 3))
        manual.advance(RETENTION + 1)
        bus.maintain()
        assert len(read_all(bus, "deliveries")) == 3
        consumer = bus.consumer(["deliveries"], group)
        handed_out = [record.position for record in consumer.poll(3, 5.0).records]
        consumer.done(handed_out)
        consumer.close()
        bus.maintain()
        assert not read_all(bus, "deliveries")


def needs_manual(clock: Clock) -> ManualClock:
    """Returns the clock, and fails the test if it is not a ManualClock."""
    assert isinstance(clock, ManualClock)
    return clock
