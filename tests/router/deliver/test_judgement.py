"""Judgement of a target by the outcomes of one call."""

from __future__ import annotations

import pytest

from heliograph.bus.memory import MemoryBus
from router.deliver.judgement import Judgement, judge
from router.deliver.lane import Lane
from router.deliver.settle import settle
from router.deliver.target_states import TargetStates
from schemas.delivery import Delivered, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.policy import RetryPolicy
from schemas.subscription import Target
from schemas.target_state import Condition, TargetStatus, lifted_record
from tests.router.deliver.sinks import BROKEN, delivery

NOW = 1_700_000_000_000
OPEN = Condition(target="ops", status=TargetStatus.OPEN, since=NOW - 9000, until=NOW - 1, times=2)
THROTTLED = Condition(target="ops", status=TargetStatus.THROTTLED, since=NOW - 9000, until=NOW - 1)
SLOWER = Retry(Reason(ReasonCode.THROTTLED, "slow down"), 5.0)


@pytest.fixture
def states(bus: MemoryBus) -> TargetStates:
    return TargetStates(bus)


@pytest.fixture
def lane() -> Lane:
    breaker = {"attempts": 3, "rest": 10}
    return Lane(Target.model_validate({"id": "ops", "kind": "plain", "breaker": breaker}), 0, 1, 0.0)


def judged(lane: Lane, states: TargetStates, *outcomes: Outcome) -> Judgement:
    settlements = [
        settle(delivery(1), outcome, RetryPolicy(), at=NOW, took=0.1, now=NOW) for outcome in outcomes
    ]
    lane.complete([], outcomes, 1.0)
    return judge(lane, outcomes, settlements, states, now=NOW, monotonic=1.0)


def test_a_judgement_changes_nothing_before_it_is_applied(lane: Lane, states: TargetStates) -> None:
    states.put(OPEN)
    judgement = judged(lane, states, Delivered())
    assert states.find("ops", TargetStatus.OPEN) == OPEN
    (record,) = judgement.apply(lane, states)
    assert record == lifted_record("ops", TargetStatus.OPEN)
    assert states.find("ops", TargetStatus.OPEN) is None


def test_an_answer_lifts_all_elapsed_conditions(lane: Lane, states: TargetStates) -> None:
    states.put(OPEN)
    states.put(THROTTLED)
    assert judged(lane, states, Delivered(), BROKEN) == Judgement((OPEN, THROTTLED))


def test_a_throttle_after_an_answer_starts_again_from_its_first_pause(
    lane: Lane, states: TargetStates
) -> None:
    states.put(THROTTLED)
    condition = judged(lane, states, Delivered(), SLOWER).condition
    assert condition is not None
    assert (condition.status, condition.times, condition.until) == ("throttled", 1, NOW + 5000)


def test_a_failed_probe_doubles_the_rest_of_the_breaker(lane: Lane, states: TargetStates) -> None:
    states.put(OPEN)
    condition = judged(lane, states, BROKEN).condition
    assert condition is not None
    assert (condition.times, condition.until) == (3, NOW + 40_000)


def test_a_breaker_that_opens_starts_a_new_window_of_failures(lane: Lane, states: TargetStates) -> None:
    judgement = judged(lane, states, BROKEN, BROKEN, BROKEN)
    assert lane.failures is not None
    assert lane.failures.trips(1.0)
    judgement.apply(lane, states)
    assert not lane.failures.trips(1.0)


def test_a_suspended_target_is_not_judged(lane: Lane, states: TargetStates) -> None:
    states.put(Condition(target="ops", status=TargetStatus.SUSPENDED, since=NOW))
    gone = Rejected(Reason(ReasonCode.GONE, "moved away", 410))
    assert judged(lane, states, gone, SLOWER) == Judgement()
