"""History: topics read from bus and archive together."""

from __future__ import annotations

from archiver.maintain.epochs import begin_epoch
from archiver.read.reader import list_segments
from heliograph.bus.memory import MemoryBus
from heliograph.operations.dead_letters import LetterFilter
from heliograph.operations.history import History
from heliograph.operations.redrive import Redrive, RedriveResult
from schemas.delivery import VerdictState, read_delivery
from schemas.record import Position, TopicPartition
from schemas.topics import DEAD_LETTERS, VERDICTS
from tests.heliograph.operations.redriving import Rig, letter
from tests.router.deliver.engine import records

REDRIVE = Redrive(id="20260101-000000-000001", selection=LetterFilter(), rate=1000)


def numbers(history: History, since: int = 0) -> list[str]:
    """The delivery ids of all letters that are read, with repeats."""
    return [read_delivery(record).id for _, record in history.read(DEAD_LETTERS, since)]


def ids(*found: int) -> list[str]:
    return [letter(number).id for number in found]


def test_records_that_the_bus_lost_are_read_from_the_archive() -> None:
    rig = Rig()
    rig.die(*map(letter, range(8)))
    rig.archive()
    rig.die(letter(8))
    history = rig.history()
    assert sorted(numbers(history)) == sorted(ids(*range(9)))
    assert [record.header("delivery") for info, record in history.read(DEAD_LETTERS) if info is None] == [
        letter(8).id.encode()
    ]
    assert [one.id for one in rig.listed()] == ids(*range(9))
    assert len([one for one in rig.listed() if one.segment]) == 8


def test_records_that_the_bus_has_are_not_read_from_the_archive() -> None:
    rig = Rig()
    rig.die(*map(letter, range(8)))
    ends = extent_ends(rig.bus)
    rig.archive_only()
    assert list(rig.history().archived(DEAD_LETTERS)) == []
    (partition, end) = max(ends.items(), key=lambda one: one[1])
    rig.bus.truncate(partition, end - 1)
    removed = [record.offset for _, record in rig.history().archived(DEAD_LETTERS)]
    assert removed[: end - 1] == list(range(end - 1)), (
        "segments are read whole: records that the bus has too come twice"
    )
    assert len(rig.listed()) == 8


def test_since_and_until_bound_the_time_of_death() -> None:
    rig = Rig()
    rig.die(*map(letter, range(4)))
    rig.archive()
    rig.clock.advance(10)
    since = rig.clock.now()
    rig.die(letter(5))
    rig.archive()
    assert numbers(rig.history(), since) == ids(5)
    assert [one.id for one in rig.listed(LetterFilter(since=since))] == ids(5)
    assert [one.id for one in rig.listed(LetterFilter(until=since))] == ids(0, 1, 2, 3)


def test_archived_letters_are_redriven_unless_an_archived_verdict_settles_them() -> None:
    rig = Rig()
    rig.die(*map(letter, range(4)))
    rig.settle(VerdictState.DROPPED, letter(0))
    rig.settle(VerdictState.DELIVERED, letter(1))
    rig.archive()
    assert rig.redrive(REDRIVE).counts[RedriveResult.SENT] == 2
    assert sorted(one.id for one in rig.appended()) == sorted(ids(2, 3))
    rig.end(lambda _: True)
    rig.archive()
    assert rig.listed() == []


def test_letters_of_a_lost_bus_are_found_in_the_archive() -> None:
    rig = Rig()
    rig.die(letter(1))
    rig.archive()
    lost = rig.bus
    rig.bus = type(lost)(rig.clock, partitions=2)
    rig.bus.create(DEAD_LETTERS)
    rig.bus.create(VERDICTS)
    assert [one.id for one in rig.listed()] == ids(1)
    begin_epoch(rig.store, rig.bus, DEAD_LETTERS)
    assert [one.id for one in rig.listed()] == ids(1)
    rig.die(letter(2))
    assert [one.id for one in rig.listed()] == ids(1, 2)


def test_an_unreadable_archive_leaves_the_records_of_the_bus() -> None:
    rig = Rig()
    rig.die(letter(1))
    rig.archive()
    rig.die(letter(2))
    rig.store.down = True
    history = rig.history()
    assert numbers(history) == ids(2)
    assert "down" in history.problem
    assert rig.history().problem == ""


def test_a_record_of_a_removed_segment_is_not_fetched() -> None:
    rig = Rig()
    rig.die(letter(1))
    rig.archive()
    plan = rig.plan(REDRIVE)
    for info in list_segments(rig.store, DEAD_LETTERS):
        rig.store.delete(info.key)
    history = rig.history()
    (one,) = plan.find_letters(RedriveResult.SENT)
    assert one.segment
    assert history.fetch(one.segment, one.offset) is None
    assert history.problem


def test_an_archived_record_is_found_by_its_position() -> None:
    rig = Rig()
    rig.die(*map(letter, range(8)))
    everything = records(rig.bus, DEAD_LETTERS)
    rig.archive()
    history = rig.history()
    assert [history.find_archived(record.position) for record in everything] == everything
    partition, end = max(extent_ends(rig.bus).items(), key=lambda one: one[1])
    assert history.find_archived(Position(*partition, end)) is None
    assert history.find_archived(Position("events.none", 0, 0)) is None
    lost = type(rig.bus)(rig.clock, partitions=2)
    assert History(lost, lambda: rig.store).find_archived(everything[0].position) is None, "of another bus"
    rig.store.down = True
    assert history.find_archived(everything[0].position) is None
    assert "down" in history.problem


def extent_ends(bus: MemoryBus) -> dict[TopicPartition, int]:
    return {partition: extent.end for partition, extent in bus.extents(DEAD_LETTERS).items()}


def test_an_empty_history_has_no_records() -> None:
    assert list(Rig().history().read(DEAD_LETTERS)) == []
    assert list(History(MemoryBus(), lambda: Rig().store).read(DEAD_LETTERS)) == []
