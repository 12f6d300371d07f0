"""Ordered targets: the first sends of each resource keep the order of its events, under failures and crashes."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest

import router.deliver.parking as parking_module
from router.deliver.deliverer import LIMIT, Deliverer
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
from schemas.target_state import TargetStatus
from tests.router.deliver.engine import Engine
from tests.router.deliver.sinks import BROKEN, Hanging, Scripted, Wired, broken, delivery

ORDERED = {
    "id": "ops",
    "kind": "plain",
    "ordered": True,
    "breaker": False,
    "retry": {"tries": 50, "first": 1, "cap": 4, "jitter": "none"},
}


def ordered_delivery(number: int, resource: str) -> Delivery:
    """Returns a delivery about a resource."""
    return msgspec.structs.replace(delivery(number), resource=resource)


def first_sends(seen: Sequence[Delivery]) -> dict[str, list[int]]:
    """Returns the numbers of each resource's deliveries in the order of their first sends."""
    order: defaultdict[str, list[int]] = defaultdict(list)
    for one in seen:
        if one.source.offset not in order[one.resource]:
            order[one.resource].append(one.source.offset)
    return order


def test_a_failed_delivery_holds_back_only_its_own_resource(engine: Engine) -> None:
    engine.apply(ORDERED)
    sink = Scripted(lambda one: BROKEN if one.source.offset == 0 else Delivered("ok"))
    role = engine.start(plain=sink)
    engine.offer([ordered_delivery(number, f"i-{number % 2}") for number in range(10)])
    engine.settle(role)
    assert [one.source.offset for one in sink.seen if one.resource == "i-0"] == [0]
    assert first_sends(sink.seen)["i-1"] == [1, 3, 5, 7, 9]
    assert engine.uncommitted() == 0, "parked deliveries block no partition"
    assert engine.parked() == {ordered_delivery(number, "i-0").id for number in (0, 2, 4, 6, 8)}
    assert not engine.waiting(), "ordered targets never use the wheel"
    engine.offer([ordered_delivery(10, "i-0")])
    engine.settle(role)
    engine.pass_time(3, role)
    assert first_sends(sink.seen)["i-0"] == [0]
    sink.answer = lambda _: Delivered("ok")
    engine.pass_time(5, role)
    assert first_sends(sink.seen)["i-0"] == [0, 2, 4, 6, 8, 10]
    assert not engine.parked()
    attempts = {verdict.source.rpartition(":")[2]: verdict.attempts.count for verdict in engine.verdicts()}
    assert attempts["0"] >= 3
    assert {attempts[number] for number in ("2", "4", "10")} == {1}


def test_a_resource_continues_when_its_first_delivery_is_dead(engine: Engine) -> None:
    engine.apply({**ORDERED, "retry": {"tries": 2, "first": 1, "jitter": "none"}})
    refused = Rejected(Reason(ReasonCode.REFUSED, "no"))
    answers: dict[int, Outcome] = {0: BROKEN, 1: refused}
    sink = Scripted(lambda one: answers.get(one.source.offset, Delivered("ok")))
    role = engine.start(plain=sink)
    engine.offer([ordered_delivery(number, "i-1") for number in range(4)])
    engine.settle(role)
    engine.pass_time(3, role)
    assert [one.source.offset for one in sink.seen] == [0, 0, 1, 2, 3]
    states = {verdict.source.rpartition(":")[2]: verdict.state for verdict in engine.verdicts()}
    assert states == {
        "0": VerdictState.DEAD,
        "1": VerdictState.DEAD,
        "2": VerdictState.DELIVERED,
        "3": VerdictState.DELIVERED,
    }
    assert not engine.parked()


