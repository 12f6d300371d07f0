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
from tests.heliograph.operations.redriving import DeploymentParts, letter
from tests.router.deliver.engine import records

REDRIVE = Redrive(id="20260101-000000-000001", selection=LetterFilter(), rate=1000)


def numbers(history: History, since: int = 0) -> list[str]:
    """The delivery ids of all letters that are read, with repeats."""
    return [read_delivery(record).id for _, record in history.read(DEAD_LETTERS, since)]


def ids(*found: int) -> list[str]:
    return [letter(number).id for number in found]


def test_records_that_the_bus_lost_are_read_from_the_archive() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(8)))
    parts.archive_and_truncate()
    parts.end_as_dead(letter(8))
    history = parts.history()
    assert sorted(numbers(history)) == sorted(ids(*range(9)))
    assert [record.header("delivery") for info, record in history.read(DEAD_LETTERS) if info is None] == [
        letter(8).id.encode()
    ]
    assert [one.id for one in parts.listed()] == ids(*range(9))
    assert len([one for one in parts.listed() if one.segment]) == 8


def test_records_that_the_bus_has_are_not_read_from_the_archive() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(8)))
    ends = extent_ends(parts.bus)
    parts.archive()
    assert list(parts.history().archived(DEAD_LETTERS)) == []
    (partition, end) = max(ends.items(), key=lambda one: one[1])
    parts.bus.truncate(partition, end - 1)
    removed = [record.offset for _, record in parts.history().archived(DEAD_LETTERS)]
    assert removed[: end - 1] == list(range(end - 1)), (
        "segments are read whole: records that the bus has too come twice"
    )
    assert len(parts.listed()) == 8


def test_since_and_until_bound_the_time_of_death() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(4)))
    parts.archive_and_truncate()
    parts.clock.advance(10)
    since = parts.clock.now()
    parts.end_as_dead(letter(5))
    parts.archive_and_truncate()
    assert numbers(parts.history(), since) == ids(5)
    assert [one.id for one in parts.listed(LetterFilter(since=since))] == ids(5)
    assert [one.id for one in parts.listed(LetterFilter(until=since))] == ids(0, 1, 2, 3)


def test_archived_letters_are_redriven_unless_an_archived_verdict_settles_them() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(4)))
    parts.append_verdicts(VerdictState.DROPPED, letter(0))
    parts.append_verdicts(VerdictState.DELIVERED, letter(1))
    parts.archive_and_truncate()
    assert parts.redrive(REDRIVE).counts[RedriveResult.SENT] == 2
    assert sorted(one.id for one in parts.appended()) == sorted(ids(2, 3))
    parts.end(lambda _: True)
    parts.archive_and_truncate()
    assert parts.listed() == []


def test_letters_of_a_lost_bus_are_found_in_the_archive() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1))
    parts.archive_and_truncate()
    lost = parts.bus
    parts.bus = type(lost)(parts.clock, partitions=2)
    parts.bus.create(DEAD_LETTERS)
    parts.bus.create(VERDICTS)
    assert [one.id for one in parts.listed()] == ids(1)
    begin_epoch(parts.store, parts.bus, DEAD_LETTERS)
    assert [one.id for one in parts.listed()] == ids(1)
    parts.end_as_dead(letter(2))
    assert [one.id for one in parts.listed()] == ids(1, 2)


def test_an_unreadable_archive_leaves_the_records_of_the_bus() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1))
    parts.archive_and_truncate()
    parts.end_as_dead(letter(2))
    parts.store.down = True
    history = parts.history()
    assert numbers(history) == ids(2)
    assert "down" in history.problem
    assert parts.history().problem == ""


def test_a_record_of_a_removed_segment_is_not_fetched() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(letter(1))
    parts.archive_and_truncate()
    plan = parts.plan(REDRIVE)
    for info in list_segments(parts.store, DEAD_LETTERS):
        parts.store.delete(info.key)
    history = parts.history()
    (one,) = plan.find_letters(RedriveResult.SENT)
    assert one.segment
    assert history.fetch(one.segment, one.offset) is None
    assert history.problem


def test_an_archived_record_is_found_by_its_position() -> None:
    parts = DeploymentParts()
    parts.end_as_dead(*map(letter, range(8)))
    everything = records(parts.bus, DEAD_LETTERS)
    parts.archive_and_truncate()
    history = parts.history()
    assert [history.find_archived(record.position) for record in everything] == everything
    partition, end = max(extent_ends(parts.bus).items(), key=lambda one: one[1])
    assert history.find_archived(Position(*partition, end)) is None
    assert history.find_archived(Position("events.none", 0, 0)) is None
    lost = type(parts.bus)(parts.clock, partitions=2)
    assert History(lost, lambda: parts.store).find_archived(everything[0].position) is None, "of another bus"
    parts.store.down = True
    assert history.find_archived(everything[0].position) is None
    assert "down" in history.problem


def extent_ends(bus: MemoryBus) -> dict[TopicPartition, int]:
    return {partition: extent.end for partition, extent in bus.extents(DEAD_LETTERS).items()}


def test_an_empty_history_has_no_records() -> None:
    assert list(DeploymentParts().history().read(DEAD_LETTERS)) == []
    assert list(History(MemoryBus(), lambda: DeploymentParts().store).read(DEAD_LETTERS)) == []
