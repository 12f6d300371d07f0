"""Explanations of how an event was routed."""

from __future__ import annotations

import pytest

from heliograph.bus.memory import MemoryBus
from heliograph.operations.deliveries import DeliveryStatus
from heliograph.operations.history import History
from heliograph.operations.subscriptions import apply, delete
from heliograph.operations.why import answer_why, explain_routing
from router.events import Router
from schemas.clock import ManualClock
from schemas.delivery import read_delivery
from schemas.errors import InvalidNotification, NotFound
from schemas.record import NewRecord, Position
from schemas.topics import DELIVERIES
from tests.router.events import KINDS, event, event_record, subscription


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(ManualClock(), partitions=2)


def append_and_route(bus: MemoryBus, *records: NewRecord) -> list[Position]:
    """Appends records and routes all that is unrouted; returns their positions."""
    positions = bus.append(records)
    router = Router(bus)
    router.step(0)
    router.close()
    return list(positions)


def test_each_subscription_answers_with_its_deliveries_or_the_failed_clause(bus: MemoryBus) -> None:
    wanted = [subscription("yes"), subscription("no", levels=["CRITICAL"], names=["Disk:*"])]
    version = apply(bus, wanted, KINDS).version
    (position,) = append_and_route(bus, event_record())
    yes, no = explain_routing(bus, position)
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


def test_the_version_that_an_event_was_routed_under_decides_the_answer(bus: MemoryBus) -> None:
    apply(bus, [subscription("early")], KINDS)
    (first,) = append_and_route(bus, event_record())
    delete(bus, "early")
    apply(bus, [subscription("late")], KINDS)
    (second,) = append_and_route(bus, event_record(event(id="E-2")))
    assert [one.subscription for one in explain_routing(bus, first)] == ["early"]
    assert [one.subscription for one in explain_routing(bus, second)] == ["late"]


def test_an_event_that_is_not_routed_yet_has_no_answer(bus: MemoryBus) -> None:
    (position,) = bus.append([event_record()])
    with pytest.raises(NotFound, match="not routed yet"):
        explain_routing(bus, position)
    append_and_route(bus)
    assert explain_routing(bus, position) == []
    (later,) = bus.append([event_record()])
    with pytest.raises(NotFound, match="not routed yet"):
        explain_routing(bus, later)


@pytest.mark.parametrize(
    "position",
    [Position("events.ecs.instance", 0, 99), Position("events.none", 0, 0), Position("deliveries", 0, 0)],
)
def test_a_position_without_an_event_is_not_found(bus: MemoryBus, position: Position) -> None:
    apply(bus, [subscription()], KINDS)
    append_and_route(bus, event_record())
    with pytest.raises(NotFound, match="no event at this position"):
        explain_routing(bus, position)


def test_a_rejected_event_raises_with_the_reason(bus: MemoryBus) -> None:
    (position,) = append_and_route(bus, NewRecord("events.other", event(level="FATAL")))
    with pytest.raises(InvalidNotification, match="level"):
        explain_routing(bus, position)


def test_the_answer_of_an_event_has_the_state_of_each_delivery(bus: MemoryBus) -> None:
    apply(bus, [subscription("yes"), subscription("no", levels=["CRITICAL"])], KINDS)
    (position,) = append_and_route(bus, event_record())
    (answer,) = answer_why(History(bus), "E-1")
    assert (answer.position, answer.duplicate_of) == (position, "")
    assert [one.matched for one in answer.explanations] == [True, False]
    (delivery,) = answer.explanations[0].deliveries
    assert {one: state.state for one, state in answer.states.items()} == {
        delivery.id: DeliveryStatus.UNDER_WAY
    }


def test_the_answer_of_a_duplicate_names_the_original(bus: MemoryBus) -> None:
    apply(bus, [subscription("yes")], KINDS)
    original, repeat = append_and_route(bus, event_record(), event_record())
    answers = {one.position: one for one in answer_why(History(bus), "E-1")}
    assert answers[original].duplicate_of == ""
    assert (answers[repeat].duplicate_of, answers[repeat].explanations) == (str(original), ())
