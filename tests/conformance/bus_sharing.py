"""Suite of a group with several consumers, which share partitions, leave, join late or are killed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from heliograph.bus.base import Bus, Lag
from schemas.clock import Clock
from schemas.record import NewRecord, Record, TopicPartition
from tests.conformance.bus_driver import Member, events, eventually, settled, values
from tests.conformance.bus_topics import BusFixtures, read_all


def spread(topic: str, count: int, first: int = 0) -> list[NewRecord]:
    """Builds `count` records in four partitions."""
    return [NewRecord(topic, b"%d" % number, partition=number % 4) for number in range(first, first + count)]


class SharingConformance(BusFixtures):
    """Tests of membership, and of ownership and hand-over of partitions."""

    def test_two_members_share_partitions_and_each_record_goes_to_one(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.create(topic)
        one, other = Member(bus, topic, group), Member(another_handle, topic, group)
        settled(one, other, partitions=4)
        bus.append(spread(topic, 40))
        eventually(lambda: len(one.records) + len(other.records) >= 40, one, other)
        assert sorted(values(one.records + other.records)) == list(range(40))
        for member in (one, other):
            assert {
                record.position.topic_partition for record in member.records
            } == member.consumer.assigned()

    def test_a_partition_moves_only_after_its_owner_has_given_it_back(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.append(spread(topic, 40))
        one = Member(bus, topic, group)
        one.collect(40)
        other = Member(another_handle, topic, group)
        other.expect_quiet()
        assert other.consumer.assigned() == frozenset()
        one.done(one.records)
        settled(one, other, partitions=4)
        bus.append(spread(topic, 4, first=40))
        eventually(lambda: len(one.records) + len(other.records) >= 44, one, other)
        assert sorted(values(one.records + other.records)) == list(range(44))

    def test_callbacks_report_every_gained_and_lost_partition(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.create(topic)
        one = Member(bus, topic, group)
        settled(one, partitions=4)
        assert one.owned_by_callbacks() == {TopicPartition(topic, number) for number in range(4)}
        other = Member(another_handle, topic, group)
        settled(one, other, partitions=4)
        assert one.owned_by_callbacks() == one.consumer.assigned()
        assert other.owned_by_callbacks() == other.consumer.assigned()
        other.consumer.close()
        assert other.owned_by_callbacks() == frozenset()
        settled(one, partitions=4)
        assert one.owned_by_callbacks() == one.consumer.assigned()

    def test_members_of_different_topics_do_not_share(self, bus: Bus, topic: str, group: str) -> None:
        bus.create(f"{topic}.a")
        bus.create(f"{topic}.b")
        one, other = Member(bus, f"{topic}.a", group), Member(bus, f"{topic}.b", group)
        settled(one, other, partitions=8)
        assert {partition.topic for partition in one.consumer.assigned()} == {f"{topic}.a"}

    def test_with_more_members_than_partitions_some_own_none(self, bus: Bus, topic: str, group: str) -> None:
        bus.create(topic, 1)
        one, other = Member(bus, topic, group), Member(bus, topic, group)
        settled(one, other, partitions=1)
        bus.append(events(topic, 5))
        eventually(lambda: len(one.records) + len(other.records) >= 5, one, other)
        assert [] in (one.records, other.records)

    def test_unfinished_records_go_to_the_next_owner(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.append(spread(topic, 40))
        one = Member(bus, topic, group)
        finished = [record for record in one.collect(40) if int(record.value) % 3 == 0]
        one.done(finished)
        one.consumer.close()
        assert one.consumer.assigned() == frozenset()
        other = Member(another_handle, topic, group)
        missing = set(range(40)) - set(values(finished))
        assert sorted(values(other.collect(len(missing)))) == sorted(missing)
        other.expect_quiet()

    def test_work_finished_while_partitions_are_lost_is_not_repeated(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        def finish_all(member: Member) -> None:
            member.done(member.records)

        bus.append(spread(topic, 40))
        one = Member(bus, topic, group, on_lost=finish_all)
        one.collect(40)
        other = Member(another_handle, topic, group, on_lost=finish_all)
        settled(one, other, partitions=4)
        bus.append(spread(topic, 4, first=40))
        eventually(lambda: len(one.records) + len(other.records) >= 44, one, other)
        assert sorted(values(one.records + other.records)) == list(range(44))
        one.consumer.close()
        settled(other, partitions=4)
        other.expect_quiet()

    def test_a_former_owner_appends_but_commits_nothing(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.append(spread(topic, 40))
        stale = Member(bus, topic, group)
        stale.collect(40)
        owner = Member(another_handle, topic, group)
        settled(stale, owner, partitions=4)
        eventually(lambda: len(owner.records) >= 20, stale, owner)
        moved = owner.consumer.assigned()
        owner.done([record for record in owner.records if record.offset < 6])
        late = [record for record in stale.records if record.position.topic_partition in moved]
        positions = stale.done(late, [NewRecord(f"{topic}.out", b"7")])
        assert len(positions) == 1
        assert values(read_all(bus, f"{topic}.out")) == [7]
        stale.done([record for record in late if record.offset < 2])
        lags = bus.lag(group)
        assert [lags[partition] for partition in moved] == [Lag(6, 10)] * 2
        owner.consumer.close()
        stale.consumer.close()
        after = Member(bus, topic, group)
        eventually(lambda: len(unfinished(after.records, moved)) >= 8, after)
        assert {record.offset for record in unfinished(after.records, moved)} == {6, 7, 8, 9}

    def test_a_closed_consumer_appends_but_commits_nothing(self, bus: Bus, topic: str, group: str) -> None:
        bus.append(events(topic, 4))
        one = Member(bus, topic, group)
        one.done(one.collect(4)[:1])
        one.consumer.close()
        one.done(one.records, [NewRecord(f"{topic}.out", b"7")])
        assert values(read_all(bus, f"{topic}.out")) == [7]
        assert bus.lag(group)[TopicPartition(topic, 0)] == Lag(1, 4)

    def test_a_hold_survives_the_loss_and_return_of_its_partition(
        self, bus: Bus, another_handle: Bus, clock: Clock, topic: str, group: str
    ) -> None:
        bus.create(topic)
        one = Member(bus, topic, group)
        settled(one, partitions=4)
        for partition in one.consumer.assigned():
            one.consumer.hold(partition, clock.monotonic() + 3600)
        bus.append(spread(topic, 40))
        other = Member(another_handle, topic, group)
        settled(one, other, partitions=4)
        eventually(lambda: len(other.records) >= 20, one, other)
        other.consumer.close()
        settled(one, partitions=4)
        one.expect_quiet()
        for partition in one.consumer.assigned():
            one.consumer.hold(partition, None)
        assert sorted(values(one.collect(40))) == list(range(40))

    def test_a_member_keeps_its_partitions_while_all_are_held(
        self, bus: Bus, clock: Clock, topic: str, group: str
    ) -> None:
        bus.append(spread(topic, 4))
        one = Member(bus, topic, group)
        settled(one, partitions=4)
        mine = one.consumer.assigned()
        for partition in mine:
            one.consumer.hold(partition, clock.monotonic() + 3600)
        one.expect_quiet()
        assert one.consumer.assigned() == mine

    def test_the_unfinished_records_of_a_killed_member_go_to_another(
        self, bus: Bus, killed_consumer: Callable[[str, str, int], None], topic: str, group: str
    ) -> None:
        bus.append(spread(topic, 40))
        killed_consumer(topic, group, 40)
        member = Member(bus, topic, group)
        assert sorted(values(member.collect(40))) == list(range(40))
        assert bus.members(group) == {member.consumer.member}

    def test_members_in_threads_handle_every_record_at_least_once(
        self, bus: Bus, another_handle: Bus, topic: str, group: str
    ) -> None:
        bus.append(spread(topic, 2000))
        out = f"{topic}.out"
        stop = threading.Event()

        def work(handle: Bus, turns: int | None) -> None:
            member = Member(handle, topic, group)
            turn = 0
            while not stop.is_set() and (turns is None or turn < turns):
                turn += 1
                for half in halves(list(member.poll(limit=50))):
                    member.done(half, [NewRecord(out, record.value, partition=0) for record in half])
            member.consumer.close()

        threads = [
            threading.Thread(target=work, args=arguments)
            for arguments in [(bus, 3), (another_handle, None), (bus, 5), (another_handle, 8), (bus, None)]
        ]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: sum(lag.cursor for lag in bus.lag(group).values()) == 2000)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(values(read_all(bus, out))) == set(range(2000))


def unfinished(records: list[Record], partitions: frozenset[TopicPartition]) -> list[Record]:
    return [record for record in records if record.position.topic_partition in partitions]


def halves(records: list[Record]) -> list[list[Record]]:
    """Splits records into two halves, the later half first."""
    middle = len(records) // 2
    return [records[middle:], records[:middle]]
