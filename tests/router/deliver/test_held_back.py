"""Deliveries of targets that are throttled, have an open breaker, are suspended, at their rate, or expire."""

from __future__ import annotations

import msgspec
from prometheus_client import REGISTRY

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
)
from tests.router.deliver.engine import Engine
from tests.router.deliver.sinks import Hanging, Scripted, Wired, broken, delivery

LESS = Retry(Reason(ReasonCode.THROTTLED, "slow down", 429))
GONE = Rejected(Reason(ReasonCode.GONE, "moved away", 410))
PATIENT = {"id": "ops", "kind": "plain", "concurrency": 1, "retry": {"tries": 1000, "first": 600, "cap": 600}}


def test_a_throttled_target_gets_nothing_for_as_long_as_it_asks(engine: Engine) -> None:
    engine.apply(PATIENT, {"id": "well", "kind": "well"})
    outcomes: list[Outcome] = [Retry(LESS.reason, 30.0)]
    sink, well = Wired(lambda _: outcomes.pop() if outcomes else Delivered("ok")), Scripted()
    role, wheel = engine.start(plain=sink, well=well), engine.start_wheel()
    engine.offer([delivery(number) for number in range(20)])
    engine.offer([delivery(number, "well") for number in range(20)])
    engine.turn(role, lambda: len(engine.waiting()) == 20)
    assert len(sink.seen) == 1, "deliveries in flight that were not attempted are recalled"
    assert {one.attempts.count for one in engine.waiting()} == {0, 1}
    engine.turn(role, lambda: len(well.seen) == 20)
    engine.pass_time(29, wheel, role, step=0.25)
    assert len(sink.seen) == 1
    engine.pass_time(5, wheel, role, step=0.25)
    assert len(sink.seen) == 20, "all but the throttled one, which has a wait of its own"
    assert engine.statuses() == ["throttled", "lifted"]


def test_the_metric_of_a_target_changes_when_its_throttle_has_passed(engine: Engine) -> None:
    engine.apply(PATIENT)
    role = engine.start(plain=Wired(lambda _: Retry(LESS.reason, 30.0)))
    engine.offer([delivery(1)])
    engine.turn(role, lambda: len(engine.waiting()) == 1)
    for passes, status in ((1, TargetStatus.THROTTLED), (30, TargetStatus.ACTIVE)):
        engine.clock.advance(passes)
        role.step(0.0)
        shown = REGISTRY.get_sample_value("heliograph_target_state", {"target": "ops"})
        assert shown == GRAVITY[status]


def test_deliveries_wait_in_the_lane_during_a_short_throttle(engine: Engine) -> None:
    engine.apply(PATIENT)
    outcomes: list[Outcome] = [LESS]
    sink = Wired(lambda _: outcomes.pop() if outcomes else Delivered("ok"))
    role = engine.start(plain=sink)
    engine.offer([delivery(number) for number in range(20)])
    engine.turn(role, lambda: len(engine.waiting()) == 1)
    for _ in range(20):
        role.step(0.0)
    assert len(sink.seen) == 1
    engine.clock.advance(1)
    engine.settle(role)
    assert len(sink.seen) == 20
    assert len(engine.waiting()) == 1


def test_an_open_breaker_uses_no_attempts_and_a_successful_probe_closes_it(engine: Engine) -> None:
    breaker = {"attempts": 5, "share": 0.5, "window": 60, "rest": 10}
    engine.apply({**PATIENT, "retry": {"tries": 3, "first": 1, "cap": 1}, "breaker": breaker})
    sink = Wired(broken)
    role, wheel = engine.start(plain=sink), engine.start_wheel()
    engine.offer([delivery(number) for number in range(50)])
    engine.pass_time(5, wheel, role, step=0.25)
    tried = len(sink.seen)
    assert 5 <= tried <= 7
    assert engine.statuses() == ["open"]
    engine.pass_time(60, wheel, role, step=0.25)
    assert tried + 2 <= len(sink.seen) <= tried + 3, "one probe after 10 s, one after another 20"
    assert set(engine.statuses()) == {"open"}
    assert not engine.verdicts()
    sink.answer = lambda _: Delivered("ok")
    engine.pass_time(700, wheel, role, step=1.0)
    assert {verdict.state for verdict in engine.verdicts()} == {VerdictState.DELIVERED}
    assert len(engine.verdicts()) == 50
    assert engine.statuses()[-1] == "lifted"
    assert engine.uncommitted() == 0


def test_a_breaker_that_is_switched_off_stays_closed(engine: Engine) -> None:
    engine.apply({**PATIENT, "breaker": False})
    sink = Scripted(broken)
    role = engine.start(plain=sink)
    engine.offer([delivery(number) for number in range(100)])
    engine.settle(role)
    assert len(sink.seen) == 100
    assert not engine.statuses()


def test_a_condition_of_another_process_applies_within_half_a_second(engine: Engine) -> None:
    engine.apply({**PATIENT, "concurrency": 2})
    hanging = Hanging()
    role = engine.start(plain=hanging)
    engine.offer([delivery(number) for number in range(10)])
    engine.turn(role, lambda: len(hanging.seen) == 2)
    engine.put_condition(TargetStatus.OPEN, until=engine.clock.now() + 60_000)
    engine.clock.advance(0.5)
    engine.turn(role, lambda: len(engine.waiting()) == 8)
    hanging.release()
    engine.settle(role)
    assert len(hanging.seen) == 2, "deliveries in flight that were not attempted are recalled"


