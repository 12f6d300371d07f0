"""States of dead letters: how they follow the topics, and what they store. Redrives test the rest."""

from __future__ import annotations

import msgspec

from heliograph.bus.memory import MemoryBus
from heliograph.operations.letter_states import LetterStates
from schemas.clock import ManualClock
from schemas.delivery import Attempts, Delivery, Verdict, VerdictState, delivery_record, verdict_record
from schemas.record import NewRecord
from schemas.topics import DEAD_LETTERS, DELIVERIES, VERDICTS
from tests.router.deliver.sinks import delivery


def build_bus() -> MemoryBus:
    made = MemoryBus(ManualClock())
    for topic in (DELIVERIES, VERDICTS, DEAD_LETTERS):
        made.create(topic)
    return made


def redriven(one: Delivery, redrive: str) -> NewRecord:
    return delivery_record(msgspec.structs.replace(one, redrive=redrive))


def verdict(one: Delivery, state: VerdictState, redrive: str = "") -> NewRecord:
    return verdict_record(
        Verdict(
            delivery=one.id,
            state=state,
            source=str(one.source),
            subscription="all",
            target="ops",
            resource="i-1",
            at=1,
            configuration=1,
            attempts=Attempts(),
            redrive=redrive,
        )
    )


def test_states_follow_the_topics() -> None:
    bus = build_bus()
    one = delivery(1)
    states = LetterStates(bus)
    states.watch({one.id}, 0, ())
    assert (states.is_under_way(one.id), states.ended_as(one.id)) == (False, None)
    bus.append([redriven(one, "r-1")])
    assert not states.is_under_way(one.id)
    states.follow()
    assert states.is_under_way(one.id)
    assert states.was_brought_back_by("r-1", one.id)
    assert not states.was_brought_back_by("r-2", one.id)
    bus.append([verdict(one, VerdictState.DEAD, "r-1")])
    states.follow()
    assert (states.is_under_way(one.id), states.ended_as(one.id)) == (False, None)
    assert states.was_brought_back_by("r-1", one.id)
    bus.append([verdict(one, VerdictState.DELIVERED), verdict(one, VerdictState.DROPPED)])
    states.follow()
    assert states.ended_as(one.id) is VerdictState.DELIVERED


def test_a_delivery_that_ends_before_it_is_watched_has_its_verdict() -> None:
    """Its record is committed, and its verdict read afterwards."""
    bus = build_bus()
    one = delivery(1)
    bus.append([redriven(one, "r-1")])
    states = LetterStates(bus)
    consumer = bus.consumer([DELIVERIES], "deliverer")
    (record,) = consumer.poll().records
    consumer.done([record.position], [verdict(one, VerdictState.DELIVERED, "r-1")])
    states.watch({one.id}, 0, ())
    assert not states.is_under_way(one.id)
    assert states.ended_as(one.id) is VerdictState.DELIVERED
    consumer.close()


def test_deliveries_of_the_ignored_redrive_are_not_stored() -> None:
    bus = build_bus()
    one, two = delivery(1), delivery(2)
    states = LetterStates(bus)
    states.watch({one.id, two.id}, 0, ())
    bus.append([redriven(one, "mine"), verdict(one, VerdictState.DELIVERED, "mine")])
    bus.append([redriven(two, "other"), verdict(two, VerdictState.DROPPED)])
    states.follow("mine")
    assert not states.was_brought_back_by("mine", one.id)
    assert (states.ended_as(one.id), states.ended_as(two.id)) == (None, VerdictState.DROPPED)
    assert states.is_under_way(two.id)


def test_deliveries_that_are_not_watched_are_not_stored() -> None:
    bus = build_bus()
    bus.append([redriven(delivery(2), "r-1"), verdict(delivery(2), VerdictState.DELIVERED)])
    states = LetterStates(bus)
    states.watch({delivery(1).id}, 0, ())
    assert not states.is_under_way(delivery(2).id)
    assert states.ended_as(delivery(2).id) is None