def test_another_member_finds_the_parked_deliveries(engine: Engine) -> None:
    engine.apply(ORDERED)
    first = engine.start(plain=Scripted(broken))
    engine.offer([ordered_delivery(number, f"i-{number % 3}") for number in range(12)])
    engine.settle(first)
    engine.kill_member()
    sink = Scripted()
    second = engine.start(plain=sink)
    engine.settle(second)
    assert not sink.seen, "the wait is kept in the topic"
    engine.offer([ordered_delivery(12, "i-0")])
    engine.pass_time(3, second)
    assert first_sends(sink.seen) == {"i-0": [0, 3, 6, 9, 12], "i-1": [1, 4, 7, 10], "i-2": [2, 5, 8, 11]}
    assert not engine.parked()


def test_deliveries_beyond_the_parking_limit_become_dead_letters(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking_module, "PARKED_LIMIT", 3)
    engine.apply(ORDERED)
    sink = Scripted(broken)
    role = engine.start(plain=sink)
    engine.offer([ordered_delivery(number, "i-1") for number in range(6)])
    engine.settle(role)
    assert len(engine.parked()) == 3
    letters = engine.dead_letters()
    assert [read_delivery(one).source.offset for one in letters] == [3, 4, 5]
    assert {one.header("exhaustedRetryCondition") for one in letters} == {b"parked"}
    sink.answer = lambda _: Delivered("ok")
    engine.pass_time(3, role)
    assert first_sends(sink.seen)["i-1"] == [0, 1, 2]


def test_deliveries_of_a_hanging_ordered_target_are_parked(engine: Engine) -> None:
    engine.apply({**ORDERED, "in_flight": 2, "concurrency": 2}, {"id": "well", "kind": "well"})
    hanging, well = Hanging(), Scripted()
    role = engine.start(plain=hanging, well=well)
    engine.offer([ordered_delivery(number, f"i-{number % 5}") for number in range(20)], 0)
    engine.turn(role, lambda: len(hanging.seen) == 2)
    engine.clock.advance(1.5)
    engine.offer([delivery(number, "well") for number in range(10)], 0)
    engine.turn(role, lambda: len(well.seen) == 10)
    assert len(engine.parked()) == 20, "those in flight keep their place"
    hanging.release()
    engine.pass_time(20, role)
    assert all(order == sorted(order) for order in first_sends(hanging.seen).values())
    assert len(hanging.seen) == 20
    assert not engine.parked()


@pytest.mark.parametrize("limits", [{}, {"rate": 0.5}])
def test_a_hanging_resource_does_not_block_another_target(engine: Engine, limits: dict[str, float]) -> None:
    engine.apply({**ORDERED, **limits}, {"id": "well", "kind": "well"})
    hanging, well = Hanging(), Scripted()
    role = engine.start(plain=hanging, well=well)
    engine.offer([ordered_delivery(number, "i-1") for number in range(LIMIT + 200)], 0)
    if not limits:
        engine.turn(role, lambda: len(hanging.seen) == 1)
    engine.offer([delivery(number, "well") for number in range(10)], 0)
    engine.clock.advance(1.5)
    engine.turn(role, lambda: len(well.seen) == 10)
    assert len(hanging.seen) <= 1
    assert len(engine.parked()) == LIMIT + 200, "the one in flight keeps its place"
    hanging.release()


def test_parked_deliveries_of_a_suspended_target_become_dead_letters(engine: Engine) -> None:
    engine.apply(ORDERED)
    sink = Scripted(broken)
    role = engine.start(plain=sink)
    engine.offer([ordered_delivery(number, "i-1") for number in range(5)])
    engine.settle(role)
    engine.put_condition(TargetStatus.SUSPENDED, why="holiday")
    engine.pass_time(3, role)
    assert {verdict.exhausted for verdict in engine.verdicts()} == {"suspended"}
    assert len(engine.dead_letters()) == 5
    assert not engine.parked()
    engine.lift_condition(TargetStatus.SUSPENDED)
    engine.pass_time(1, role)
    sink.answer = lambda _: Delivered("ok")
    engine.offer([ordered_delivery(9, "i-1")])
    engine.settle(role)
    assert sink.seen[-1].source.offset == 9


