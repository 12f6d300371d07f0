"""What outcomes say about a target: throttle it, leave it alone, suspend it, or lift what held it back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

from router.deliver.breaker import ASKS_FOR_LESS, opened, throttled
from router.deliver.lane import Lane
from router.deliver.policy import longest
from router.deliver.settle import Ended, Settlement
from router.deliver.target_states import Open, Suspended, TargetStates
from schemas.delivery import Exhausted, Outcome, Rejected, Retry
from schemas.record import NewRecord
from schemas.target_state import Condition, TargetStatus, condition_record, lifted_record

_log = structlog.get_logger()


def judge(
    lane: Lane,
    outcomes: Sequence[Outcome],
    settlements: Sequence[Settlement],
    states: TargetStates,
    now: int,
    monotonic: float,
) -> Iterator[NewRecord]:
    """The records for `state` that follow from the outcomes of a call; what they say holds in `states` at once.

    `now`: milliseconds since the epoch; `monotonic`: seconds.
    """
    failures = [outcome for outcome in outcomes if isinstance(outcome, Retry)]
    if lane.failures is not None:
        lane.failures.add(len(outcomes), len(failures), monotonic)
    gate = states.gate(lane.target.id, now)
    if isinstance(gate, Suspended):
        return
    answered = len(failures) < len(outcomes)
    if answered and isinstance(gate, Open):
        yield from _lift(gate, states)
    found = _suspend(lane, outcomes, settlements, now)
    if found is None and failures and isinstance(gate, Open):
        found = _open(lane, failures[-1], states, now, monotonic, failed_probe=gate.probe and not answered)
    found = found or _throttle(lane, failures, states, now)
    if found is not None:
        states.put(found)
        _log.warning("target held back", target=found.target, state=found.status, why=found.why)
        yield condition_record(found)


def _suspend(
    lane: Lane, outcomes: Sequence[Outcome], settlements: Sequence[Settlement], now: int
) -> Condition | None:
    for outcome, settlement in zip(outcomes, settlements, strict=True):
        if isinstance(settlement, Ended) and settlement.exhausted is Exhausted.SUSPENDED:
            assert isinstance(outcome, Rejected)  # noqa: S101 - nothing else ends so
            why = outcome.reason.detail
            return Condition(lane.target.id, TargetStatus.SUSPENDED, now, why=why, by="the receiver")
    return None


def _open(
    lane: Lane, failure: Retry, states: TargetStates, now: int, monotonic: float, *, failed_probe: bool
) -> Condition | None:
    """The open breaker, if the probe failed or too much else did."""
    policy = lane.target.breaker
    if not policy or lane.failures is None or not (failed_probe or lane.failures.trips(monotonic)):
        return None
    lane.failures.clear()
    before = states.of(lane.target.id, TargetStatus.OPEN)
    return opened(lane.target.id, policy, before, _why(failure), now)


def _throttle(lane: Lane, failures: Sequence[Retry], states: TargetStates, now: int) -> Condition | None:
    less = [failure for failure in failures if failure.reason.code in ASKS_FOR_LESS]
    if not less:
        return None
    before = states.of(lane.target.id, TargetStatus.THROTTLED)
    asked = min(max(failure.after or 0.0 for failure in less), 2 * longest(lane.target.retry))
    return throttled(lane.target.id, before, asked, _why(less[-1]), now)


def _lift(gate: Open, states: TargetStates) -> Iterator[NewRecord]:
    """An answer came after a pause: whatever paused the target is over."""
    for condition in gate.tried:
        states.lift(condition.target, condition.status)
        _log.info("target answers again", target=condition.target, state=condition.status)
        yield lifted_record(condition.target, condition.status)


def _why(failure: Retry) -> str:
    return f"{failure.reason.code} {failure.reason.detail}".rstrip()
