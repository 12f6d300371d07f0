"""The edge: validation, topics and batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import repeat

import pytest
from prometheus_client import REGISTRY

from heliograph.bus.memory import MemoryBus
from producers.edge import Edge
from producers.examples import EXAMPLES
from schemas.errors import BusFull, InvalidNotification
from schemas.record import CHECKED, FORMAT, NewRecord, Position, Record, TopicPartition


def stored(bus: MemoryBus, topic: str) -> list[Record]:
    partitions = range(bus.topics().get(topic, 0))
    return [record for p in partitions for record in bus.read(TopicPartition(topic, p), 0).records]


def changed(**fields: object) -> bytes:
    return json.dumps({**json.loads(EXAMPLES[0]), **fields}).encode()


def rejected() -> float:
    return REGISTRY.get_sample_value("heliograph_rejected_total", {"where": "edge"}) or 0.0


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


def test_every_example_is_appended_unchanged_to_the_topic_of_its_resource_type(bus: MemoryBus) -> None:
    submitted = Edge(bus).submit(EXAMPLES)
    assert (submitted.accepted, submitted.rejected, submitted.problems) == (len(EXAMPLES), 0, ())
    for topic, resource_type in (
        ("events.ecs.instance", "Instance"),
        ("events.ecs.disk", "Disk"),
        ("events.ecs.snapshot", "Snapshot"),
        ("events.ecs.networkinterface", "NetworkInterface"),
    ):
        expected = [value for value in EXAMPLES if json.loads(value)["name"].startswith(f"{resource_type}:")]
        assert expected
        assert sorted(record.value for record in stored(bus, topic)) == sorted(expected)


def test_a_record_has_the_resource_as_key_and_routing_fields_as_headers() -> None:
    record = Edge(MemoryBus()).build_record(EXAMPLES[1])
    assert record.key == b"acs:ecs:cn-beijing:200000000042:instance/i-2ze000000000000heli"
    assert dict(record.headers) == {
        FORMAT: b"1",
        CHECKED: b"1",
        "product": b"ECS",
        "level": b"CRITICAL",
        "name": b"Instance:SystemMaintenance.Reboot:Scheduled",
    }


@pytest.mark.parametrize(
    ("fields", "extra", "topic"),
    [
        ({"name": "Image:StateChange"}, [], "events.other"),
        ({"name": "Image:StateChange"}, ["events.ecs.*"], "events.ecs.image"),
        ({"product": "RDS", "name": "Instance_Failover"}, ["events.rds.instance"], "events.rds.instance"),
        ({"product": "ecs"}, [], "events.ecs.instance"),
        (
            {"product": "X", "name": "Bound", "resourceId": "acs:ecs:r:1:eni/e"},
            ["events.x.*"],
            "events.x.networkinterface",
        ),
    ],
)
def test_other_products_and_types_use_their_topic_if_it_is_allowed(
    fields: dict[str, object], extra: Sequence[str], topic: str
) -> None:
    assert Edge(MemoryBus(), extra).build_record(changed(**fields)).topic == topic


def test_a_rejected_input_is_kept_and_the_rest_is_accepted(bus: MemoryBus) -> None:
    before = rejected()
    submitted = Edge(bus).submit([EXAMPLES[0], b"hello", changed(level="LOUD"), EXAMPLES[1]])
    assert (submitted.accepted, submitted.rejected) == (2, 2)
    assert submitted.problems[1].startswith("item 3: level: ")
    rejects = {record.value: dict(record.headers) for record in stored(bus, "rejects")}
    assert rejects[b"hello"]["reason"].startswith(b"notification: not JSON")
    assert rejects[changed(level="LOUD")]["where"] == b"edge, item 3"
    assert rejected() - before == 2


def test_building_one_record_raises_with_the_wrong_field() -> None:
    with pytest.raises(InvalidNotification, match=r"^level: "):
        Edge(MemoryBus()).build_record(changed(level="LOUD"))


class FullAfter(MemoryBus):
    """A bus that is full after `appends` appends."""

    def __init__(self, appends: int) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._appends = appends

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if len(self.sizes) == self._appends:
            raise BusFull("the disk is full")
        self.sizes.append(len(records))
        return super().append(records)


def test_input_is_appended_in_batches_and_progress_is_reported() -> None:
    bus, told = FullAfter(10), list[int]()
    submitted = Edge(bus).submit(repeat(EXAMPLES[0], 12_000), told.append)
    assert submitted.accepted == 12_000
    assert bus.sizes == [5000, 5000, 2000]
    assert told == [5000, 10_000, 12_000]


def test_batches_are_bounded_by_bytes() -> None:
    bus = FullAfter(10)
    large = changed(padding="x" * 200_000)
    Edge(bus).submit(repeat(large, 50))
    assert len(bus.sizes) == 3


def test_the_error_of_a_full_bus_says_where_to_resume() -> None:
    with pytest.raises(
        BusFull, match="the disk is full; the first 5000 values of the input were appended; resume after them"
    ):
        Edge(FullAfter(1)).submit(repeat(EXAMPLES[0], 7000))


def test_only_the_first_problems_are_listed(bus: MemoryBus) -> None:
    submitted = Edge(bus).submit(repeat(b"x", 100))
    assert submitted.rejected == 100
    assert len(submitted.problems) == 20


def test_an_empty_input_appends_nothing() -> None:
    bus = FullAfter(0)
    assert Edge(bus).submit([]).accepted == 0
