"""Suite of a group with one consumer at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from heliograph.bus.base import Bus, Lag
from schemas.clock import Clock
from schemas.errors import RecordTooLarge
from schemas.record import Gap, NewRecord, TopicPartition
from schemas.topics import RECORD_LIMIT
from tests.conformance.bus_driver import Member, events, eventually, let_pass, values
from tests.conformance.bus_topics import BusFixtures, read_all


class GroupConformance(BusFixtures):
    """Tests of polling, finishing, holding and seeking."""

    def test_a_new_group_starts_at_the_earliest_record(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 10))
        member = Member(bus, topic, group)
        assert values(member.collect(10)) == list(range(10))
        member.expect_quiet()

    def test_polled_records_equal_those_read_outside_of_groups(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        bus.append([NewRecord(topic, b"\x00v", b"", (("h", b"\xff"),)), NewRecord(topic, b"", None)])
        member = Member(bus, topic, group)
        arrived = member.collect(2)
        assert {record.position: record for record in arrived} == {
            record.position: record for record in read_all(bus, topic)
        }

    def test_batches_respect_the_limit_and_the_order_of_each_partition(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        bus.append([NewRecord(topic, b"%d" % number, partition=number % 4) for number in range(400)])
        member = Member(bus, topic, group)
        records = member.collect(400, limit=7)
        for partition in range(4):
            own = [int(record.value) for record in records if record.partition == partition]
            assert own == list(range(partition, 400, 4))

    def test_a_full_partition_does_not_starve_the_others(self, bus: Bus, topic: str, group: str) -> None:
        bus.append([*events(topic, 3000), *events(topic, 1, partition=1), *events(topic, 1, partition=2)])
        member = Member(bus, topic, group)
        records = member.collect(1500, limit=100)
        assert {record.partition for record in records} == {0, 1, 2}

    def test_many_records_are_polled_and_finished_in_large_batches(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        bus.append(events(topic, 12_000, partition=None))
        member = Member(bus, topic, group)
        records = member.collect(12_000)
        assert sorted(values(records)) == list(range(12_000))
        member.done(records)
        assert sum(lag.cursor for lag in bus.lag(group).values()) == 12_000

    def test_the_next_consumer_continues_at_the_cursor(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 10))
        first = Member(bus, topic, group)
        first.done(first.collect(10, limit=10)[:6])
        first.consumer.close()
        second = Member(bus, topic, group)
        assert values(second.collect(4)) == [6, 7, 8, 9]
        second.expect_quiet()

    def test_a_cursor_outlives_closing_the_bus(
        self, bus: Bus, reopen: Callable[[], Bus], topic: str, group: str
    ) -> None:
        bus.append(events(topic, 10))
        first = Member(bus, topic, group)
        first.done([record for record in first.collect(10) if int(record.value) in {0, 1, 5}])
        first.consumer.close()
        again = reopen()
        second = Member(again, topic, group)
        assert values(second.collect(7)) == [2, 3, 4, 6, 7, 8, 9]
        second.expect_quiet()
        second.consumer.close()

    def test_groups_are_independent_of_each_other(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 10))
        one, other = Member(bus, topic, group), Member(bus, topic, f"{group}-other")
        one.done(one.collect(10))
        assert values(other.collect(10)) == list(range(10))
        other.done(other.records[:2])
        partition = TopicPartition(topic, 0)
        assert bus.lag(group)[partition] == Lag(10, 10)
        assert bus.lag(f"{group}-other")[partition] == Lag(2, 10)
        assert {group, f"{group}-other"} <= set(bus.groups())

    def test_a_group_without_a_cursor_is_not_listed(self, bus: Bus, group: str) -> None:
        assert bus.lag(group) == {}
        assert group not in bus.groups()
        assert bus.members(group) == frozenset()

    def test_members_lists_the_members_that_have_not_left(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.create(topic)
        one, other = Member(bus, topic, group), Member(another_handle, topic, group)
        names = frozenset({one.consumer.member, other.consumer.member})
        assert len(names) == 2
        eventually(lambda: bus.members(group) == another_handle.members(group) == names, one, other)
        other.consumer.close()
        eventually(lambda: bus.members(group) == frozenset({one.consumer.member}), one)

    def test_a_restart_repeats_only_unfinished_records(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 20))
        first = Member(bus, topic, group)
        records = first.collect(20)
        first.done([records[number] for number in (9, 3, 4)])
        first.done([records[number] for number in (19, 0, 18)])
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(1, 20)
        first.consumer.close()
        second = Member(bus, topic, group)
        missing = [number for number in range(20) if number not in {9, 3, 4, 19, 0, 18}]
        assert values(second.collect(len(missing))) == missing
        second.done(second.records)
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(20, 20)

    def test_finished_ranges_survive_a_second_restart(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 20))
        first = Member(bus, topic, group)
        first.done([record for record in first.collect(20) if int(record.value) in {5, 6, 15, 16}])
        first.consumer.close()
        second = Member(bus, topic, group)
        second.done([record for record in second.collect(4, limit=4) if int(record.value) in {0, 2}])
        second.consumer.close()
        third = Member(bus, topic, group)
        missing = [number for number in range(20) if number not in {0, 2, 5, 6, 15, 16}]
        assert values(third.collect(len(missing))) == missing
        third.expect_quiet()

    def test_finishing_a_record_twice_or_before_it_was_polled_changes_nothing(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        positions = bus.append(events(topic, 10))
        member = Member(bus, topic, group)
        records = member.collect(3, limit=3)
        member.done(records[:2])
        member.done(records[:2])
        member.consumer.done(positions[5:])
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(2, 10)
        assert values(member.collect(7)) == [3, 4, 5, 6, 7, 8, 9]

    def test_done_appends_and_returns_the_positions(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 3))
        member = Member(bus, topic, group)
        out = f"{topic}.out"
        positions = member.done(
            member.collect(3), [*events(out, 2, partition=1), *events(out, 1, partition=2, first=2)]
        )
        assert [position.topic_partition for position in positions] == [(out, 1), (out, 1), (out, 2)]
        read = {record.position: int(record.value) for record in read_all(bus, out)}
        assert [read[position] for position in positions] == [0, 1, 2]
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(3, 3)

    def test_done_finishes_nothing_if_its_append_fails(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 3))
        member = Member(bus, topic, group)
        records = member.collect(3)
        out = f"{topic}.out"
        with pytest.raises(RecordTooLarge):
            member.done(records, [NewRecord(out, b"1"), NewRecord(out, b"x" * (RECORD_LIMIT + 1))])
        assert read_all(bus, out) == []
        member.consumer.close()
        again = Member(bus, topic, group)
        assert values(again.collect(3)) == [0, 1, 2]
        assert len(again.done(again.records, [NewRecord(out, b"1")])) == 1

    def test_a_batch_whose_append_failed_can_be_finished_later(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        bus.append(events(topic, 3))
        member = Member(bus, topic, group)
        records = member.collect(3)
        with pytest.raises(RecordTooLarge):
            member.done(records, [NewRecord(topic, b"x" * (RECORD_LIMIT + 1))])
        member.done(records)
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(3, 3)

    def test_a_consumer_reads_topics_by_pattern_and_by_name(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(
            [NewRecord(f"{topic}.a", b"1"), NewRecord(f"{topic}.b", b"2"), NewRecord(f"{topic}x", b"3")]
        )
        bus.append([NewRecord(f"other.{topic}", b"4"), NewRecord(f"exact.{topic}", b"5")])
        member = Member(bus, [f"{topic}.*", f"exact.{topic}"], group)
        assert sorted(values(member.collect(3))) == [1, 2, 5]
        member.expect_quiet()

    def test_topics_created_later_are_seen(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        by_pattern = Member(bus, f"{topic}.*", group)
        by_name = Member(bus, f"{topic}.b", f"{group}-name")
        by_pattern.poll()
        by_name.poll()
        another_handle.append([NewRecord(f"{topic}.a", b"1"), NewRecord(f"{topic}.b", b"2")])
        assert sorted(values(by_pattern.collect(2))) == [1, 2]
        assert values(by_name.collect(1)) == [2]

    def test_a_hold_stops_its_partition_only(self, bus: Bus, clock: Clock, topic: str, group: str) -> None:
        bus.append([*events(topic, 10), *events(topic, 1, partition=1, first=100)])
        member = Member(bus, topic, group)
        member.collect(11)
        member.consumer.hold(TopicPartition(topic, 0), clock.monotonic() + 3600)
        bus.append([*events(topic, 5, first=10), *events(topic, 1, partition=1, first=101)])
        assert values(member.collect(1)) == [101]
        member.expect_quiet()
        member.consumer.hold(TopicPartition(topic, 0), None)
        assert values(member.collect(5)) == [10, 11, 12, 13, 14]

    def test_a_hold_loses_no_fetched_record(self, bus: Bus, clock: Clock, topic: str, group: str) -> None:
        bus.append(events(topic, 10))
        member = Member(bus, topic, group)
        member.collect(3, limit=3)
        member.consumer.hold(TopicPartition(topic, 0), clock.monotonic() + 3600)
        member.expect_quiet()
        member.done(member.records)
        member.consumer.hold(TopicPartition(topic, 0), None)
        assert values(member.collect(7)) == [3, 4, 5, 6, 7, 8, 9]

    def test_a_hold_ends_at_its_time(self, bus: Bus, clock: Clock, topic: str, group: str) -> None:
        bus.append(events(topic, 3))
        member = Member(bus, topic, group)
        member.collect(1, limit=1)
        member.consumer.hold(TopicPartition(topic, 0), clock.monotonic() + 1)
        assert values(member.poll()) == []
        let_pass(clock, 1.1)
        assert values(member.collect(2)) == [1, 2]

    def test_a_seek_moves_forwards_and_backwards(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 10))
        member = Member(bus, topic, group)
        member.collect(4, limit=4)
        member.consumer.seek(TopicPartition(topic, 0), 7)
        assert values(member.collect(3)) == [7, 8, 9]
        member.done(member.records[-3:])
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(10, 10)
        member.consumer.seek(TopicPartition(topic, 0), 5)
        assert values(member.collect(5)) == [5, 6, 7, 8, 9]

    def test_a_seek_hands_out_again_records_finished_before_a_restart(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        bus.append(events(topic, 10))
        first = Member(bus, topic, group)
        first.done(first.collect(10)[4:6])
        first.consumer.close()
        second = Member(bus, topic, group)
        second.collect(1, limit=1)
        second.consumer.seek(TopicPartition(topic, 0), 3)
        assert values(second.collect(7)) == [3, 4, 5, 6, 7, 8, 9]

    def test_a_cursor_never_goes_backwards(self, bus: Bus, topic: str, group: str) -> None:
        partition = TopicPartition(topic, 0)
        bus.append(events(topic, 10))
        member = Member(bus, topic, group)
        member.done(member.collect(10)[:8])
        member.consumer.seek(partition, 2)
        member.done(member.collect(3, limit=3))
        assert bus.lag(group)[partition] == Lag(8, 10)
        member.consumer.close()
        again = Member(bus, topic, group)
        assert values(again.collect(2)) == [8, 9]

    def test_a_cursor_below_the_first_record_gives_a_gap_and_then_records(
        self, bus: Bus, truncate: Callable[[TopicPartition, int], None], topic: str, group: str
    ) -> None:
        bus.append(events(topic, 10))
        first = Member(bus, topic, group)
        first.done(first.collect(10)[:2])
        first.consumer.close()
        truncate(TopicPartition(topic, 0), 5)
        second = Member(bus, topic, group)
        assert values(second.collect(5)) == [5, 6, 7, 8, 9]
        assert second.gaps == [Gap(topic, 0, 2, 5)]
        second.done(second.records)
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(10, 10)
        second.consumer.close()
        third = Member(bus, topic, group)
        third.expect_quiet()
        assert third.gaps == []

    def test_a_new_group_gets_no_gap_for_records_removed_before(
        self, bus: Bus, truncate: Callable[[TopicPartition, int], None], topic: str, group: str
    ) -> None:
        bus.append(events(topic, 10))
        truncate(TopicPartition(topic, 0), 5)
        member = Member(bus, topic, group)
        assert values(member.collect(5)) == [5, 6, 7, 8, 9]
        assert member.gaps == []

    def test_records_removed_under_a_running_consumer_give_a_gap(
        self, bus: Bus, truncate: Callable[[TopicPartition, int], None], topic: str, group: str
    ) -> None:
        bus.append(events(topic, 10))
        member = Member(bus, topic, group)
        in_flight = member.collect(3, limit=3)
        truncate(TopicPartition(topic, 0), 8)
        eventually(lambda: 9 in values(member.records), member)
        fetched = values(
            member.records[3:-2]
        )  # a bus may have fetched these records before they were removed
        assert fetched == list(range(3, 3 + len(fetched)))
        lost = range(3 + len(fetched), 8)
        assert member.gaps == ([Gap(topic, 0, lost.start, 8)] if lost else [])
        assert values(member.records[-2:]) == [8, 9]
        member.done([*in_flight, *member.records[3:]])
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(10, 10)

    def test_wake_ends_a_waiting_poll(self, bus: Bus, topic: str, group: str) -> None:
        member = Member(bus, topic, group)
        member.poll()
        waker = threading.Timer(0.2, member.consumer.wake)
        waker.start()
        assert values(member.poll(timeout=100.0)) == []
        waker.join()

    def test_a_wake_before_the_poll_is_not_lost(self, bus: Bus, topic: str, group: str) -> None:
        member = Member(bus, topic, group)
        member.poll()
        member.consumer.wake()
        assert values(member.poll(timeout=100.0)) == []

    def test_an_append_ends_a_waiting_poll(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.create(topic)
        member = Member(bus, topic, group)
        member.poll()
        for handle in (bus, another_handle):
            appender = threading.Timer(0.2, handle.append, [events(topic, 1)])
            appender.start()
            assert values(member.poll(timeout=100.0)) == [0]
            appender.join()
