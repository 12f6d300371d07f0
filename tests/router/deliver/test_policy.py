from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from router.deliver.policy import Again, GiveUp, chance, deferred, next_attempt
from schemas.delivery import Attempt, Attempts, Reason, ReasonCode, Rejected, Retry, Wait
from schemas.subscription import RetryPolicy
from tests.router.deliver.sinks import delivery

NOW = 1_700_000_000_000
REASON = Reason(ReasonCode.TIMED_OUT)

policies = st.builds(
    RetryPolicy,
    tries=st.integers(1, 1000),
    first=st.floats(0.001, 86_400),
    factor=st.floats(1, 100),
    cap=st.floats(0.001, 604_800),
    jitter=st.booleans(),
)


def naive_delay(policy: RetryPolicy, attempts_made: int) -> float:
    """Multiply as often as there were attempts before."""
    delay = policy.first
    for _ in range(attempts_made - 1):
        delay = min(delay * policy.factor, policy.cap)
    return min(delay, policy.cap)


@given(policies, st.integers(1, 1000), st.integers())
def test_waits_as_the_naive_model_does(policy: RetryPolicy, attempts: int, seed: int) -> None:
    followed = next_attempt(policy, attempts, Retry(REASON), NOW, Random(seed))
    if attempts >= policy.tries:
        assert followed == GiveUp("tries")
        return
    assert isinstance(followed, Again)
    share = Random(seed).random() if policy.jitter else 1.0
    assert math.isclose(followed.wait_seconds, naive_delay(policy, attempts) * share, rel_tol=1e-6)
    assert 0 <= followed.due_ms - NOW - followed.wait_seconds * 1000 < 1.001


@given(policies, st.integers(1, 1000), st.floats(), st.integers())
def test_what_the_receiver_asks_for_is_honoured_between_delay_and_twice_the_cap(
    policy: RetryPolicy, attempts: int, after: float, seed: int
) -> None:
    plain = next_attempt(policy, attempts, Retry(REASON), NOW, Random(seed))
    asked = next_attempt(policy, attempts, Retry(REASON, after), NOW, Random(seed))
    if isinstance(plain, GiveUp):
        assert asked == plain
        return
    assert isinstance(asked, Again)
    assert plain.wait_seconds <= asked.wait_seconds <= max(2 * policy.cap, plain.wait_seconds)
    if plain.wait_seconds <= after <= 2 * policy.cap:
        assert asked.wait_seconds == after


@given(policies, st.integers(1, 1000))
def test_a_rejection_is_final(policy: RetryPolicy, attempts: int) -> None:
    assert next_attempt(policy, attempts, Rejected(REASON), NOW, Random(0)) == GiveUp("rejected")


def test_a_repeat_draws_the_same_and_another_attempt_does_not() -> None:
    first = delivery(1)
    draws = [chance(first).random(), chance(delivery(1)).random(), chance(delivery(2)).random()]
    assert draws[0] == draws[1] != draws[2]
    tried = Attempts().plus(Attempt(NOW, 0.1, REASON))
    later = next_attempt(RetryPolicy(), 1, Retry(REASON), NOW, chance(first))
    assert tried.count == 1
    assert later == next_attempt(RetryPolicy(), 1, Retry(REASON), NOW, chance(delivery(1)))


def test_deferrals_double_up_to_ten_minutes() -> None:
    wait: Wait | None = None
    seconds: list[float] = []
    for _ in range(12):
        wait = deferred(wait, NOW)
        assert wait.due == NOW + round(wait.total * 1000)
        seconds.append(wait.total)
    assert seconds == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    assert wait is not None
    assert wait.deferrals == 12
    assert deferred(Wait(0, 1.0, 10**9), NOW).total == 600
