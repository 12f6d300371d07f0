from __future__ import annotations

from itertools import permutations

from heliograph.bus.memory import MemoryBus
from router.deliver.records import delivery_states, list_dead, list_deliveries, reduce_verdicts
from schemas.clock import ManualClock
from schemas.delivery import (
    Attempts,
    Delivered,
    Delivery,
    Outcome,
    Reason,
    ReasonCode,
    Rejected,
    Verdict,
    VerdictState,
    encode_verdict,
)
from schemas.record import NewRecord
from schemas.topics import DEAD_LETTERS, VERDICTS
from tests.router.deliver.sinks import (
    BROKEN,
    Scripted,
    apply,
    deliverer,
    delivery,
    kinds,
    offer,
    records,
    settled,
)


def verdict(state: VerdictState, number: int = 1) -> Verdict:
    return Verdict(str(number), state, "events.other:0:1", "all", "ops", "i-1", 1, 1, Attempts())


def test_of_several_verdicts_the_first_by_precedence_holds() -> None:
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


def test_every_delivery_is_listed_once_where_it_stands() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    apply(bus, "all", {"id": "ops", "kind": "plain", "retry": {"first": 50, "jitter": "none"}})
    role = deliverer(bus, kinds(plain=Scripted(outcome)), clock)
    offer(bus, [delivery(number) for number in (1, 2, 3)])
    settled(role)
    role.close()
    offer(bus, [delivery(4)])
    listed = {one.id: one for one in list_deliveries(bus)}
    assert len(list(list_deliveries(bus))) == 4
    stands = {number: listed[delivery(number).id] for number in (1, 2, 3, 4)}
    assert {number: one.state for number, one in stands.items()} == {
        1: "delivered",
        2: "dead",
        3: "waiting",
        4: "under-way",
    }
    assert {number: one.detail for number, one in stands.items()} == {
        1: "receipt",
        2: "rejected: refused no",
        3: "unreachable nobody there",
        4: "",
    }
    assert stands[3].due == clock.now() + 50_000
    assert [one.attempts for one in stands.values()] == [1, 1, 1, 0]
    assert delivery_states(bus, [delivery(3).id])[delivery(3).id] == stands[3]
    assert delivery_states(bus, ["none"])["none"].state == "unknown"


def test_dead_letters_are_listed_once_with_their_reason() -> None:
    bus = MemoryBus()
    apply(bus, "all", {"id": "ops", "kind": "plain"})
    role = deliverer(bus, kinds(plain=Scripted(outcome)))
    offer(bus, [delivery(2)])
    settled(role)
    role.close()
    (letter,) = records(bus, DEAD_LETTERS)
    bus.append([NewRecord(letter.topic, letter.value, letter.key, letter.headers)])
    (dead,) = list_dead(bus)
    assert dead.delivery.event == delivery(2).event
    assert (dead.code, dead.message, dead.exhausted) == ("refused", "no", "rejected")
    assert dead.position == letter.position


def test_what_is_no_verdict_is_passed_over() -> None:
    bus = MemoryBus(ManualClock())
    deep = b'{"more":' + b"[" * 100_000
    bus.append(
        [NewRecord(VERDICTS, value) for value in (b"junk", deep, encode_verdict(verdict(VerdictState.DEAD)))]
    )
    assert [one.state for one in list_deliveries(bus)] == ["dead"]
    assert list(list_dead(bus)) == []
