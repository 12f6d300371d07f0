"""The conditions of targets, and their availability."""

from __future__ import annotations

import pytest

from heliograph.bus.memory import MemoryBus
from router.deliver.target_states import Available, Paused, Suspended, TargetStates
from schemas.record import NewRecord
from schemas.target_state import Condition, TargetStatus, condition_record, lifted_record
from schemas.topics import STATE

NOW = 1_700_000_000_000
SUSPENDED = Condition(target="ops", status=TargetStatus.SUSPENDED, since=NOW, why="on holiday", by="a@b")
OPEN = Condition(target="ops", status=TargetStatus.OPEN, since=NOW, until=NOW + 5000, why="unreachable")
THROTTLED = Condition(target="ops", status=TargetStatus.THROTTLED, since=NOW, until=NOW + 1000, why="429")


def read(bus: MemoryBus) -> TargetStates:
    states = TargetStates(bus)
    states.refresh()
    return states


def test_a_target_without_conditions_is_active(bus: MemoryBus) -> None:
    states = read(bus)
    assert states.availability("ops", NOW) == Available(probing=False)
    assert states.gravest("ops", NOW) is None


def test_the_gravest_condition_decides(bus: MemoryBus) -> None:
    states = read(bus)
    bus.append([condition_record(THROTTLED)])
    states.refresh()
    assert states.availability("ops", NOW) == Paused(NOW + 1000)
    assert states.availability("ops", NOW + 1000) == Available(False, (THROTTLED,))
    assert states.gravest("ops", NOW + 1000) is None, "its pause has passed"
    bus.append([condition_record(OPEN)])
    states.refresh()
    assert states.availability("ops", NOW) == Paused(NOW + 5000)
    assert states.availability("ops", NOW + 5000) == Available(True, (THROTTLED, OPEN))
    assert states.gravest("ops", NOW + 5000) == OPEN, "until a probe succeeds"
    bus.append([condition_record(SUSPENDED)])
    states.refresh()
    assert states.availability("ops", NOW + 10**9) == Suspended("on holiday")
    assert states.gravest("ops", NOW) == SUSPENDED
    assert states.availability("others", NOW) == Available(probing=False)


def test_conditions_are_lifted_one_by_one(bus: MemoryBus) -> None:
    bus.append([condition_record(one) for one in (SUSPENDED, OPEN)])
    bus.append([lifted_record("ops", TargetStatus.SUSPENDED)])
    states = read(bus)
    assert states.gravest("ops", NOW) == OPEN
    bus.append([lifted_record("ops", TargetStatus.OPEN), lifted_record("ops", TargetStatus.THROTTLED)])
    states.refresh()
    assert states.availability("ops", NOW) == Available(probing=False)


@pytest.mark.parametrize(
    "record",
    [
        NewRecord(STATE, b"{", b"open:ops"),
        NewRecord(STATE, b'{"target": 1}', b"open:ops"),
        NewRecord(STATE, b"", b"asleep:ops"),
        NewRecord(STATE, b"", b"\xff"),
        NewRecord(STATE, b"[" * 100_000, b"open:ops"),
    ],
)
def test_an_unreadable_record_changes_nothing(bus: MemoryBus, record: NewRecord) -> None:
    bus.append([condition_record(OPEN), record])
    assert read(bus).gravest("ops", NOW) == OPEN
