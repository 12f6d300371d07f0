"""The chain of segments: tails, races and epochs."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from archiver.format.naming import segment_key
from archiver.format.segment import Draft
from archiver.maintain.epochs import begin_epoch
from archiver.read.reader import list_segments, read_records
from archiver.read.verify import verify
from archiver.write.chain import Lost, Stored, Tail, append_segment, check_bus, find_tail
from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock
from schemas.errors import ArchiveBroken, NotFound, StoreUnavailable
from schemas.record import NewRecord, TopicPartition
from tests.archiver.making import LOG, TOPIC, chain, draft
from tests.archiver.stores import FaultyStore

FIRST = Tail(LOG, TOPIC, 0)


def test_a_chain_without_segments_has_no_tail() -> None:
    assert find_tail(MemoryStore(), TOPIC, 0) is None


def test_the_tail_follows_the_last_segment() -> None:
    store = MemoryStore()
    tail = chain(store, range(3), range(3, 5))
    assert find_tail(store, TOPIC, 0) == tail
    assert (tail.expected_offset, tail.last_offset) == (5, 4)
    assert tail.key == segment_key(TOPIC, 0, 3)
    assert tail.next_key == segment_key(TOPIC, 0, 5)


def test_objects_that_are_no_segments_are_no_tail() -> None:
    store = MemoryStore()
    tail = chain(store, range(3))
    store.put(tail.key + ".bak", b"")
    assert find_tail(store, TOPIC, 0) == tail


def test_a_hint_shortens_the_listing_and_a_wrong_hint_is_corrected() -> None:
    store = FaultyStore(MemoryStore())
    tail = chain(store, *(range(at, at + 1) for at in range(20)))
    assert find_tail(store, TOPIC, 0, hint=segment_key(TOPIC, 0, 17)) == tail
    assert len(store.listed) == 2
    assert find_tail(store, TOPIC, 0, hint=segment_key(TOPIC, 0, 999)) == tail


def test_a_damaged_tail_is_refused_by_its_key() -> None:
    store = MemoryStore()
    tail = chain(store, range(3))
    store.put(tail.key, store.get(tail.key)[:-1])
    with pytest.raises(ArchiveBroken, match=r"\+0\+0{20}\.avro: damaged"):
        find_tail(store, TOPIC, 0)


def test_of_two_writers_one_wins_and_the_other_learns_the_tail() -> None:
    store = MemoryStore()
    won = append_segment(store, FIRST, draft(range(4)))
    assert isinstance(won, Stored)
    assert append_segment(store, FIRST, draft(range(2))) == Lost(won.tail)
    later = chain(store, range(4, 9), tail=won.tail)
    assert append_segment(store, FIRST, draft(range(2))) == Lost(later)


def test_a_lost_answer_is_resolved_by_reading() -> None:
    store = FaultyStore(MemoryStore())
    store.fail_after = True
    with pytest.raises(StoreUnavailable):
        append_segment(store, FIRST, draft(range(4)))
    assert isinstance(append_segment(store, FIRST, draft(range(4))), Stored)
    store.fail_after = True
    tail = find_tail(store, TOPIC, 0)
    assert tail is not None
    with pytest.raises(StoreUnavailable):
        append_segment(store, tail, draft(range(4, 6)))
    assert isinstance(append_segment(store, tail, draft(range(4, 8))), Lost)


def _bus(values: Iterable[bytes], clock: ManualClock | None = None) -> MemoryBus:
    clock = clock or ManualClock()
    bus = MemoryBus(clock, partitions=1)
    bus.create(TOPIC)
    for value in values:
        clock.advance(1)
        bus.append([NewRecord(TOPIC, value)])
    return bus


class RestoredBus(MemoryBus):
    """Restores a bus: the same log id, and the records up to the back-up."""

    def __init__(self, clock: ManualClock, log_id: str) -> None:
        super().__init__(clock, partitions=1)
        self.saved_id = log_id

    @property
    def log_id(self) -> str:
        return self.saved_id


def _restored(bus: MemoryBus, end: int, new: Iterable[bytes], clock: ManualClock) -> MemoryBus:
    """Makes the bus as it was with `end` records, and appends others."""
    past = ManualClock()
    again = RestoredBus(past, bus.log_id)
    again.create(TOPIC)
    for record in bus.read(TopicPartition(TOPIC, 0), 0).records[:end]:
        past.step((record.timestamp - past.now()) / 1000)
        again.append([NewRecord(TOPIC, record.value)])
    for value in new:
        clock.advance(1)
        past.step((clock.now() - past.now()) / 1000)
        again.append([NewRecord(TOPIC, value)])
    return again


def _archive(store: MemoryStore, bus: MemoryBus, size: int = 4) -> None:
    """Archives every record on the bus after the tail."""
    partition = TopicPartition(TOPIC, 0)
    tail = find_tail(store, *partition) or Tail(bus.log_id, *partition)
    check_bus(bus, tail)
    while records := bus.read(partition, tail.expected_offset, size).records:
        outcome = append_segment(store, tail, Draft(records, records[-1].offset + 1))
        assert isinstance(outcome, Stored)
        tail = outcome.tail


def test_a_bus_with_the_archived_records_is_accepted() -> None:
    store, bus = MemoryStore(), _bus([b"a", b"b"])
    _archive(store, bus)
    bus.append([NewRecord(TOPIC, b"c")])
    _archive(store, bus)
    bus.truncate(TopicPartition(TOPIC, 0), 3)
    _archive(store, bus)
    assert verify(store).records == 3


def test_a_recreated_bus_is_refused() -> None:
    store = MemoryStore()
    _archive(store, _bus([b"a", b"b"]))
    with pytest.raises(
        ArchiveBroken, match=rf"{TOPIC}:0: was archived from the bus with log id .*archive new-epoch {TOPIC}"
    ):
        _archive(store, _bus([b"a", b"b", b"c"]))


def test_a_shorter_bus_is_refused() -> None:
    store, clock = MemoryStore(), ManualClock()
    bus = _bus([b"a", b"b", b"c"], clock)
    _archive(store, bus)
    with pytest.raises(ArchiveBroken, match="up to offset 3, and the topic ends at 2"):
        _archive(store, _restored(bus, 2, [], clock))


def test_a_restored_bus_that_has_grown_again_is_refused() -> None:
    store, clock = MemoryStore(), ManualClock()
    bus = _bus([b"a", b"b", b"c"], clock)
    _archive(store, bus)
    with pytest.raises(ArchiveBroken, match="the record at offset 2 is not the one that was archived"):
        _archive(store, _restored(bus, 2, [b"x", b"y"], clock))


def test_an_epoch_of_a_new_bus_begins_at_its_first_offset() -> None:
    store = MemoryStore()
    old, new = _bus([b"a", b"b"]), _bus([b"x", b"y", b"z"])
    _archive(store, old)
    assert begin_epoch(store, new, TOPIC) == [segment_key(TOPIC, 0, 2)]
    _archive(store, new)
    assert [record.value for record in read_records(store)] == [b"a", b"b", b"x", b"y", b"z"]
    assert verify(store).sound
    with pytest.raises(ArchiveBroken, match="was archived from the bus with log id"):
        _archive(store, old)


def test_writers_of_the_old_epoch_lose_the_race_to_a_new_one() -> None:
    store = MemoryStore()
    old = _bus([b"a", b"b"])
    _archive(store, old)
    stale = find_tail(store, TOPIC, 0)
    assert stale is not None
    begin_epoch(store, _bus([b"x"]), TOPIC)
    outcome = append_segment(store, stale, draft([2]))
    assert isinstance(outcome, Lost)
    assert outcome.tail.epoch == 1


@pytest.mark.parametrize("end", range(11))
def test_an_epoch_of_a_restored_bus_begins_at_the_first_difference(end: int) -> None:
    store, clock = MemoryStore(), ManualClock()
    bus = _bus([b"%d" % number for number in range(10)], clock)
    _archive(store, bus, size=3)
    again = _restored(bus, end, [b"x"] * 12, clock)
    begun = begin_epoch(store, again, TOPIC)
    assert bool(begun) == (end < 10)
    _archive(store, again)
    values = [record.value for record in read_records(store)]
    assert values == [b"%d" % number for number in range(10)] + [b"x"] * 12
    assert verify(store).sound


def test_a_bus_restored_twice_is_compared_with_the_latest_epoch() -> None:
    store, clock = MemoryStore(), ManualClock()
    bus = _bus([b"%d" % number for number in range(10)], clock)
    _archive(store, bus, size=3)
    again = _restored(bus, 4, [b"x"] * 8, clock)
    begin_epoch(store, again, TOPIC)
    _archive(store, again, size=3)
    third = _restored(again, 8, [b"y"] * 8, clock)
    begin_epoch(store, third, TOPIC)
    _archive(store, third, size=3)
    last = [(info.epoch, info.expected_offset) for info in list_segments(store)][-1]
    assert last == (2, 14)
    assert [r.value for r in read_records(store)][10:] == [b"x"] * 8 + [b"y"] * 8
    earlier = _restored(third, 2, [b"z"] * 20, clock)
    begin_epoch(store, earlier, TOPIC)
    _archive(store, earlier)
    assert [r.value for r in read_records(store)][26:] == [b"z"] * 20
    assert verify(store).sound


def test_a_new_epoch_changes_no_chain_that_matches_the_bus() -> None:
    store, bus = MemoryStore(), _bus([b"a"])
    _archive(store, bus)
    assert begin_epoch(store, bus, TOPIC) == []
    with pytest.raises(NotFound, match="rejects"):
        begin_epoch(store, bus, "rejects")


def test_a_chain_of_any_epoch_goes_on_from_any_hint() -> None:
    store = MemoryStore()
    for number in range(3):
        bus = _bus([b"%d" % number] * (number + 2))
        if number:
            begin_epoch(store, bus, TOPIC)
        _archive(store, bus, size=1)
    tail = find_tail(store, TOPIC, 0)
    assert tail is not None
    assert (tail.epoch, tail.expected_offset) == (2, 4)
    assert all(find_tail(store, TOPIC, 0, hint=info.key) == tail for info in list_segments(store))
