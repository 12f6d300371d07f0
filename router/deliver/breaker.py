"""The breaker and the throttle of a target: failures in a window, and pauses that grow. Time is an argument."""

from __future__ import annotations

from collections import deque

from schemas.delivery import Delivered, Outcome, ReasonCode
from schemas.policy import BreakerPolicy
from schemas.target_state import Condition, TargetStatus

SLOW_DOWN = frozenset({ReasonCode.THROTTLED, ReasonCode.TIMED_OUT})
"""Reasons to send less to a target, whichever delivery had them."""
LONGEST_THROTTLE = 60.0
"""Longest pause in seconds of a target that asks for less and names no time."""
_SLICES = 10


def stops_sending(outcome: Outcome) -> bool:
    """Returns True if nothing more should be sent to the target before the outcome has been judged."""
    if isinstance(outcome, Delivered):
        return False
    return outcome.reason.code in SLOW_DOWN or outcome.reason.code is ReasonCode.GONE


class FailureWindow:
    """Number of attempts in the last `window` seconds, and of failures among them; counted in tenths of the window."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._slices: deque[tuple[int, int, int]] = deque()  # number of the slice, ended, failed

    def add(self, ended: int, failed: int, now: float) -> None:
        """Counts attempts that ended now. `now`: seconds of the monotonic clock."""
        number = self._slice(now)
        if self._slices and self._slices[-1][0] == number:
            _, ended_before, failed_before = self._slices.pop()
            ended, failed = ended + ended_before, failed + failed_before
        self._slices.append((number, ended, failed))

    def trips(self, now: float) -> bool:
        """Returns True if so many attempts failed that the breaker opens."""
        oldest = self._slice(now) - _SLICES
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()
        ended = sum(each[1] for each in self._slices)
        failed = sum(each[2] for each in self._slices)
        return ended >= self._policy.attempts and failed >= self._policy.share * ended

    def clear(self) -> None:
        """Starts a new window."""
        self._slices.clear()

    def _slice(self, now: float) -> int:
        return int(now * _SLICES / self._policy.window)


def open_condition(
    target: str, policy: BreakerPolicy, before: Condition | None, *, why: str, now: int
) -> Condition:
    """Returns the condition of a breaker that opens; its rest doubles each time that it opens in a row.

    `before`: the condition on record, None if the breaker was closed. `now`: milliseconds since the epoch.
    """
    times = before.times + 1 if before is not None else 1
    rest = min(policy.rest * 2.0 ** min(times - 1, 30), policy.longest)
    since = before.since if before is not None else now
    until = now + round(rest * 1000)
    return Condition(target=target, status=TargetStatus.OPEN, since=since, until=until, times=times, why=why)


def throttle_condition(
    target: str, before: Condition | None, asked: float, *, why: str, now: int
) -> Condition | None:
    """Returns the throttle of a target that asks for less; None if `before` lasts long enough.

    `asked`: seconds that the target named, 0 if none; `now`: milliseconds since the epoch. The pause is one second,
    doubled each time that the target asks again after a pause, and never shorter than `asked`.
    """
    paused = before is not None and before.until > now
    times = before.times + (not paused) if before is not None else 1
    seconds = max(asked, min(2.0 ** min(times - 1, 30), LONGEST_THROTTLE))
    until = now + round(seconds * 1000)
    if before is not None and paused and until <= before.until + 250:
        return None
    since = before.since if before is not None else now
    return Condition(
        target=target, status=TargetStatus.THROTTLED, since=since, until=until, times=times, why=why
    )
