"""When to try again: a pure function of the policy, of what happened, and of a source of chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from schemas.delivery import Delivery, Exhausted, ReasonCode, Rejected, Retry, Wait
from schemas.policy import RetryPolicy

LONGEST_DEFERRAL = 600.0
"""Seconds that a lane puts a delivery off without a try, at most."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further try. `exhausted`: the limit that was met."""

    exhausted: Exhausted


def chance(delivery: Delivery) -> Random:
    """The source of a delivery's jitter: a repeat of the same attempt after a crash draws the same."""
    deferrals = 0 if delivery.wait is None else delivery.wait.deferrals
    return Random(f"{delivery.id}:{delivery.attempts.count}:{deferrals}")  # noqa: S311 - spreads load, keeps no secret


def next_attempt(
    policy: RetryPolicy, tried: Delivery, outcome: Retry | Rejected, now_ms: int, random: Random
) -> Wait | GiveUp:
    """What follows the last attempt of `tried`, which ended in `outcome`.

    What the receiver asked for (`Retry.after`) is honoured between the policy's wait and twice its cap.
    """
    asked = None
    match outcome:
        case Retry(after=after):
            asked = after
        case Rejected(reason=reason):
            if reason.status not in policy.statuses:
                gone = reason.code is ReasonCode.GONE
                return GiveUp(Exhausted.SUSPENDED if gone else Exhausted.REJECTED)
    made = tried.attempts.count
    if made >= policy.tries:
        return GiveUp(Exhausted.TRIES)
    wait = _drawn(_delay(policy, made), policy, random)
    if asked is not None and asked > wait:
        wait = max(wait, min(asked, 2 * longest(policy)))
    due = now_ms + math.ceil(wait * 1000)
    if due > gives_up_at(policy, tried, now_ms):
        return GiveUp(Exhausted.AGE)
    return Wait(due, wait, 0, _began(tried, now_ms))


def gives_up_at(policy: RetryPolicy, delivery: Delivery, now_ms: int) -> float:
    """When a delivery is too old to wait on, in milliseconds since the epoch."""
    return _began(delivery, now_ms) + policy.age * 1000


def _began(delivery: Delivery, now_ms: int) -> int:
    """When it was first tried or put off."""
    first, wait = delivery.attempts.first, delivery.wait
    if wait is not None and wait.began:
        return wait.began
    return now_ms if first is None else first.at


def longest(policy: RetryPolicy) -> float:
    """Seconds of the policy's longest wait."""
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
    """Seconds after the `attempts_made`-th attempt, before jitter; by logarithms, as the power may overflow."""
    if policy.delays:
        return policy.delays[min(attempts_made, len(policy.delays)) - 1]
    doublings = (attempts_made - 1) * math.log(policy.factor)
    if policy.cap <= policy.first or doublings >= math.log(policy.cap / policy.first):
        return policy.cap
    return policy.first * math.exp(doublings)


def deferred(delivery: Delivery, now_ms: int, not_before_ms: int = 0) -> Wait:
    """The wait of a delivery that its lane puts off: up to a second, doubled at each deferral in a row, and at least
    until `not_before_ms`. Of the time half is drawn, so that what is put off together does not come back together."""
    before = delivery.wait or Wait(0, 0.0)
    most = min(2.0 ** min(before.deferrals, 16), LONGEST_DEFERRAL)
    seconds = most * (0.5 + chance(delivery).random() / 2)
    due = max(now_ms + round(seconds * 1000), not_before_ms)
    return Wait(due, (due - now_ms) / 1000, before.deferrals + 1, _began(delivery, now_ms))
