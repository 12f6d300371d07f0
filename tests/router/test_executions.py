"""The routing of execution records to the stores of their region."""

from __future__ import annotations

from collections.abc import Sequence

import structlog.testing

from heliograph.bus.memory import MemoryBus
from heliograph.operations.delivery_settings import put
from router.deliveries import RecordDeliveries
from router.executions import ExecutionRouter
from schemas.delivery import Delivery, delivery_id, read_delivery
from schemas.execution import check_execution
from schemas.record import NewRecord, Record
from tests.executions import command, file
from tests.router.test_delivery_settings import settings

LOGS = {"project": "ops", "logstore": "runs"}


def append(bus: MemoryBus, *values: bytes) -> None:
    bus.append([NewRecord("executions", value, b"i-0") for value in values])


def route(bus: MemoryBus) -> None:
    role = ExecutionRouter(bus)
    role.step(0.0)
    assert not role.busy()
    role.close()


def all_of(bus: MemoryBus, topic: str) -> Sequence[Record]:
    return [one for partition in bus.extents(topic) for one in bus.read(partition, 0).records]


def made(bus: MemoryBus) -> list[Delivery]:
    return [read_delivery(record) for record in all_of(bus, "deliveries")]


def test_a_record_is_delivered_to_each_store_of_its_region_only() -> None:
    bus = MemoryBus()
    put(bus, settings("cn-beijing"))
    version = put(bus, settings("cn-hangzhou", logs=LOGS))
    value = command()
    append(bus, value)
    route(bus)
    found = made(bus)
    assert {one.target for one in found} == {"bucket@cn-hangzhou", "logs@cn-hangzhou"}
    for one in found:
        assert one.event == value
        assert one.subscription == "executions@cn-hangzhou"
        assert one.configuration == version
        assert one.resource == "acs:ecs:cn-hangzhou:1609982529920000:instance/i-0"
        assert one.id == delivery_id(bus.log_id, one.source, one.subscription, one.target)
        assert one.source.topic == "executions"


def test_changed_settings_apply_to_the_next_record() -> None:
    bus = MemoryBus()
    role = ExecutionRouter(bus)
    put(bus, settings("cn-hangzhou"))
    append(bus, command())
    role.step(0.0)
    put(bus, settings("cn-hangzhou", on=False))
    append(bus, command(1))
    role.step(0.0)
    role.close()
    assert [one.event for one in made(bus)] == [command()]


def test_only_final_records_are_delivered() -> None:
    bus = MemoryBus()
    put(bus, settings("cn-hangzhou"))
    running = {"InvocationStatus": "Running", "FinishedTime": "", "ExitCode": None}
    append(bus, command(**running), command(), file(1))
    route(bus)
    assert sorted(one.event for one in made(bus)) == sorted([command(), file(1)])


def test_records_of_a_region_without_settings_are_not_delivered_and_logged_once() -> None:
    bus = MemoryBus()
    append(bus, *(command(number) for number in range(3)))
    with structlog.testing.capture_logs() as logged:
        route(bus)
    assert made(bus) == []
    assert [line["region"] for line in logged if "no delivery settings" in line["event"]] == ["cn-hangzhou"]
    assert len(all_of(bus, "executions")) == 3
    assert all(lag.cursor == lag.end for lag in bus.lag("executions").values())


def test_an_invalid_record_goes_to_rejects_with_the_field_at_fault() -> None:
    bus = MemoryBus()
    put(bus, settings("cn-hangzhou"))
    append(bus, command(Repeats=0), b"\xff", command())
    route(bus)
    assert len(made(bus)) == 1
    rejected = {record.value: (record.header("reason") or b"").decode() for record in all_of(bus, "rejects")}
    assert rejected[command(Repeats=0)].startswith("Repeats: must be")
    assert rejected[b"\xff"].startswith("record: is not a JSON object")


def test_a_record_routed_again_makes_the_same_deliveries() -> None:
    bus = MemoryBus()
    wanted = settings("cn-hangzhou", logs=LOGS)
    version = put(bus, wanted)
    append(bus, command())
    route(bus)
    (record,) = all_of(bus, "executions")
    again = RecordDeliveries(bus, version).build(record, check_execution(record.value), wanted)
    routed = all_of(bus, "deliveries")
    assert sorted((new.key, new.headers, new.value) for new in again) == sorted(
        (one.key, one.headers, one.value) for one in routed
    )
