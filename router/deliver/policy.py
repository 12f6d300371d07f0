"""When to try again: a pure function of the policy, of what happened, and of a source of chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from schemas.delivery import Delivery, Rejected, Retry, Wait
from schemas.subscription import RetryPolicy

LONGEST_DEFERRAL = 600.0
"""Seconds that a lane puts a delivery off without a try, at most."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try once more. `due_ms`: milliseconds since the epoch; `wait_seconds`: the whole wait from now until then."""

    due_ms: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further try. `exhausted`: the limit that was met, `tries` or `rejected`."""

    exhausted: str


def chance(delivery: Delivery) -> Random:
    """The source of a delivery's jitter: a repeat of the same attempt after a crash draws the same."""
    return Random(f"{delivery.id}:{delivery.attempts.count}")  # noqa: S311 - spreads load, keeps no secret


def next_attempt(
    policy: RetryPolicy, attempts_made: int, outcome: Retry | Rejected, now_ms: int, random: Random
) -> Again | GiveUp:
    """What follows the attempt that ended in `outcome`, the `attempts_made`-th of its delivery.

    Exponential with full jitter: anything between nothing and the delay. What the receiver asked for
    (`Retry.after`) is honoured between that and twice the cap.
    """
    match outcome:
        case Rejected():
            return GiveUp("rejected")
        case Retry(after=after):
            if attempts_made >= policy.tries:
                return GiveUp("tries")
            wait = _delay(policy, attempts_made) * (random.random() if policy.jitter else 1.0)
            if after is not None and after > wait:
                wait = min(after, 2 * policy.cap)
            return Again(now_ms + math.ceil(wait * 1000), wait)


def _delay(policy: RetryPolicy, attempts_made: int) -> float:
    """Seconds after the `attempts_made`-th attempt, before jitter; by logarithms, as the power may overflow."""
    doublings = (attempts_made - 1) * math.log(policy.factor)
    if doublings >= math.log(policy.cap / policy.first):
        return policy.cap
    return policy.first * math.exp(doublings)


def deferred(wait: Wait | None, now_ms: int) -> Wait:
    """The wait of a delivery that its lane puts off: a second, doubled at each deferral in a row."""
    deferrals = 0 if wait is None else wait.deferrals
    seconds = min(2.0 ** min(deferrals, 16), LONGEST_DEFERRAL)
    return Wait(now_ms + round(seconds * 1000), seconds, deferrals + 1)