def test_a_receiver_that_is_gone_suspends_its_target(engine: Engine) -> None:
    engine.apply(PATIENT)
    sink = Wired(lambda _: GONE)
    role = engine.start(plain=sink)
    engine.offer([delivery(number) for number in range(10)])
    engine.settle(role)
    assert len(sink.seen) == 1
    (condition,) = engine.conditions()
    assert isinstance(condition, Condition)
    assert (condition.status, condition.why, condition.by) == ("suspended", "moved away", "the receiver")
    letters = engine.dead_letters()
    assert {read_delivery(one).id for one in letters} == {delivery(number).id for number in range(10)}
    assert {one.header("exhaustedRetryCondition") for one in letters} == {b"suspended"}
    engine.lift_condition(TargetStatus.SUSPENDED)
    sink.answer = lambda _: Delivered("back")
    engine.clock.advance(1)
    engine.offer([delivery(99)])
    engine.settle(role)
    assert [verdict.state for verdict in engine.verdicts()].count(VerdictState.DELIVERED) == 1


def test_a_delivery_on_the_wheel_of_a_suspended_target_ends_when_it_is_due(engine: Engine) -> None:
    engine.apply({**PATIENT, "retry": {"first": 5, "jitter": "none"}})
    role, wheel = engine.start(plain=Scripted(broken)), engine.start_wheel()
    engine.offer([delivery(1)])
    engine.settle(role)
    engine.put_condition(TargetStatus.SUSPENDED, why="holiday")
    engine.pass_time(8, wheel, role, step=0.25)
    (verdict,) = engine.verdicts()
    assert (verdict.state, verdict.exhausted, verdict.attempts.count) == (VerdictState.DEAD, "suspended", 1)


def test_a_target_at_its_rate_blocks_no_partition_and_defers_evenly(engine: Engine) -> None:
    engine.apply({**PATIENT, "rate": 2}, {"id": "well", "kind": "well"})
    slow, well = Hanging(), Scripted()
    role = engine.start(plain=slow, well=well)
    engine.offer([delivery(number) for number in range(30)], 0)
    engine.offer([delivery(number, "well") for number in range(30)], 0)
    engine.turn(role, lambda: len(well.seen) == 30)
    deferred = sorted(one.wait.due - engine.clock.now() for one in engine.waiting() if one.wait)
    assert deferred == [1500 + 500 * number for number in range(26)], "two seconds of the rate are in flight"
    engine.close(role)
    slow.release()


def test_a_delivery_older_than_its_target_accepts_expires(engine: Engine) -> None:
    engine.apply({**PATIENT, "expires": 60})
    sink = Scripted()
    role = engine.start(plain=sink)
    now = engine.clock.now()
    ages = {1: 59_000, 2: 61_000}
    late = [msgspec.structs.replace(delivery(number), event_time=now - age) for number, age in ages.items()]
    redriven = msgspec.structs.replace(delivery(3), event_time=now - 10**7, redrive="r1")
    engine.offer([*late, redriven])
    engine.settle(role)
    assert sorted(one.source.offset for one in sink.seen) == [1, 3]
    ended = {verdict.source.rpartition(":")[2]: verdict for verdict in engine.verdicts()}
    assert (ended["2"].state, ended["2"].attempts.count) == (VerdictState.EXPIRED, 0)
    assert (ended["3"].state, ended["3"].redrive) == (VerdictState.DELIVERED, "r1")
    assert not engine.dead_letters()


def test_a_delivery_deferred_beyond_its_age_limit_becomes_a_dead_letter(engine: Engine) -> None:
    engine.apply({**PATIENT, "retry": {"age": 20}})
    until = engine.clock.now() + 3_600_000
    engine.put_condition(TargetStatus.OPEN, until=engine.clock.now() + 15_000)
    role, wheel = engine.start(plain=Scripted()), engine.start_wheel()
    engine.offer([delivery(1)])
    engine.pass_time(10, wheel, role, step=0.25)
    engine.put_condition(TargetStatus.OPEN, until=until)
    assert not engine.verdicts()
    engine.pass_time(8, wheel, role, step=0.25)
    (verdict,) = engine.verdicts()
    assert (verdict.state, verdict.exhausted, verdict.attempts.count) == (VerdictState.DEAD, "age", 0)


def test_a_call_ends_at_the_time_limit_of_its_target(engine: Engine) -> None:
    engine.apply({**PATIENT, "time_limit": 0.05})
    hanging = Hanging()
    role = engine.start(plain=hanging)
    engine.offer([delivery(1)])
    engine.turn(role, lambda: len(engine.waiting()) == 1)
    (one,) = engine.waiting()
    reason = one.attempts.last[-1].reason
    assert reason is not None
    assert (reason.code, reason.detail) == (
        ReasonCode.TIMED_OUT,
        "no outcome within the target's time limit of 0.05 s",
    )


def test_a_full_lane_does_not_block_another_lane_of_its_target(engine: Engine) -> None:
    """Each resource belongs to one lane; the other lanes of the target have other resources."""
    engine.apply({**PATIENT, "lanes": 2, "concurrency": 2, "in_flight": 2})

    def of_lane(number: int, lane: int) -> Delivery:
        return msgspec.structs.replace(delivery(number), lane=lane, key=b"ops#%d" % lane)

    hanging = Hanging()
    role = engine.start(plain=hanging)
    engine.offer([of_lane(number, 0) for number in range(5)], 0)
    engine.offer([of_lane(number, 1) for number in range(10, 12)], 1)
    engine.turn(role, lambda: len(hanging.seen) == 2)
    assert {one.lane for one in hanging.seen} == {0, 1}
    hanging.release()
    engine.settle(role)
    assert len(hanging.seen) == 7
