"""Why an event went where it went."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from heliograph.bus.base import Extent
from heliograph.bus.memory import MemoryBus
from heliograph.operations import why as why_module
from heliograph.operations.subscriptions import apply, delete
from heliograph.operations.why import find_event, why
from router.events import Router
from schemas.clock import ManualClock
from schemas.delivery import read_delivery
from schemas.errors import InvalidNotification, NotFound
from schemas.record import NewRecord, Position, TopicPartition
from schemas.topics import DELIVERIES
from tests.router.events import KINDS, event, event_record, subscription


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(ManualClock(), partitions=2)


def routed(bus: MemoryBus, *records: NewRecord) -> list[Position]:
    """Append, and route all there is."""
    positions = bus.append(records)
    router = Router(bus)
    router.step(0)
    router.close()
    return list(positions)


def test_each_subscription_says_what_became_of_the_event(bus: MemoryBus) -> None:
    wanted = [subscription("yes"), subscription("no", levels=["CRITICAL"], names=["Disk:*"])]
    version = apply(bus, wanted, KINDS).version
    (position,) = routed(bus, event_record())
    yes, no = why(bus, position)
    (delivery,) = (
        read_delivery(record)
        for partition in bus.extents(DELIVERIES)
        for record in bus.read(partition, 0).records
    )
    assert (yes.subscription, yes.version, yes.matched, yes.because) == ("yes", version, True, "")
    assert yes.deliveries == [("yes-target", delivery.id)]
    assert (no.subscription, no.matched, list(no.deliveries)) == ("no", False, [])
    assert no.failed is not None
    assert no.because == "levels: wanted CRITICAL, found INFO"


def test_the_answer_is_of_the_version_that_the_event_was_routed_under(bus: MemoryBus) -> None:
    apply(bus, [subscription("early")], KINDS)
    (first,) = routed(bus, event_record())
    delete(bus, "early")
    apply(bus, [subscription("late")], KINDS)
    (second,) = routed(bus, event_record(event(id="E-2")))
    assert [one.subscription for one in why(bus, first)] == ["early"]
    assert [one.subscription for one in why(bus, second)] == ["late"]


def test_what_is_not_routed_yet(bus: MemoryBus) -> None:
    (position,) = bus.append([event_record()])
    with pytest.raises(NotFound, match="not routed yet"):
        why(bus, position)
    routed(bus)
    assert why(bus, position) == []
    (later,) = bus.append([event_record()])
    with pytest.raises(NotFound, match="not routed yet"):
        why(bus, later)


@pytest.mark.parametrize(
    "position",
    [Position("events.ecs.instance", 0, 99), Position("events.none", 0, 0), Position("deliveries", 0, 0)],
)
def test_a_position_without_an_event(bus: MemoryBus, position: Position) -> None:
    apply(bus, [subscription()], KINDS)
    routed(bus, event_record())
    with pytest.raises(NotFound, match="holds no event"):
        why(bus, position)


def test_what_was_rejected_says_why(bus: MemoryBus) -> None:
    (position,) = routed(bus, NewRecord("events.other", event(level="FATAL")))
    with pytest.raises(InvalidNotification, match="level"):
        why(bus, position)


def test_events_are_found_by_id_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    bus = MemoryBus(clock, partitions=2)
    monkeypatch.setattr(why_module, "_BATCH", 3)
    positions: list[Position] = []
    for number in range(20):
        clock.advance(1)
        topic = "events.other" if number % 2 else "events.ecs.disk"
        values = [event(id="wanted" if number % 5 == 0 else f"wanted-{number}"), b"poison wanted"]
        positions += bus.append([event_record(value, topic, b"%d" % number) for value in values])[:1]
    found = find_event(bus, "wanted")
    assert [one.position for one in found] == [positions[number] for number in (15, 10, 5, 0)]
    assert find_event(bus, "poison") == []
    assert find_event(MemoryBus(), "wanted") == []


class Forgetful(MemoryBus):
    """Has lost more by the time of the read than when it was asked for its extents."""

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        return {partition: Extent(0, extent.end) for partition, extent in super().extents(topic).items()}


def test_an_event_is_found_once_though_records_before_it_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why_module, "_BATCH", 3)
    bus = Forgetful(ManualClock(), partitions=1)
    bus.append([event_record(event(id=f"E-{number}")) for number in range(8)])
    bus.truncate(TopicPartition("events.ecs.instance", 0), 4)
    assert [len(find_event(bus, f"E-{number}")) for number in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_an_id_is_found_behind_the_escapes_of_json(bus: MemoryBus) -> None:
    bus.append([event_record(event(id="a/ü").replace("a/ü".encode(), b"\\u0061\\/\\u00fc"))])
    assert len(find_event(bus, "a/ü")) == 1
