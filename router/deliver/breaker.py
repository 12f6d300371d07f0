"""When a target is left alone: the share of failures over a window, and pauses that grow. Time is an argument."""

from __future__ import annotations

from collections import deque

from schemas.delivery import Delivered, Outcome, ReasonCode
from schemas.policy import BreakerPolicy
from schemas.target_state import Condition, TargetStatus

ASKS_FOR_LESS = frozenset({ReasonCode.THROTTLED, ReasonCode.TIMED_OUT})
"""Why a target as a whole is spared for a while."""
LONGEST_THROTTLE = 60.0
"""Seconds that a target is spared which asks for less and does not say for how long, at most."""
_SLICES = 10


def holds_back(outcome: Outcome) -> bool:
    """Whether nothing more should be sent to the target before it is decided what the outcome says about it."""
    if isinstance(outcome, Delivered):
        return False
    return outcome.reason.code in ASKS_FOR_LESS or outcome.reason.code is ReasonCode.GONE


class FailureWindow:
    """Attempts of the last `window` seconds and how many failed, counted in tenths of it."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._slices: deque[tuple[int, int, int]] = deque()  # number of the slice, ended, failed

    def add(self, ended: int, failed: int, now: float) -> None:
        """Count attempts that ended now. `now`: seconds of the monotonic clock."""
        number = self._slice(now)
        if self._slices and self._slices[-1][0] == number:
            _, ended_before, failed_before = self._slices.pop()
            ended, failed = ended + ended_before, failed + failed_before
        self._slices.append((number, ended, failed))

    def trips(self, now: float) -> bool:
        """Whether so many failed that the target is to be left alone."""
        oldest = self._slice(now) - _SLICES
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()
        ended = sum(each[1] for each in self._slices)
        failed = sum(each[2] for each in self._slices)
        return ended >= self._policy.attempts and failed >= self._policy.share * ended

    def clear(self) -> None:
        """Count anew."""
        self._slices.clear()

    def _slice(self, now: float) -> int:
        return int(now * _SLICES / self._policy.window)


def opened(target: str, policy: BreakerPolicy, before: Condition | None, why: str, now: int) -> Condition:
    """The open breaker, after the `before` that was on record. `now`: milliseconds since the epoch."""
    times = before.times + 1 if before is not None else 1
    rest = min(policy.rest * 2.0 ** min(times - 1, 30), policy.longest)
    since = before.since if before is not None else now
    return Condition(target, TargetStatus.OPEN, since, now + round(rest * 1000), times, why)


def throttled(target: str, before: Condition | None, asked: float, why: str, now: int) -> Condition | None:
    """The pause of a target that asks for less, or None if it has one already that is long enough.

    `asked`: seconds that it named, 0 if it did not; the pause is a second, doubled each time in a row that it asks
    again after a pause, and never shorter than `asked`.
    """
    paused = before is not None and before.until > now
    times = before.times + (not paused) if before is not None else 1
    seconds = max(asked, min(2.0 ** min(times - 1, 30), LONGEST_THROTTLE))
    until = now + round(seconds * 1000)
    if before is not None and paused and until <= before.until + 250:
        return None
    since = before.since if before is not None else now
    return Condition(target, TargetStatus.THROTTLED, since, until, times, why)
