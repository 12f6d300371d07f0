"""Listing events and finding them by id or position."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from heliograph.bus.base import Extent
from heliograph.bus.memory import MemoryBus
from heliograph.operations import events as events_module
from heliograph.operations.events import ALL, EventFilter, find_by_id, find_events, list_events
from heliograph.operations.history import History
from schemas.clock import ManualClock
from schemas.errors import InputError, NotFound
from schemas.record import NewRecord, Position, TopicPartition
from tests.heliograph.operations.redriving import DeploymentParts
from tests.router.events import event, event_record


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(ManualClock(), partitions=2)


def test_a_filter_selects_events_by_each_field() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    arn = "acs:ecs:cn-hangzhou:1690:disk/d-9"
    bus.append([event_record(event(id="E-1")), NewRecord("events.other", b"junk")])
    clock.advance(1)
    disk = event(id="E-2", name="Disk:Stalled:Executing", level="CRITICAL", resourceId=arn)
    bus.append([event_record(disk, "events.ecs.disk")])

    def found(wanted: EventFilter = ALL) -> set[str]:
        return {one.routing.id for one in list_events(bus, wanted)}

    assert found() == {"E-1", "E-2"}
    for wanted in (
        EventFilter(level="CRITICAL"),
        EventFilter(name="Disk:*"),
        EventFilter(resource="d-9"),
        EventFilter(resource=arn),
        EventFilter(since=clock.now()),
    ):
        assert found(wanted) == {"E-2"}, wanted
    assert found(EventFilter(until=clock.now())) == {"E-1"}


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(InputError, match="level 'LOUD': expected CRITICAL, WARN, INFO"):
        EventFilter(level="LOUD")


def test_an_event_is_found_by_id_and_by_position(bus: MemoryBus) -> None:
    (position,) = bus.append([event_record(event(id="E-1"))])
    for key in ("E-1", str(position)):
        assert [one.position for one in find_events(History(bus), key)] == [position]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("E-9", "event 'E-9': not in the topics; find an archived event by its position"),
        ("events.other:0:9", "event 'events.other:0:9': not in the topics"),
        ("executions:0:0", "topic 'executions' holds no events"),
    ],
)
def test_an_unknown_event_is_not_found(bus: MemoryBus, key: str, problem: str) -> None:
    with pytest.raises(NotFound, match=problem):
        find_events(History(bus), key)


def test_an_unreadable_archive_is_named_if_an_event_is_not_found() -> None:
    parts = DeploymentParts()
    parts.store.down = True
    with pytest.raises(NotFound, match="the archive cannot be read"):
        find_events(parts.history(), "events.other:0:9")


def test_events_are_found_by_id_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    bus = MemoryBus(clock, partitions=2)
    monkeypatch.setattr(events_module, "_BATCH", 3)
    positions: list[Position] = []
    for number in range(20):
        clock.advance(1)
        topic = "events.other" if number % 2 else "events.ecs.disk"
        values = [event(id="wanted" if number % 5 == 0 else f"wanted-{number}"), b"poison wanted"]
        positions += bus.append([event_record(value, topic, b"%d" % number) for value in values])[:1]
    found = find_by_id(bus, "wanted")
    assert [one.position for one in found] == [positions[number] for number in (15, 10, 5, 0)]
    assert find_by_id(bus, "poison") == []
    assert find_by_id(MemoryBus(), "wanted") == []


class Forgetful(MemoryBus):
    """A bus whose extents include records that it has lost by the time of the read."""

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        return {partition: Extent(0, extent.end) for partition, extent in super().extents(topic).items()}


def test_an_event_behind_lost_records_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "_BATCH", 3)
    bus = Forgetful(ManualClock(), partitions=1)
    bus.append([event_record(event(id=f"E-{number}")) for number in range(8)])
    bus.truncate(TopicPartition("events.ecs.instance", 0), 4)
    assert [len(find_by_id(bus, f"E-{number}")) for number in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_an_escaped_id_is_found(bus: MemoryBus) -> None:
    bus.append([event_record(event(id="a/ü").replace("a/ü".encode(), b"\\u0061\\/\\u00fc"))])
    assert len(find_by_id(bus, "a/ü")) == 1
