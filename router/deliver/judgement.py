"""The consequences of outcomes for a target: throttle it, open its breaker, suspend it, or lift its earlier
conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from router.deliver.breaker import SLOW_DOWN, open_condition, throttle_condition
from router.deliver.lane import Lane
from router.deliver.policy import longest
from router.deliver.settle import Ended, Settlement
from router.deliver.target_states import Available, Suspended, TargetStates
from schemas.delivery import Exhausted, Outcome, Rejected, Retry
from schemas.record import NewRecord
from schemas.target_state import Condition, TargetStatus, condition_record, lifted_record

_log = structlog.get_logger()


class Judgement(NamedTuple):
    """Changes to the conditions of one target: those to lift, and one to put into force."""

    lifted: tuple[Condition, ...] = ()
    condition: Condition | None = None

    def apply(self, lane: Lane, states: TargetStates) -> list[NewRecord]:
        """Changes `states`, logs each change, and returns the records for the topic `state`.

        A breaker that opens starts a new window of failures.
        """
        records: list[NewRecord] = []
        for one in self.lifted:
            states.lift(one.target, one.status)
            _log.info("target answers again", target=one.target, state=one.status)
            records.append(lifted_record(one.target, one.status))
        if self.condition is not None:
            states.put(self.condition)
            if self.condition.status is TargetStatus.OPEN and lane.failures is not None:
                lane.failures.clear()
            _log.warning(
                "target held back",
                target=self.condition.target,
                state=self.condition.status,
                why=self.condition.why,
            )
            records.append(condition_record(self.condition))
        return records


def judge(
    lane: Lane,
    outcomes: Sequence[Outcome],
    settlements: Sequence[Settlement],
    states: TargetStates,
    *,
    now: int,
    monotonic: float,
) -> Judgement:
    """Returns the changes that follow from the outcomes of one call of a sink; changes nothing itself.

    `now`: milliseconds since the epoch; `monotonic`: seconds.
    """
    available = states.availability(lane.target.id, now)
    if isinstance(available, Suspended):
        return Judgement()
    failures = [outcome for outcome in outcomes if isinstance(outcome, Retry)]
    answered = len(failures) < len(outcomes)
    lifted = available.elapsed if answered and isinstance(available, Available) else ()
    known = None if lifted else states
    condition = _suspension(lane, outcomes, settlements, now)
    if condition is None and failures and isinstance(available, Available):
        failed_probe = available.probing and not answered
        if failed_probe or (lane.failures is not None and lane.failures.trips(monotonic)):
            condition = _opening(lane, failures[-1], known, now)
    return Judgement(lifted, condition or _throttling(lane, failures, known, now))


def _suspension(
    lane: Lane, outcomes: Sequence[Outcome], settlements: Sequence[Settlement], now: int
) -> Condition | None:
    """Returns the suspension of a target whose receiver is gone."""
    for outcome, settlement in zip(outcomes, settlements, strict=True):
        if isinstance(settlement, Ended) and settlement.exhausted is Exhausted.SUSPENDED:
            assert isinstance(outcome, Rejected)  # noqa: S101 - no other outcome exhausts this limit
            return Condition(
                target=lane.target.id,
                status=TargetStatus.SUSPENDED,
                since=now,
                why=outcome.reason.detail,
                by="the receiver",
            )
    return None


def _opening(lane: Lane, failure: Retry, known: TargetStates | None, now: int) -> Condition | None:
    """Returns the open breaker of a target; None if its breaker is switched off."""
    policy = lane.target.breaker
    if not policy:
        return None
    before = known.find(lane.target.id, TargetStatus.OPEN) if known is not None else None
    return open_condition(lane.target.id, policy, before, why=_why(failure), now=now)


def _throttling(
    lane: Lane, failures: Sequence[Retry], known: TargetStates | None, now: int
) -> Condition | None:
    """Returns the throttle of a target that asked for less; None if it has one that lasts long enough."""
    asking = [failure for failure in failures if failure.reason.code in SLOW_DOWN]
    if not asking:
        return None
    before = known.find(lane.target.id, TargetStatus.THROTTLED) if known is not None else None
    asked = min(max(failure.after or 0.0 for failure in asking), 2 * longest(lane.target.retry))
    return throttle_condition(lane.target.id, before, asked, why=_why(asking[-1]), now=now)


def _why(failure: Retry) -> str:
    return f"{failure.reason.code} {failure.reason.detail}".rstrip()
