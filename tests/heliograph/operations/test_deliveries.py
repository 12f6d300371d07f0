"""Listing deliveries and reading their states."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest

from heliograph.bus.memory import MemoryBus
from heliograph.operations.deliveries import (
    DeliveryFilter,
    DeliveryStatus,
    find_delivery,
    list_deliveries,
    number_attempts,
    read_states,
    reduce_verdicts,
)
from heliograph.operations.history import History
from schemas.clock import ManualClock
from schemas.delivery import (
    Attempt,
    Attempts,
    Delivered,
    Delivery,
    Outcome,
    Reason,
    ReasonCode,
    Rejected,
    Verdict,
    VerdictState,
    delivery_record,
    encode_verdict,
    verdict_record,
)
from schemas.errors import NotFound, StoreError
from schemas.record import NewRecord
from schemas.topics import PARKED, VERDICTS
from tests.heliograph.operations.redriving import DeploymentParts, letter
from tests.router.deliver.engine import Engine
from tests.router.deliver.sinks import BROKEN, Scripted, delivery


def verdict(state: VerdictState, number: int = 1) -> Verdict:
    return Verdict(
        delivery=str(number),
        state=state,
        source="events.other:0:1",
        subscription="all",
        target="ops",
        resource="i-1",
        at=1,
        configuration=1,
        attempts=Attempts(),
    )


def test_the_first_verdict_by_precedence_counts() -> None:
    for states in permutations(VerdictState, 3):
        reduced = reduce_verdicts([*map(verdict, states), verdict(VerdictState.MUTED, 2)])
        assert reduced["1"].state is min(states, key=list(VerdictState).index)
        assert reduced["2"].state is VerdictState.MUTED


def outcome(one: Delivery) -> Outcome:
    match one.source.offset:
        case 1:
            return Delivered("receipt")
        case 2:
            return Rejected(Reason(ReasonCode.REFUSED, "no"))
        case _:
            return BROKEN


def test_every_delivery_is_listed_once_with_its_state() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    engine = Engine(bus, clock)
    engine.apply({"id": "ops", "kind": "plain", "retry": {"first": 50, "jitter": "none"}})
    role = engine.start(plain=Scripted(outcome))
    engine.offer([delivery(number) for number in (1, 2, 3)])
    engine.settle(role)
    engine.close()
    engine.offer([delivery(4)])
    listed = {one.id: one for one in list_deliveries(History(bus))}
    assert len(list(list_deliveries(History(bus)))) == 4
    states = {number: listed[delivery(number).id] for number in (1, 2, 3, 4)}
    assert {number: one.state for number, one in states.items()} == {
        1: "delivered",
        2: "dead",
        3: "waiting",
        4: "under-way",
    }
    assert {number: one.detail for number, one in states.items()} == {
        1: "receipt",
        2: "rejected: refused no",
        3: "unreachable nobody there",
        4: "",
    }
    assert states[3].due == clock.now() + 50_000
    assert [one.attempts.count for one in states.values()] == [1, 1, 1, 0]
    assert read_states(History(bus), [delivery(3).id])[delivery(3).id] == states[3]
    assert read_states(History(bus), ["none"])["none"].state == "unknown"


def test_a_redriven_delivery_is_under_way_until_it_ends_again() -> None:
    bus = MemoryBus(ManualClock())
    one = delivery(1)
    died = msgspec.structs.replace(verdict(VerdictState.DEAD), delivery=one.id)
    bus.append([delivery_record(one), verdict_record(died)])

    def state() -> str:
        return read_states(History(bus), [one.id])[one.id].state

    assert state() == "dead", "it has a verdict, although its record is beyond the cursor"
    bus.append([delivery_record(msgspec.structs.replace(one, redrive="again"))])
    assert state() == "under-way"
    assert read_states(History(bus), [one.id])[one.id].redrive == "again"
    bus.append([verdict_record(msgspec.structs.replace(died, redrive="other"))])
    assert state() == "under-way"
    bus.append([verdict_record(msgspec.structs.replace(died, redrive="again"))])
    assert state() == "dead"
    bus.append([delivery_record(msgspec.structs.replace(one, redrive="late"))])
    bus.append([verdict_record(msgspec.structs.replace(died, state=VerdictState.DELIVERED))])
    assert state() == "delivered"


def test_archived_verdicts_count_once_the_bus_has_lost_them() -> None:
    parts = DeploymentParts()
    parts.append_verdicts(VerdictState.DELIVERED, letter(1), letter(2))
    parts.archive_and_truncate()
    parts.append_verdicts(VerdictState.DEAD, letter(1))
    listed = {one.id: one.state for one in list_deliveries(parts.history())}
    assert listed == dict.fromkeys((letter(1).id, letter(2).id), DeliveryStatus.DELIVERED)
    assert find_delivery(parts.history(), letter(2).id).state is DeliveryStatus.DELIVERED


def test_an_unknown_delivery_is_not_found_or_the_archive_cannot_tell() -> None:
    parts = DeploymentParts()
    with pytest.raises(NotFound, match="no delivery 'none' in topics or archive"):
        find_delivery(parts.history(), "none")
    parts.store.down = True
    with pytest.raises(StoreError, match="'none': not in the topics, and the archive cannot be read"):
        find_delivery(parts.history(), "none")


def test_a_filter_selects_by_each_field() -> None:
    bus = MemoryBus(ManualClock())
    bus.append([verdict_record(verdict(VerdictState.DEAD, number)) for number in range(3)])
    bus.append([delivery_record(delivery(7, target="other"))])
    other = delivery(7, target="other")
    now = ManualClock().now()

    def count(wanted: DeliveryFilter) -> int:
        return len(list(list_deliveries(History(bus), wanted)))

    assert count(DeliveryFilter()) == 4
    assert (
        count(DeliveryFilter(targets=frozenset({"other"})))
        == count(DeliveryFilter(ids=frozenset({other.id})))
        == 1
    )
    assert (
        count(DeliveryFilter(targets=frozenset({"ops"})))
        == count(DeliveryFilter(state=DeliveryStatus.DEAD))
        == 3
    )
    assert count(DeliveryFilter(source=other.source)) == count(DeliveryFilter(since=now)) == 1
    assert count(DeliveryFilter(until=now)) == 3
    assert count(DeliveryFilter(subscription="none")) == 0


def test_a_parked_delivery_is_waiting() -> None:
    bus = MemoryBus(ManualClock())
    bus.append([delivery_record(delivery(1), PARKED), NewRecord(PARKED, b"", b"released")])
    (one,) = list_deliveries(History(bus))
    assert (one.state, one.due, one.lane) == ("waiting", 0, 0)


@pytest.mark.parametrize(
    ("count", "numbers"), [(0, []), (1, [1]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (9, [1, 7, 8, 9])]
)
def test_kept_attempts_are_numbered_from_the_first(count: int, numbers: list[int]) -> None:
    attempts = Attempts()
    for number in range(1, count + 1):
        attempts = attempts.plus(Attempt(at=number, took=0.1))
    kept = number_attempts(attempts)
    assert [number for number, _ in kept] == numbers
    assert [attempt.at for _, attempt in kept] == numbers


def test_a_dropped_delivery_has_operator_and_reason() -> None:
    bus = MemoryBus(ManualClock())
    dropped = msgspec.structs.replace(verdict(VerdictState.DROPPED), by="jo@host", why="old news")
    bus.append([verdict_record(dropped)])
    (one,) = list_deliveries(History(bus))
    assert (one.state, one.detail, one.by, one.why) == ("dropped", "old news", "jo@host", "old news")


def test_records_that_are_no_verdicts_are_skipped() -> None:
    bus = MemoryBus(ManualClock())
    deep = b'{"more":' + b"[" * 100_000
    bus.append(
        [NewRecord(VERDICTS, value) for value in (b"junk", deep, encode_verdict(verdict(VerdictState.DEAD)))]
    )
    assert [one.state for one in list_deliveries(History(bus))] == ["dead"]
