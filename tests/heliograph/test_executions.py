"""Execution records, read from topic and archive, and delivered later on request."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from archiver.format.segment import Draft
from archiver.write.chain import Stored, Tail, append_segment
from heliograph.bus.memory import MemoryBus
from heliograph.operations.delivery_settings import put
from heliograph.operations.executions import RecordFilter, deliver_since, read_records
from heliograph.store.memory import MemoryStore
from router.executions import ExecutionRouter
from schemas.clock import ManualClock
from schemas.execution import Key
from schemas.record import NewRecord, TopicPartition
from tests.executions import command, file
from tests.router.test_delivery_settings import settings
from tests.router.test_executions import made


def append(bus: MemoryBus, *values: bytes) -> None:
    bus.append([NewRecord("executions", value, b"i-0") for value in values])


def archived(bus: MemoryBus, log_id: str = "") -> MemoryStore:
    """Archives the execution records that the bus holds."""
    store = MemoryStore()
    for partition, extent in bus.extents("executions").items():
        records = bus.read(partition, 0).records
        if records:
            tail = Tail(log_id or bus.log_id, partition.topic, partition.partition)
            assert isinstance(append_segment(store, tail, Draft(records, extent.end)), Stored)
    return store


ALL = RecordFilter()


def keys(bus: MemoryBus, store: MemoryStore, wanted: RecordFilter = ALL) -> Sequence[Key]:
    return [one.execution.key for one in read_records(bus, store, wanted)]


def test_each_run_is_listed_once_with_its_first_final_record() -> None:
    bus = MemoryBus()
    running = {"InvocationStatus": "Running", "FinishedTime": "", "ExitCode": None}
    append(bus, command(1, **running), b"{}", command(1), command(1, Output="late"), command(0), file(2))
    append(bus, command(3, **running), command(3, Output="more", **running))
    found = {one.execution.key.invoke_id: one for one in read_records(bus, MemoryStore(), RecordFilter())}
    assert set(found) == {"t-0", "t-1", "f-2", "t-3"}
    assert found["t-1"].record.value == command(1)
    assert found["t-3"].record.value == command(3, Output="more", **running)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (RecordFilter(), {"t-0", "t-1", "f-2"}),
        (RecordFilter(invoke_id="t-1"), {"t-1"}),
        (RecordFilter(instance_id="i-2"), {"f-2"}),
        (RecordFilter(region="cn-beijing"), {"t-1"}),
        (RecordFilter(invoke_id="t-1", region="cn-hangzhou"), set[str]()),
        (RecordFilter(invoke_id="t"), set[str]()),
        (RecordFilter(invoke_id="\udcff"), set[str]()),
    ],
)
def test_a_filter_selects_by_execution_instance_and_region(wanted: RecordFilter, expected: set[str]) -> None:
    bus = MemoryBus()
    append(bus, command(0), command(1, RegionId="cn-beijing"), file(2))
    assert {invoke_id for invoke_id, _, _ in keys(bus, MemoryStore(), wanted)} == expected


def test_an_id_with_json_escapes_is_found() -> None:
    bus = MemoryBus()
    append(bus, command(1).replace(b"t-1", b"\\u0074-1"))
    assert keys(bus, MemoryStore(), RecordFilter(invoke_id="t-1")) == [("t-1", "i-1", 1)]


def test_since_leaves_out_earlier_records() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock=clock)
    append(bus, command(0))
    clock.advance(60)
    now = clock.now()
    append(bus, command(1))
    assert keys(bus, MemoryStore(), RecordFilter(since=now)) == [("t-1", "i-1", 1)]


def test_records_that_only_the_archive_holds_are_listed() -> None:
    gone = MemoryBus()
    append(gone, command(0), command(1))
    store = archived(gone, "another log")
    bus = MemoryBus()
    append(bus, command(2))
    assert [key[0] for key in keys(bus, store)] == ["t-0", "t-1", "t-2"]


class Reading(MemoryStore):
    """A store that counts the objects that are read."""

    reads = 0

    def get(self, key: str) -> bytes:
        self.reads += 1
        return super().get(key)


def test_records_that_the_topic_holds_are_not_read_from_the_archive() -> None:
    bus = MemoryBus()
    append(bus, *(command(number) for number in range(3)))
    store = Reading()
    for info in (archive := archived(bus)).list(""):
        store.put(info.key, archive.get(info.key))
    assert len(keys(bus, store)) == 3
    assert store.reads == 1, "only the header, which names the log id"


def test_earlier_records_are_delivered_under_the_ids_that_routing_gives_them() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock=clock)
    append(bus, command(0))
    clock.advance(60)
    since = clock.now()
    append(bus, command(1), command(2, RegionId="cn-beijing"), command(3, InvocationStatus="Running"))
    put(bus, settings("cn-hangzhou"))
    assert deliver_since(bus, MemoryStore(), settings("cn-hangzhou"), since) == 1
    before = made(bus)
    role = ExecutionRouter(bus)
    role.step(0.0)
    role.close()
    after = made(bus)
    assert [one.event for one in before] == [command(1)]
    assert {one.id for one in before} < {one.id for one in after}
    assert {one.event for one in after} == {command(0), command(1)}


def test_records_in_both_topic_and_archive_are_delivered_once() -> None:
    bus = MemoryBus(partitions=1)
    append(bus, *(command(number) for number in range(3)))
    store = archived(bus)
    bus.truncate(TopicPartition("executions", 0), 1)
    put(bus, settings("cn-hangzhou"))
    assert deliver_since(bus, store, settings("cn-hangzhou"), 0) == 3
    assert len({one.id for one in made(bus)}) == len(made(bus)) == 3


def test_records_of_two_buses_at_one_position_are_two_deliveries() -> None:
    gone, bus = MemoryBus(), MemoryBus()
    append(gone, command(0))
    append(bus, command(1))
    put(bus, settings("cn-hangzhou"))
    assert deliver_since(bus, archived(gone, "another log"), settings("cn-hangzhou"), 0) == 2
    found = made(bus)
    assert {one.source for one in found} == {found[0].source}
    assert len({one.id for one in found}) == 2