def test_a_throttle_keeps_the_order(engine: Engine) -> None:
    engine.apply(ORDERED)
    outcomes: list[Outcome] = [Retry(Reason(ReasonCode.THROTTLED), 5.0)]
    sink = Wired(lambda _: outcomes.pop() if outcomes else Delivered("ok"))
    role = engine.start(plain=sink)
    engine.offer([ordered_delivery(number, f"i-{number % 2}") for number in range(10)])
    engine.settle(role)
    engine.pass_time(3, role)
    engine.offer([ordered_delivery(number, f"i-{number % 2}") for number in range(10, 14)])
    engine.pass_time(6, role)
    assert first_sends(sink.seen) == {"i-0": list(range(0, 14, 2)), "i-1": list(range(1, 14, 2))}
    assert not engine.parked()


def test_parked_deliveries_of_a_deleted_target_become_dead_letters(engine: Engine) -> None:
    engine.apply(ORDERED)
    role = engine.start(plain=Scripted(broken))
    engine.offer([ordered_delivery(number, "i-1") for number in range(3)])
    engine.settle(role)
    engine.delete()
    engine.pass_time(3, role)
    assert {verdict.exhausted for verdict in engine.verdicts()} == {"no-target"}
    assert len(engine.dead_letters()) == 3
    assert not engine.parked()


def test_parked_deliveries_are_sent_after_their_target_stops_being_ordered(engine: Engine) -> None:
    engine.apply(ORDERED)
    sink = Scripted(broken)
    role, wheel = engine.start(plain=sink), engine.start_wheel()
    engine.offer([ordered_delivery(number, "i-1") for number in range(3)])
    engine.settle(role)
    engine.apply({**ORDERED, "ordered": False})
    engine.pass_time(2, role)
    sink.answer = lambda _: Delivered("ok")
    for _ in range(30):
        wheel.step(0.0)
        engine.pass_time(1, role)
    assert len(engine.verdicts()) == 3
    assert not engine.parked()


def test_changed_settings_of_an_ordered_target_wait_for_its_calls_to_end(engine: Engine) -> None:
    engine.apply(ORDERED)
    hanging = Hanging()
    role = engine.start(plain=hanging)
    engine.offer([ordered_delivery(number, "i-1") for number in range(4)])
    engine.turn(role, lambda: len(hanging.seen) == 1)
    engine.apply({**ORDERED, "note": "changed"})
    engine.offer([ordered_delivery(4, "i-1")])
    for _ in range(5):
        engine.clock.advance(0.1)
        role.step(0.01)
    assert len(hanging.seen) == 1
    hanging.release()
    engine.pass_time(5, role)
    assert first_sends(hanging.seen)["i-1"] == [0, 1, 2, 3, 4]


def test_a_delivery_in_flight_at_a_crash_is_sent_before_those_parked_behind_it(engine: Engine) -> None:
    """The next owner reads `parked` before the records that were not committed."""
    engine.apply({**ORDERED, "in_flight": 1, "concurrency": 1}, {"id": "well", "kind": "well"})
    hanging, well = Hanging(), Scripted()
    first = engine.start(plain=hanging, well=well)
    engine.offer([ordered_delivery(number, "i-1") for number in range(4)], 1)
    engine.turn(first, lambda: len(hanging.seen) == 1)
    engine.clock.advance(1.5)
    engine.turn(first, lambda: len(engine.parked()) > 1)
    engine.kill_member()
    engine.offer([delivery(number, "well") for number in range(4 * LIMIT)], 0)
    engine.clock.advance(60)
    sink = Scripted()
    second = engine.start(plain=sink, well=well)
    engine.settle(second)
    engine.pass_time(5, second)
    assert first_sends(sink.seen)["i-1"] == [0, 1, 2, 3]
    assert not engine.parked()
    assert engine.uncommitted() == 0
    hanging.release()


