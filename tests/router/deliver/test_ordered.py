"""Ordered targets: of each resource, first sends in the order of its events, whatever fails and whoever is killed."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest

import router.deliver.parking as parking_module
from heliograph.bus.memory import MemoryBus
from router.deliver.deliverer import LIMIT, Deliverer
from router.deliver.wheel import Wheel
from schemas.clock import ManualClock
from schemas.delivery import (
    Delivered,
    Delivery,
    Outcome,
    Reason,
    ReasonCode,
    Rejected,
    Retry,
    VerdictState,
    read_delivery,
)
from schemas.target_state import Condition, TargetStatus, condition_record, lifted_record
from schemas.topics import DEAD_LETTERS, PARKED
from tests.router.deliver.sinks import (
    BROKEN,
    Hanging,
    Scripted,
    Wired,
    apply,
    broken,
    delete,
    deliverer,
    delivery,
    kinds,
    offer,
    records,
    settled,
    turn,
    unfinished,
    verdicts,
    waiting,
)

ORDERED = {
    "id": "ops",
    "kind": "plain",
    "ordered": True,
    "breaker": False,
    "retry": {"tries": 50, "first": 1, "cap": 4, "jitter": "none"},
}


def of(number: int, resource: str) -> Delivery:
    return msgspec.structs.replace(delivery(number), resource=resource)


def held(bus: MemoryBus) -> set[str]:
    """Ids of what the topic `parked` holds."""
    found: dict[bytes, bytes] = {}
    for record in records(bus, PARKED):
        found[record.key or b""] = record.value
    return {key.decode() for key, value in found.items() if value}


def first_sends(seen: Sequence[Delivery]) -> dict[str, list[int]]:
    """Numbers of each resource's deliveries in the order in which each was first sent."""
    order: defaultdict[str, list[int]] = defaultdict(list)
    for one in seen:
        if one.source.offset not in order[one.resource]:
            order[one.resource].append(one.source.offset)
    return order


def let_pass(seconds: int, clock: ManualClock, *roles: Deliverer) -> None:
    for _ in range(seconds):
        clock.advance(1)
        for role in roles:
            settled(role)


def test_a_failure_holds_back_its_own_resource_only(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", ORDERED)
    sink = Scripted(lambda one: BROKEN if one.source.offset == 0 else Delivered("ok"))
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [of(number, f"i-{number % 2}") for number in range(10)])
    settled(role)
    assert [one.source.offset for one in sink.seen if one.resource == "i-0"] == [0]
    assert first_sends(sink.seen)["i-1"] == [1, 3, 5, 7, 9]
    assert unfinished(bus) == 0, "what is parked holds up no partition"
    assert held(bus) == {of(number, "i-0").id for number in (0, 2, 4, 6, 8)}
    assert not waiting(bus), "ordered targets never use the wheel"
    offer(bus, [of(10, "i-0")])
    settled(role)
    let_pass(3, clock, role)
    assert first_sends(sink.seen)["i-0"] == [0]
    sink.answer = lambda _: Delivered("ok")
    let_pass(5, clock, role)
    assert first_sends(sink.seen)["i-0"] == [0, 2, 4, 6, 8, 10]
    assert not held(bus)
    attempts = {verdict.source.rpartition(":")[2]: verdict.attempts.count for verdict in verdicts(bus)}
    assert attempts["0"] >= 3
    assert {attempts[number] for number in ("2", "4", "10")} == {1}
    role.close()


def test_a_resource_goes_on_when_its_head_is_given_up(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {**ORDERED, "retry": {"tries": 2, "first": 1, "jitter": "none"}})
    refused = Rejected(Reason(ReasonCode.REFUSED, "no"))
    answers: dict[int, Outcome] = {0: BROKEN, 1: refused}
    sink = Scripted(lambda one: answers.get(one.source.offset, Delivered("ok")))
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [of(number, "i-1") for number in range(4)])
    settled(role)
    let_pass(3, clock, role)
    assert [one.source.offset for one in sink.seen] == [0, 0, 1, 2, 3]
    states = {verdict.source.rpartition(":")[2]: verdict.state for verdict in verdicts(bus)}
    assert states == {
        "0": VerdictState.DEAD,
        "1": VerdictState.DEAD,
        "2": VerdictState.DELIVERED,
        "3": VerdictState.DELIVERED,
    }
    assert not held(bus)
    role.close()


