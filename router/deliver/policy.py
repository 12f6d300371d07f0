"""The time of the next attempt: a pure function of the policy, of what happened, and of a source of randomness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from schemas.delivery import Delivery, Exhausted, ReasonCode, Rejected, Retry, Wait
from schemas.policy import RetryPolicy

LONGEST_DEFERRAL = 600.0
"""Longest deferral in seconds."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt. `exhausted`: the limit that was met."""

    exhausted: Exhausted


def jitter_source(delivery: Delivery) -> Random:
    """Returns the source of a delivery's jitter; a repeat of the same attempt after a crash draws the same jitter."""
    deferrals = 0 if delivery.wait is None else delivery.wait.deferrals
    return Random(f"{delivery.id}:{delivery.attempts.count}:{deferrals}")  # noqa: S311 - spreads load, keeps no secret


def next_attempt(
    policy: RetryPolicy, attempted: Delivery, outcome: Retry | Rejected, *, now: int, random: Random
) -> Wait | GiveUp:
    """Returns the wait after the last attempt of `attempted`, which ended in `outcome`, or the limit that it met.

    `now`: milliseconds since the epoch. The wait is as long as the receiver asked for (`Retry.after`), but not shorter
    than the policy's wait and not longer than twice its longest.
    """
    asked = None
    match outcome:
        case Retry(after=after):
            asked = after
        case Rejected(reason=reason):
            if reason.status not in policy.statuses:
                gone = reason.code is ReasonCode.GONE
                return GiveUp(Exhausted.SUSPENDED if gone else Exhausted.REJECTED)
    made = attempted.attempts.count
    if made >= policy.tries:
        return GiveUp(Exhausted.TRIES)
    wait = _drawn(_delay(policy, made), policy, random)
    if asked is not None and asked > wait:
        wait = max(wait, min(asked, 2 * longest(policy)))
    due = now + math.ceil(wait * 1000)
    if due > gives_up_at(policy, attempted, now):
        return GiveUp(Exhausted.AGE)
    return Wait(due, wait, 0, _began(attempted, now))


def gives_up_at(policy: RetryPolicy, delivery: Delivery, now: int) -> float:
    """Returns the time after which a delivery waits no longer, in milliseconds since the epoch."""
    return _began(delivery, now) + policy.age * 1000


def _began(delivery: Delivery, now: int) -> int:
    """Returns the time of the first attempt or deferral, in milliseconds since the epoch."""
    first, wait = delivery.attempts.first, delivery.wait
    if wait is not None and wait.began:
        return wait.began
    return now if first is None else first.at


def longest(policy: RetryPolicy) -> float:
    """Returns the policy's longest wait in seconds."""
    return max(policy.delays, default=policy.cap)


def _drawn(delay: float, policy: RetryPolicy, random: Random) -> float:
    match policy.jitter:
        case "full":
            return delay * random.random()
        case "equal":
            return delay * (0.5 + random.random() / 2)
        case "none":
            return delay


def _delay(policy: RetryPolicy, attempts_made: int) -> float:
    """Returns the wait after so many attempts in seconds, without jitter. Uses logarithms: the power may overflow."""
    if policy.delays:
        return policy.delays[min(attempts_made, len(policy.delays)) - 1]
    doublings = (attempts_made - 1) * math.log(policy.factor)
    if policy.cap <= policy.first or doublings >= math.log(policy.cap / policy.first):
        return policy.cap
    return policy.first * math.exp(doublings)


def deferral(delivery: Delivery, now: int, not_before: int = 0) -> Wait:
    """Returns the wait of a delivery that is deferred without an attempt.

    It lasts up to a second, doubled at each deferral in a row, and at least until `not_before`. Half of it is random,
    so that deliveries deferred together do not come back together. Times are milliseconds since the epoch.
    """
    before = delivery.wait or Wait(0, 0.0)
    most = min(2.0 ** min(before.deferrals, 16), LONGEST_DEFERRAL)
    seconds = most * (0.5 + jitter_source(delivery).random() / 2)
    due = max(now + round(seconds * 1000), not_before)
    return Wait(due, (due - now) / 1000, before.deferrals + 1, _began(delivery, now))