def test_parked_deliveries_wait_for_calls_with_the_old_settings_to_end(engine: Engine) -> None:
    engine.apply(ORDERED)
    hanging = Hanging()
    hanging.answer = lambda one: BROKEN if one.attempts.count == 0 else Delivered("ok")
    role = engine.start(plain=hanging)
    engine.offer([ordered_delivery(0, "i-1"), ordered_delivery(1, "i-1")])
    engine.turn(role, lambda: len(hanging.answers) == 1)
    hanging.answers.pop(0)()
    engine.turn(role, lambda: len(engine.parked()) == 2)
    engine.offer([ordered_delivery(2, "i-2")])
    engine.turn(role, lambda: len(hanging.seen) == 2)
    engine.apply({**ORDERED, "note": "changed"})
    for _ in range(20):
        engine.clock.advance(0.2)
        role.step(0.01)
    assert [one.source.offset for one in hanging.seen] == [0, 2]
    hanging.release()
    engine.pass_time(5, role)
    assert first_sends(hanging.seen) == {"i-1": [0, 1], "i-2": [2]}
    assert not engine.parked()
    assert engine.uncommitted() == 0


class Receiver:
    """The receiver of several members; its answers are random. `early`: deliveries that were first sent before all
    earlier ones of their resource had ended."""

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
    """Deliverers on one bus that join, leave and are killed."""

    def __init__(self, engine: Engine, receiver: Receiver) -> None:
        self._engine = engine
        self._receiver = receiver
        self._names: dict[Deliverer, str] = {}
        self.living = [self._make()]

    def _make(self) -> Deliverer:
        before = self._engine.bus.members("deliverer")
        role = self._engine.start(plain=Wired(self._receiver.answer, seconds=0.001))
        (self._names[role],) = self._engine.bus.members("deliverer") - before
        return role

    def join(self) -> None:
        if len(self.living) < 3:
            self.living.append(self._make())

    def leave(self, chance: random.Random) -> None:
        self.join()
        self._engine.close(self.living.pop(chance.randrange(len(self.living))))

    def kill(self, chance: random.Random) -> None:
        self.join()
        victim = self.living.pop(chance.randrange(len(self.living)))
        self._engine.bus.kill(self._names[victim])

    def step(self) -> None:
        for role in self.living:
            role.step(0.003)


def offer_some(engine: Engine, receiver: Receiver, chance: random.Random, start: int) -> None:
    for number in range(start, start + 6):
        resource = chance.randrange(4)
        one = ordered_delivery(number, f"i-{resource}")
        receiver.offered[one.resource].append(one.id)
        placed = msgspec.structs.replace(one, lane=resource % 2, key=b"ops%d" % (resource % 2))
        engine.offer([placed], resource % 2)


@pytest.mark.parametrize("seed", range(12))
def test_first_sends_keep_the_order_under_failures_and_kills(engine: Engine, seed: int) -> None:
    engine.apply({**ORDERED, "lanes": 2, "breaker": {"attempts": 8, "rest": 2}})
    receiver, chance = Receiver(seed), random.Random(f"turns {seed}")
    members = Members(engine, receiver)
    for turned in range(60):
        match chance.randrange(8):
            case 0:
                members.join()
            case 1:
                members.leave(chance)
            case 2:
                members.kill(chance)
            case 3 | 4:
                engine.clock.advance(chance.choice((0.3, 1, 3)))
            case _:
                offer_some(engine, receiver, chance, 6 * turned)
        members.step()
    offered = {one for ids in receiver.offered.values() for one in ids}
    for _ in range(2000):
        if {verdict.delivery for verdict in engine.verdicts()} == offered and not engine.parked():
            break
        engine.clock.advance(0.2)
        members.step()
    assert {verdict.delivery for verdict in engine.verdicts()} == offered
    assert not engine.parked()
    assert not receiver.early