def test_a_restart_and_another_member_find_what_is_parked(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", ORDERED)
    first = deliverer(bus, kinds(plain=Scripted(broken)), clock)
    offer(bus, [of(number, f"i-{number % 3}") for number in range(12)])
    settled(first)
    (member,) = bus.members("deliverer")
    bus.kill(member)
    sink = Scripted()
    second = deliverer(bus, kinds(plain=sink), clock)
    settled(second)
    assert not sink.seen, "the wait is remembered"
    offer(bus, [of(12, "i-0")])
    let_pass(3, clock, second)
    assert first_sends(sink.seen) == {"i-0": [0, 3, 6, 9, 12], "i-1": [1, 4, 7, 10], "i-2": [2, 5, 8, 11]}
    assert not held(bus)
    second.close()
    first.close()


def test_at_the_bound_deliveries_become_dead_letters(
    bus: MemoryBus, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "PARKED_LIMIT", 3)
    apply(bus, "all", ORDERED)
    sink = Scripted(broken)
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [of(number, "i-1") for number in range(6)])
    settled(role)
    assert len(held(bus)) == 3
    letters = records(bus, DEAD_LETTERS)
    assert [read_delivery(one).source.offset for one in letters] == [3, 4, 5]
    assert {one.header("exhaustedRetryCondition") for one in letters} == {b"parked"}
    sink.answer = lambda _: Delivered("ok")
    let_pass(3, clock, role)
    assert first_sends(sink.seen)["i-1"] == [0, 1, 2]
    role.close()


