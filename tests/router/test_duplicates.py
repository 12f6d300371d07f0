"""Duplicates, compared with a model that searches the whole topic, and how the router handles them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.base import Bus
from heliograph.bus.memory import MemoryBus
from heliograph.bus.open import open_bus
from heliograph.operations.subscriptions import apply
from heliograph.operations.why import explain_routing
from router import duplicates as duplicates_module
from router.duplicates import WINDOW, Duplicates, find_original
from router.events import Router
from schemas.clock import ManualClock
from schemas.errors import DuplicateEvent
from schemas.record import NewRecord, Position, Record, TopicPartition
from schemas.topics import DELIVERIES, REJECTS
from tests.acceptance.product import EXAMPLES
from tests.router.deliver.engine import records
from tests.router.events import KINDS, event, event_record, subscription
from tests.router.test_loop import counted, deliveries

TOPIC = "events.ecs.instance"
PARTITION = TopicPartition(TOPIC, 0)
SPAN = 20
"""Window in seconds of the tests with a model."""
FAR = 6
"""`REACH` in those tests."""

streams = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0, 0, 1, 5, 15])), max_size=60)
"""Appends: a value, and the seconds that pass before it."""


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(ManualClock(), partitions=1)


@pytest.fixture
def router(bus: MemoryBus) -> Iterator[Router]:
    router = Router(bus)
    yield router
    router.close()


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_module, "_PAGE", 3)


def log_of(stream: list[tuple[int, int]]) -> tuple[MemoryBus, list[Record]]:
    clock = ManualClock()
    bus = MemoryBus(clock, partitions=1)
    for value, passes in stream:
        clock.advance(passes)
        bus.append([NewRecord(TOPIC, b"%d" % value)])
    return bus, records(bus, TOPIC)


def repeated(bus: Bus, position: Position) -> str:
    """Returns the event that this one repeats, as `events why` reports it."""
    with pytest.raises(DuplicateEvent) as raised:
        explain_routing(bus, position)
    return raised.value.earlier


def modelled(topic: list[Record], record: Record) -> Position | None:
    """Returns the position of the last earlier record with the same bytes, if it is within reach and window."""
    same = [one for one in topic[: record.offset] if one.value == record.value]
    if (
        not same
        or record.timestamp - same[-1].timestamp > SPAN * 1000
        or record.offset - same[-1].offset > FAR
    ):
        return None
    return same[-1].position


@given(stream=streams, restarts=st.sets(st.integers(0, 59)))
def test_every_reader_finds_the_duplicates_of_the_model(
    stream: list[tuple[int, int]], restarts: set[int]
) -> None:
    bus, log = log_of(stream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates_module, "REACH", FAR)
        found = Duplicates(bus, SPAN)
        for record in log:
            if record.offset in restarts:
                found = Duplicates(bus, SPAN)
            elif record.offset % 7 == 3:
                found.drop_partitions([PARTITION])
            expected = modelled(log, record)
            assert found.find_duplicates([record]).get(record.position) == expected
            assert find_original(bus, record, SPAN) == expected


@given(stream=streams, batch=st.integers(1, 60))
def test_batches_of_any_size_find_the_same_duplicates(stream: list[tuple[int, int]], batch: int) -> None:
    bus, log = log_of(stream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates_module, "REACH", FAR)
        duplicates = Duplicates(bus, SPAN)
        found: dict[Position, Position] = {}
        for first in range(0, len(log), batch):
            found |= duplicates.find_duplicates(log[first : first + batch])
    expected = {record.position: modelled(log, record) for record in log}
    assert found == {position: before for position, before in expected.items() if before is not None}


@given(stream=streams)
def test_hashes_that_collide_make_no_duplicates(stream: list[tuple[int, int]]) -> None:
    bus, log = log_of(stream)

    def poor(value: bytes) -> int:
        return value[0] % 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates_module, "hash", poor, raising=False)
        patch.setattr(duplicates_module, "REACH", FAR)
        found = Duplicates(bus, SPAN)
        for record in log:
            assert found.find_duplicates([record]).get(record.position) in {None, modelled(log, record)}


def test_a_record_is_no_duplicate_of_one_that_the_bus_has_deleted(bus: MemoryBus) -> None:
    bus.append([NewRecord(TOPIC, b"x"), NewRecord(TOPIC, b"x")])
    first, second = records(bus, TOPIC)
    found = Duplicates(bus, WINDOW)
    assert found.find_duplicates([first]) == {}
    bus.truncate(PARTITION, 1)
    assert found.find_duplicates([second]) == {}
    assert find_original(bus, second, WINDOW) is None


def test_a_window_of_zero_finds_no_duplicates(bus: MemoryBus) -> None:
    bus.append([NewRecord(TOPIC, b"x"), NewRecord(TOPIC, b"x")])
    assert Duplicates(bus, 0.0).find_duplicates(records(bus, TOPIC)) == {}
    for record in records(bus, TOPIC):
        assert find_original(bus, record, 0.0) is None


def test_records_of_different_partitions_are_no_duplicates() -> None:
    bus = MemoryBus(ManualClock(), partitions=2)
    bus.append([NewRecord(TOPIC, b"x", partition=number) for number in (0, 1, 1)])
    found = Duplicates(bus, WINDOW).find_duplicates(records(bus, TOPIC))
    assert found == {Position(TOPIC, 1, 1): Position(TOPIC, 1, 0)}


def test_a_duplicate_goes_to_rejects_with_the_position_of_its_original(
    bus: MemoryBus, router: Router
) -> None:
    rejected = counted("heliograph_rejected_total", where="router")
    routed = counted("heliograph_routed_total", topic="events.repeated")
    apply(bus, [subscription()], KINDS)
    first, second, third = bus.append([event_record(topic="events.repeated") for _ in range(3)])
    router.step(0)
    (made,) = deliveries(bus)
    assert made.source == first
    kept = [dict(record.headers) for record in records(bus, REJECTS)]
    assert [one["reason"] for one in kept] == [
        b"duplicate of %b" % str(one).encode() for one in (first, second)
    ]
    assert [one["where"] for one in kept] == [b"router %b" % str(one).encode() for one in (second, third)]
    assert {record.value for record in records(bus, REJECTS)} == {event()}
    assert counted("heliograph_duplicates_total", topic="events.repeated") == 2
    assert counted("heliograph_routed_total", topic="events.repeated") - routed == 1
    assert counted("heliograph_rejected_total", where="router") == rejected
    assert [repeated(bus, one) for one in (second, third)] == [str(first), str(second)]
    (explained,) = explain_routing(bus, first)
    assert explained.deliveries == [("all-target", made.id)]


def test_events_with_the_same_id_name_and_time_but_other_bytes_are_routed(
    bus: MemoryBus, router: Router
) -> None:
    apply(bus, [subscription()], KINDS)
    values = [event(), event(level="WARN"), event().replace(b'"INFO"', b' "INFO"')]
    bus.append([event_record(value) for value in values])
    router.step(0)
    assert [one.event for one in deliveries(bus)] == values


def test_an_event_repeated_after_the_window_is_routed_again() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock, partitions=1)
    apply(bus, [subscription()], KINDS)
    router = Router(bus)
    for passes in (0, WINDOW, WINDOW + 0.001, 1):
        clock.advance(passes)
        bus.append([event_record()])
        router.step(0)
    assert [one.source.offset for one in deliveries(bus)] == [0, 2]
    router.close()


def test_an_event_read_again_after_a_crash_is_no_duplicate(bus: MemoryBus) -> None:
    """Events that a router read and did not commit are read again and routed."""
    apply(bus, [subscription()], KINDS)
    bus.append([event_record(), event_record(event(id="E-2")), event_record()])
    for _ in range(2):
        router = Router(bus)
        router._consumer.poll(100)  # pyright: ignore[reportPrivateUsage]
        (member,) = bus.members("router")
        bus.kill(member)
    router = Router(bus)
    router.step(0)
    assert [one.source.offset for one in deliveries(bus)] == [0, 1]
    router.close()


def test_why_uses_the_window_that_the_event_was_routed_with(bus: MemoryBus) -> None:
    apply(bus, [subscription()], KINDS)
    positions: list[Position] = []
    for window in (0.0, WINDOW, 0.0):
        router = Router(bus, window)
        positions += bus.append([event_record()])
        router.step(0)
        router.close()
    assert [one.source for one in deliveries(bus)] == [positions[0], positions[2]]
    assert repeated(bus, positions[1]) == str(positions[0])
    for position in (positions[0], positions[2]):
        assert len(explain_routing(bus, position)) == 1


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the official examples are not beside this checkout")
def test_official_examples_that_share_id_name_and_time_are_no_duplicates(
    bus: MemoryBus, router: Router
) -> None:
    values = [path.read_bytes().strip() for path in sorted(EXAMPLES.glob("*.json"))]
    known = [tuple(orjson.loads(value)[key] for key in ("id", "name", "eventTime")) for value in values]
    assert len(set(known)) < len(values)
    apply(bus, [subscription()], KINDS)
    bus.append([NewRecord("events.other", value, b"k") for value in values])
    router.step(0)
    assert sorted(one.event for one in deliveries(bus)) == sorted(values)
    assert records(bus, REJECTS) == []


def test_the_sqlite_bus_finds_duplicates_after_a_restart(tmp_path: Path) -> None:
    with closing(open_bus(f"sqlite://{tmp_path}/bus.db")) as log:
        apply(log, [subscription()], KINDS)
        first, second = log.append([event_record(), event_record()])
        router = Router(log)
        while log.lag("router").get(first.topic_partition, (0, 0))[0] < 2:
            router.step(0.1)
        router.close()
        assert sum(extent.end for extent in log.extents(DELIVERIES).values()) == 1
        assert repeated(log, second) == str(first)
