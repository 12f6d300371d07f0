"""Targets that are throttled, left alone, suspended, at their rate, or too late: what becomes of their deliveries."""

from __future__ import annotations

import msgspec
from prometheus_client import REGISTRY

from heliograph.bus.memory import MemoryBus
from router.deliver.deliverer import Deliverer
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
from schemas.target_state import (
    GRAVITY,
    Condition,
    TargetStatus,
    condition_record,
    lifted_record,
    read_condition,
)
from schemas.topics import DEAD_LETTERS, STATE
from tests.router.deliver.sinks import (
    Hanging,
    Scripted,
    Wired,
    apply,
    broken,
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

LESS = Retry(Reason(ReasonCode.THROTTLED, "slow down", 429))
GONE = Rejected(Reason(ReasonCode.GONE, "moved away", 410))
PATIENT = {"id": "ops", "kind": "plain", "concurrency": 1, "retry": {"tries": 1000, "first": 600, "cap": 600}}


def conditions(bus: MemoryBus) -> list[Condition | tuple[str, TargetStatus]]:
    return [read_condition(record) for record in records(bus, STATE)]


def statuses(bus: MemoryBus) -> list[str]:
    """What was put on record, and `lifted` for what was taken off."""
    return [one.status if isinstance(one, Condition) else "lifted" for one in conditions(bus)]


def run_for(seconds: float, clock: ManualClock, wheel: Wheel, *roles: Deliverer, step: float = 0.25) -> None:
    """Let time pass while everybody turns."""
    for _ in range(round(seconds / step)):
        clock.advance(step)
        wheel.step(0.0)
        for role in roles:
            settled(role)


def test_a_target_that_asks_for_less_gets_nothing_for_as_long_as_it_asks(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", PATIENT, {"id": "well", "kind": "well"})
    outcomes: list[Outcome] = [Retry(LESS.reason, 30.0)]
    sink, well = Wired(lambda _: outcomes.pop() if outcomes else Delivered("ok")), Scripted()
    role, wheel = deliverer(bus, kinds(plain=sink, well=well), clock), Wheel(bus, clock)
    offer(bus, [delivery(number) for number in range(20)])
    offer(bus, [delivery(number, "well") for number in range(20)])
    turn(role, lambda: len(waiting(bus)) == 20)
    assert len(sink.seen) == 1, "what was handed out and not sent is called back"
    assert {one.attempts.count for one in waiting(bus)} == {0, 1}
    turn(role, lambda: len(well.seen) == 20)
    run_for(29, clock, wheel, role)
    assert len(sink.seen) == 1
    run_for(5, clock, wheel, role)
    assert len(sink.seen) == 20, "all but the one that was refused, which has a wait of its own"
    assert statuses(bus) == ["throttled", "lifted"]
    wheel.close()
    role.close()


def test_what_the_metric_shows_of_a_target_changes_with_time_alone(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", PATIENT)
    role = deliverer(bus, kinds(plain=Wired(lambda _: Retry(LESS.reason, 30.0))), clock)
    offer(bus, [delivery(1)])
    turn(role, lambda: len(waiting(bus)) == 1)
    for passes, status in ((1, TargetStatus.THROTTLED), (30, TargetStatus.ACTIVE)):
        clock.advance(passes)
        role.step(0.0)
        shown = REGISTRY.get_sample_value("heliograph_target_state", {"target": "ops"})
        assert shown == GRAVITY[status]
    role.close()


def test_a_short_throttle_has_deliveries_wait_where_they_are(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", PATIENT)
    outcomes: list[Outcome] = [LESS]
    sink = Wired(lambda _: outcomes.pop() if outcomes else Delivered("ok"))
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [delivery(number) for number in range(20)])
    turn(role, lambda: len(waiting(bus)) == 1)
    for _ in range(20):
        role.step(0.0)
    assert len(sink.seen) == 1
    clock.advance(1)
    settled(role)
    assert len(sink.seen) == 20
    assert len(waiting(bus)) == 1
    role.close()


def test_an_open_breaker_uses_up_no_tries_and_a_probe_closes_it(bus: MemoryBus, clock: ManualClock) -> None:
    breaker = {"attempts": 5, "share": 0.5, "window": 60, "rest": 10}
    apply(bus, "all", {**PATIENT, "retry": {"tries": 3, "first": 1, "cap": 1}, "breaker": breaker})
    sink = Wired(broken)
    role, wheel = deliverer(bus, kinds(plain=sink), clock), Wheel(bus, clock)
    offer(bus, [delivery(number) for number in range(50)])
    run_for(5, clock, wheel, role)
    tried = len(sink.seen)
    assert 5 <= tried <= 7
    assert statuses(bus) == ["open"]
    run_for(60, clock, wheel, role)
    assert tried + 2 <= len(sink.seen) <= tried + 3, "one probe after 10 s, one after another 20"
    assert set(statuses(bus)) == {"open"}
    assert not verdicts(bus)
    sink.answer = lambda _: Delivered("ok")
    run_for(700, clock, wheel, role, step=1.0)
    assert {verdict.state for verdict in verdicts(bus)} == {VerdictState.DELIVERED}
    assert len(verdicts(bus)) == 50
    assert statuses(bus)[-1] == "lifted"
    assert unfinished(bus) == 0
    wheel.close()
    role.close()


def test_a_breaker_that_is_switched_off_stays_closed(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {**PATIENT, "breaker": False})
    sink = Scripted(broken)
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [delivery(number) for number in range(100)])
    settled(role)
    assert len(sink.seen) == 100
    assert not statuses(bus)
    role.close()


def test_what_another_process_has_found_is_heeded_within_half_a_second(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", {**PATIENT, "concurrency": 2})
    hanging = Hanging()
    role = deliverer(bus, kinds(plain=hanging), clock)
    offer(bus, [delivery(number) for number in range(10)])
    turn(role, lambda: len(hanging.seen) == 2)
    bus.append(
        [
            condition_record(
                Condition(
                    target="ops", status=TargetStatus.OPEN, since=clock.now(), until=clock.now() + 60_000
                )
            )
        ]
    )
    clock.advance(0.5)
    turn(role, lambda: len(waiting(bus)) == 8)
    hanging.let_go()
    settled(role)
    assert len(hanging.seen) == 2, "what was handed out and not sent is called back"
    role.close()


def test_a_receiver_that_is_gone_suspends_its_target(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", PATIENT)
    sink = Wired(lambda _: GONE)
    role = deliverer(bus, kinds(plain=sink), clock)
    offer(bus, [delivery(number) for number in range(10)])
    settled(role)
    assert len(sink.seen) == 1
    (condition,) = conditions(bus)
    assert isinstance(condition, Condition)
    assert (condition.status, condition.why, condition.by) == ("suspended", "moved away", "the receiver")
    letters = records(bus, DEAD_LETTERS)
    assert {read_delivery(one).id for one in letters} == {delivery(number).id for number in range(10)}
    assert {one.header("exhaustedRetryCondition") for one in letters} == {b"suspended"}
    bus.append([lifted_record("ops", TargetStatus.SUSPENDED)])
    sink.answer = lambda _: Delivered("back")
    clock.advance(1)
    offer(bus, [delivery(99)])
    settled(role)
    assert [verdict.state for verdict in verdicts(bus)].count(VerdictState.DELIVERED) == 1
    role.close()


def test_what_waits_on_the_wheel_of_a_suspended_target_ends_when_it_comes_back(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", {**PATIENT, "retry": {"first": 5, "jitter": "none"}})
    role, wheel = deliverer(bus, kinds(plain=Scripted(broken)), clock), Wheel(bus, clock)
    offer(bus, [delivery(1)])
    settled(role)
    bus.append(
        [
            condition_record(
                Condition(target="ops", status=TargetStatus.SUSPENDED, since=clock.now(), why="holiday")
            )
        ]
    )
    run_for(8, clock, wheel, role)
    (verdict,) = verdicts(bus)
    assert (verdict.state, verdict.exhausted, verdict.attempts.count) == (VerdictState.DEAD, "suspended", 1)
    wheel.close()
    role.close()


def test_a_rate_holds_up_neither_its_partition_nor_what_it_puts_off(
    bus: MemoryBus, clock: ManualClock
) -> None:
    apply(bus, "all", {**PATIENT, "rate": 2}, {"id": "well", "kind": "well"})
    slow, well = Hanging(), Scripted()
    role = deliverer(bus, kinds(plain=slow, well=well), clock)
    offer(bus, [delivery(number) for number in range(30)], 0)
    offer(bus, [delivery(number, "well") for number in range(30)], 0)
    turn(role, lambda: len(well.seen) == 30)
    put_off = sorted(one.wait.due - clock.now() for one in waiting(bus) if one.wait)
    assert put_off == [1500 + 500 * number for number in range(26)], "two seconds of the rate are taken in"
    role.close()
    slow.let_go()


def test_what_is_too_late_for_its_target_expires(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {**PATIENT, "expires": 60})
    sink = Scripted()
    role = deliverer(bus, kinds(plain=sink), clock)
    now = clock.now()
    ages = {1: 59_000, 2: 61_000}
    late = [msgspec.structs.replace(delivery(number), event_time=now - age) for number, age in ages.items()]
    brought_back = msgspec.structs.replace(delivery(3), event_time=now - 10**7, redrive="r1")
    offer(bus, [*late, brought_back])
    settled(role)
    assert sorted(one.source.offset for one in sink.seen) == [1, 3]
    ended = {verdict.source.rpartition(":")[2]: verdict for verdict in verdicts(bus)}
    assert (ended["2"].state, ended["2"].attempts.count) == (VerdictState.EXPIRED, 0)
    assert (ended["3"].state, ended["3"].redrive) == (VerdictState.DELIVERED, "r1")
    assert not records(bus, DEAD_LETTERS)
    role.close()


def test_a_delivery_that_is_put_off_for_too_long_dies_of_age(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {**PATIENT, "retry": {"age": 20}})
    until = clock.now() + 3_600_000
    bus.create(STATE)
    bus.append(
        [
            condition_record(
                Condition(
                    target="ops", status=TargetStatus.OPEN, since=clock.now(), until=clock.now() + 15_000
                )
            )
        ]
    )
    role, wheel = deliverer(bus, kinds(plain=Scripted()), clock), Wheel(bus, clock)
    offer(bus, [delivery(1)])
    run_for(10, clock, wheel, role)
    bus.append(
        [condition_record(Condition(target="ops", status=TargetStatus.OPEN, since=clock.now(), until=until))]
    )
    assert not verdicts(bus)
    run_for(8, clock, wheel, role)
    (verdict,) = verdicts(bus)
    assert (verdict.state, verdict.exhausted, verdict.attempts.count) == (VerdictState.DEAD, "age", 0)
    wheel.close()
    role.close()


def test_a_time_limit_of_the_target_ends_a_call(bus: MemoryBus) -> None:
    apply(bus, "all", {**PATIENT, "time_limit": 0.05})
    hanging = Hanging()
    role = deliverer(bus, kinds(plain=hanging))
    offer(bus, [delivery(1)])
    turn(role, lambda: len(waiting(bus)) == 1)
    (one,) = waiting(bus)
    reason = one.attempts.last[-1].reason
    assert reason is not None
    assert (reason.code, reason.detail) == (ReasonCode.TIMED_OUT, "no outcome within the target's 0.05 s")
    role.close()


def test_lanes_of_one_target_go_on_beside_each_other(bus: MemoryBus, clock: ManualClock) -> None:
    """A lane is full of one resource's deliveries; those of others pass in theirs."""
    apply(bus, "all", {**PATIENT, "lanes": 2, "concurrency": 2, "in_flight": 2})

    def of_lane(number: int, lane: int) -> Delivery:
        return msgspec.structs.replace(delivery(number), lane=lane, key=b"ops#%d" % lane)

    hanging = Hanging()
    role = deliverer(bus, kinds(plain=hanging), clock)
    offer(bus, [of_lane(number, 0) for number in range(5)], 0)
    offer(bus, [of_lane(number, 1) for number in range(10, 12)], 1)
    turn(role, lambda: len(hanging.seen) == 2)
    assert {one.lane for one in hanging.seen} == {0, 1}
    hanging.let_go()
    settled(role)
    assert len(hanging.seen) == 7
    role.close()