def test_a_target_that_hangs_or_is_held_back_has_its_deliveries_parked(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", {**ORDERED, "in_flight": 2, "concurrency": 2}, {"id": "well", "kind": "well"})
    hanging, well = Hanging(), Scripted()
    role = deliverer(bus, kinds(plain=hanging, well=well), clock)
    offer(bus, [of(number, f"i-{number % 5}") for number in range(20)], 0)
    turn(role, lambda: len(hanging.seen) == 2)
    clock.advance(1.5)
    offer(bus, [delivery(number, "well") for number in range(10)], 0)
    turn(role, lambda: len(well.seen) == 10)
    assert len(held(bus)) == 20, "those under way keep their place"
    hanging.let_go()
    let_pass(20, clock, role)
    assert all(order == sorted(order) for order in first_sends(hanging.seen).values())
    assert len(hanging.seen) == 20
    assert not held(bus)
    role.close()


@pytest.mark.parametrize("limits", [{}, {"rate": 0.5}])
def test_one_resource_that_hangs_holds_up_no_other_target(
    bus: MemoryBus, clock: ManualClock, limits: dict[str, float]
) -> None:
    apply(bus, "all", {**ORDERED, **limits}, {"id": "well", "kind": "well"})
    hanging, well = Hanging(), Scripted()
    role = deliverer(bus, kinds(plain=hanging, well=well), clock)
    offer(bus, [of(number, "i-1") for number in range(LIMIT + 200)], 0)
    if not limits:
        turn(role, lambda: len(hanging.seen) == 1)
    offer(bus, [delivery(number, "well") for number in range(10)], 0)
    clock.advance(1.5)
    turn(role, lambda: len(well.seen) == 10)
    assert len(hanging.seen) <= 1
    assert len(held(bus)) == LIMIT + 200, "what is under way keeps its place"
    hanging.let_go()
    role.close()


def test_a_suspended_target_keeps_nothing_parked(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", ORDERED)
    sink = Scripted(broken)
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [of(number, "i-1") for number in range(5)])
    settled(role)
    bus.append(
        [
            condition_record(
                Condition(target="ops", status=TargetStatus.SUSPENDED, since=clock.now(), why="holiday")
            )
        ]
    )
    let_pass(3, clock, role)
    assert {verdict.exhausted for verdict in verdicts(bus)} == {"suspended"}
    assert len(records(bus, DEAD_LETTERS)) == 5
    assert not held(bus)
    bus.append([lifted_record("ops", TargetStatus.SUSPENDED)])
    let_pass(1, clock, role)
    sink.answer = lambda _: Delivered("ok")
    offer(bus, [of(9, "i-1")])
    settled(role)
    assert sink.seen[-1].source.offset == 9
    role.close()


def test_a_pause_of_the_target_keeps_the_order(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", ORDERED)
    outcomes: list[Outcome] = [Retry(Reason(ReasonCode.THROTTLED), 5.0)]
    sink = Wired(lambda _: outcomes.pop() if outcomes else Delivered("ok"))
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [of(number, f"i-{number % 2}") for number in range(10)])
    settled(role)
    let_pass(3, clock, role)
    offer(bus, [of(number, f"i-{number % 2}") for number in range(10, 14)])
    let_pass(6, clock, role)
    assert first_sends(sink.seen) == {"i-0": list(range(0, 14, 2)), "i-1": list(range(1, 14, 2))}
    assert not held(bus)
    role.close()


def test_what_is_parked_of_a_deleted_target_becomes_dead_letters(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", ORDERED)
    role = deliverer(bus, kinds(plain=Scripted(broken)), clock)
    offer(bus, [of(number, "i-1") for number in range(3)])
    settled(role)
    delete(bus, "all")
    let_pass(3, clock, role)
    assert {verdict.exhausted for verdict in verdicts(bus)} == {"no-target"}
    assert len(records(bus, DEAD_LETTERS)) == 3
    assert not held(bus)
    role.close()


def test_a_target_that_is_ordered_no_more_lets_go_of_what_is_parked(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", ORDERED)
    sink = Scripted(broken)
    role, wheel = deliverer(bus, kinds(plain=sink), clock), Wheel(bus, clock)
    offer(bus, [of(number, "i-1") for number in range(3)])
    settled(role)
    apply(bus, "all", {**ORDERED, "ordered": False})
    let_pass(2, clock, role)
    sink.answer = lambda _: Delivered("ok")
    for _ in range(30):
        wheel.step(0.0)
        let_pass(1, clock, role)
    assert len(verdicts(bus)) == 3
    assert not held(bus)
    wheel.close()
    role.close()


def test_new_settings_wait_until_calls_with_the_old_ones_have_ended(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", ORDERED)
    hanging = Hanging()
    role = deliverer(bus, kinds(plain=hanging), clock)
    offer(bus, [of(number, "i-1") for number in range(4)])
    turn(role, lambda: len(hanging.seen) == 1)
    apply(bus, "all", {**ORDERED, "note": "changed"})
    offer(bus, [of(4, "i-1")])
    for _ in range(5):
        clock.advance(0.1)
        role.step(0.01)
    assert len(hanging.seen) == 1
    hanging.let_go()
    let_pass(5, clock, role)
    assert first_sends(hanging.seen)["i-1"] == [0, 1, 2, 3, 4]
    role.close()


def test_what_was_under_way_goes_before_what_was_parked_behind_it(bus: MemoryBus, clock: ManualClock) -> None:
    """Though the next owner sees what is parked before it reads what was never finished."""
    apply(bus, "all", {**ORDERED, "in_flight": 1, "concurrency": 1}, {"id": "well", "kind": "well"})
    hanging, well = Hanging(), Scripted()
    first = deliverer(bus, kinds(plain=hanging, well=well), clock)
    offer(bus, [of(number, "i-1") for number in range(4)], 1)
    turn(first, lambda: len(hanging.seen) == 1)
    clock.advance(1.5)
    turn(first, lambda: len(held(bus)) > 1)
    (member,) = bus.members("deliverer")
    bus.kill(member)
    offer(bus, [delivery(number, "well") for number in range(4 * LIMIT)], 0)
    clock.advance(60)
    sink = Scripted()
    second = deliverer(bus, kinds(plain=sink, well=well), clock)
    settled(second)
    let_pass(5, clock, second)
    assert first_sends(sink.seen)["i-1"] == [0, 1, 2, 3]
    assert not held(bus)
    assert unfinished(bus) == 0
    hanging.let_go()
    second.close()
    first.close()


def test_what_is_parked_waits_too_until_calls_with_old_settings_have_ended(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", ORDERED)
    hanging = Hanging()
    hanging.answer = lambda one: BROKEN if one.attempts.count == 0 else Delivered("ok")
    role = deliverer(bus, kinds(plain=hanging), clock)
    offer(bus, [of(0, "i-1"), of(1, "i-1")])
    turn(role, lambda: len(hanging.answers) == 1)
    hanging.answers.pop(0)()
    turn(role, lambda: len(held(bus)) == 2)
    offer(bus, [of(2, "i-2")])
    turn(role, lambda: len(hanging.seen) == 2)
    apply(bus, "all", {**ORDERED, "note": "changed"})
    for _ in range(20):
        clock.advance(0.2)
        role.step(0.01)
    assert [one.source.offset for one in hanging.seen] == [0, 2]
    hanging.let_go()
    let_pass(5, clock, role)
    assert first_sends(hanging.seen) == {"i-1": [0, 1], "i-2": [2]}
    assert not held(bus)
    assert unfinished(bus) == 0
    role.close()


class Receiver:
    """What several members send to one place; answers are drawn by chance. `early`: deliveries that were first sent
    before all earlier ones of their resource had ended."""

    def __init__(self, seed: int) -> None:
        self.offered: dict[str, list[str]] = defaultdict(list)
        self.seen: set[str] = set()
        self.ended: set[str] = set()
        self.early: list[Delivery] = []
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def answer(self, one: Delivery) -> Outcome:
        with self._lock:
            if one.id not in self.seen:
                self.seen.add(one.id)
                before = self.offered[one.resource][: self.offered[one.resource].index(one.id)]
                self.early += [one] if set(before) - self.ended else []
            drawn = self._chance.random()
            if drawn < 0.25:
                return BROKEN
            if drawn < 0.28:
                return Retry(Reason(ReasonCode.THROTTLED), 2.0)
            self.ended.add(one.id)
            return Rejected(Reason(ReasonCode.REFUSED, "no")) if drawn < 0.31 else Delivered("ok")


class Members:
    """Deliverers of one log that come, go and are killed."""

    def __init__(self, bus: MemoryBus, clock: ManualClock, receiver: Receiver) -> None:
        self._bus = bus
        self._clock = clock
        self._receiver = receiver
        self._killed: list[Deliverer] = []
        self._names: dict[Deliverer, str] = {}
        self.living = [self._make()]

    def _make(self) -> Deliverer:
        before = self._bus.members("deliverer")
        role = deliverer(self._bus, kinds(plain=Wired(self._receiver.answer, seconds=0.001)), self._clock)
        (self._names[role],) = self._bus.members("deliverer") - before
        return role

    def join(self) -> None:
        if len(self.living) < 3:
            self.living.append(self._make())

    def leave(self, chance: random.Random) -> None:
        self.join()
        self.living.pop(chance.randrange(len(self.living))).close()

    def kill(self, chance: random.Random) -> None:
        self.join()
        victim = self.living.pop(chance.randrange(len(self.living)))
        self._bus.kill(self._names[victim])
        self._killed.append(victim)

    def step(self) -> None:
        for role in self.living:
            role.step(0.003)

    def close(self) -> None:
        for role in (*self.living, *self._killed):
            role.close()


def offer_some(bus: MemoryBus, receiver: Receiver, chance: random.Random, start: int) -> None:
    for number in range(start, start + 6):
        resource = chance.randrange(4)
        one = of(number, f"i-{resource}")
        receiver.offered[one.resource].append(one.id)
        placed = msgspec.structs.replace(one, lane=resource % 2, key=b"ops%d" % (resource % 2))
        offer(bus, [placed], resource % 2)


@pytest.mark.parametrize("seed", range(12))
def test_under_failures_and_kills_none_goes_out_before_those_before_it_have_ended(
    bus: MemoryBus, clock: ManualClock, seed: int
) -> None:
    apply(bus, "all", {**ORDERED, "lanes": 2, "breaker": {"attempts": 8, "rest": 2}})
    receiver, chance = Receiver(seed), random.Random(f"turns {seed}")
    members = Members(bus, clock, receiver)
    for turned in range(60):
        match chance.randrange(8):
            case 0:
                members.join()
            case 1:
                members.leave(chance)
            case 2:
                members.kill(chance)
            case 3 | 4:
                clock.advance(chance.choice((0.3, 1, 3)))
            case _:
                offer_some(bus, receiver, chance, 6 * turned)
        members.step()
    offered = {one for ids in receiver.offered.values() for one in ids}
    for _ in range(2000):
        if {verdict.delivery for verdict in verdicts(bus)} == offered and not held(bus):
            break
        clock.advance(0.2)
        members.step()
    assert {verdict.delivery for verdict in verdicts(bus)} == offered
    assert not held(bus)
    assert not receiver.early
    members.close()
