"""The retry policy: waits, limits, jitter and deferrals."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.policy import GiveUp, deferral, gives_up_at, jitter_source, longest, next_attempt
from schemas.delivery import (
    Attempt,
    Attempts,
    Delivery,
    Exhausted,
    Reason,
    ReasonCode,
    Rejected,
    Retry,
    Wait,
)
from schemas.policy import SCHEDULES, RetryPolicy
from tests.router.deliver.sinks import delivery

NOW = 1_700_000_000_000
REASON = Reason(ReasonCode.TIMED_OUT)

policies = st.builds(
    RetryPolicy,
    tries=st.integers(1, 1000),
    first=st.floats(0.001, 86_400),
    factor=st.floats(1, 100),
    cap=st.floats(0.001, 604_800),
    delays=st.lists(st.floats(0, 604_800), max_size=4).map(tuple),
    jitter=st.sampled_from(("full", "equal", "none")),
    age=st.floats(0.001, 2_592_000),
    statuses=st.sampled_from(((), (404, 409))),
)


def tried(times: int, first_at: int = NOW) -> Delivery:
    attempts = Attempts()
    for number in range(times):
        attempts = attempts.plus(Attempt(at=first_at + number, took=0.1, reason=REASON))
    return msgspec.structs.replace(delivery(1), attempts=attempts)


def naive_delay(policy: RetryPolicy, attempts_made: int) -> float:
    """Returns the listed delay, or multiplies the first delay once for each earlier attempt."""
    if policy.delays:
        return [*policy.delays, *[policy.delays[-1]] * attempts_made][attempts_made - 1]
    delay = policy.first
    for _ in range(attempts_made - 1):
        delay = min(delay * policy.factor, policy.cap)
    return min(delay, policy.cap)


def naive(policy: RetryPolicy, made: int, asked: float | None, status: int, seed: int) -> float | Exhausted:
    """Returns seconds to wait, or the limit that was met; `status`: of a rejection, otherwise 0."""
    if status and status not in policy.statuses:
        return Exhausted.REJECTED
    if made >= policy.tries:
        return Exhausted.TRIES
    delay, drawn = naive_delay(policy, made), Random(seed).random()
    wait = {"full": delay * drawn, "equal": delay / 2 + delay / 2 * drawn, "none": delay}[policy.jitter]
    cap = max(policy.delays) if policy.delays else policy.cap
    if asked is not None and asked > wait:
        wait = max(wait, min(asked, cap * 2))
    due, last = (
        NOW + math.ceil(wait * 1000),
        NOW + policy.age * 1000,
    )  # rounded as the float of a present time is
    return Exhausted.AGE if due > last else wait


@given(
    policies,
    st.integers(1, 12) | st.just(1000),
    st.none() | st.floats(0, 2_000_000),
    st.sampled_from((0, 0, 400, 404, 410)),
    st.integers(),
)
def test_the_policy_decides_as_the_naive_model_does(
    policy: RetryPolicy, made: int, asked: float | None, status: int, seed: int
) -> None:
    reason = Reason(ReasonCode.REFUSED, "", status)
    outcome = Rejected(reason) if status else Retry(REASON, asked)
    followed = next_attempt(policy, tried(made), outcome, now=NOW, random=Random(seed))
    expected = naive(policy, made, None if status else asked, status, seed)
    if isinstance(expected, Exhausted):
        assert followed == GiveUp(expected)
        return
    assert isinstance(followed, Wait)
    assert math.isclose(followed.total, expected, rel_tol=1e-6, abs_tol=1e-9)
    assert 0 <= followed.due - NOW - followed.total * 1000 < 1.001
    assert (followed.deferrals, followed.began) == (0, NOW)


@pytest.mark.parametrize(
    ("name", "waits"),
    [
        ("standard-webhooks", [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]),
        ("exponential-decay", [*(2**power for power in range(9)), *[512] * 166]),
    ],
)
def test_named_schedules_wait_as_published(name: str, waits: list[int]) -> None:
    policy = RetryPolicy.model_validate(name)
    now, found = NOW, []
    one = tried(1)
    while isinstance(following := next_attempt(policy, one, Retry(REASON), now=now, random=Random(0)), Wait):
        found.append(round(following.total))
        now = following.due
        one = msgspec.structs.replace(
            one, attempts=one.attempts.plus(Attempt(at=now, took=0.0, reason=REASON)), wait=following
        )
    assert found == waits
    assert following == GiveUp(Exhausted.TRIES)


def test_backoff_waits_ten_to_twenty_seconds() -> None:
    assert SCHEDULES["backoff"]["tries"] == 3
    policy = RetryPolicy.model_validate("backoff")
    waits = [
        next_attempt(policy, tried(1), Retry(REASON), now=NOW, random=Random(seed)) for seed in range(200)
    ]
    seconds = [wait.total for wait in waits if isinstance(wait, Wait)]
    assert len(seconds) == 200
    assert 10 <= min(seconds) < 11
    assert 19 < max(seconds) < 20


def test_age_counts_from_the_first_attempt_or_the_first_wait() -> None:
    policy = RetryPolicy(first=1, jitter="none", age=10)
    old = tried(2, NOW - 9_500)
    assert next_attempt(policy, old, Retry(REASON), now=NOW, random=Random(0)) == GiveUp(Exhausted.AGE)
    deferred = msgspec.structs.replace(tried(1), wait=Wait(NOW, 1.0, 3, NOW - 9_500))
    assert next_attempt(policy, deferred, Retry(REASON), now=NOW, random=Random(0)) == GiveUp(Exhausted.AGE)
    assert gives_up_at(policy, delivery(1), NOW) == NOW + 10_000


def test_a_repeated_attempt_draws_the_same_jitter_and_another_does_not() -> None:
    deferred = msgspec.structs.replace(delivery(1), wait=Wait(0, 1.0, 1))
    draws = [
        jitter_source(one).random() for one in (delivery(1), delivery(1), delivery(2), tried(1), deferred)
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


def test_deferrals_double_up_to_ten_minutes_and_keep_when_they_began() -> None:
    one = delivery(1)
    for number, most in enumerate([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]):
        wait = deferral(one, NOW + number)
        assert wait.due == NOW + number + round(wait.total * 1000)
        assert wait.began == NOW
        assert most / 2 <= wait.total <= most
        one = msgspec.structs.replace(one, wait=wait)
    assert one.wait is not None
    assert one.wait.deferrals == 12
    assert 300 <= deferral(msgspec.structs.replace(one, wait=Wait(0, 1.0, 10**9)), NOW).total <= 600


def test_deliveries_deferred_together_do_not_come_back_together() -> None:
    waits = sorted(deferral(delivery(number), NOW).due - NOW for number in range(100))
    assert waits[0] < 550
    assert waits[-1] > 950
    assert max(later - earlier for earlier, later in pairwise(waits)) < 100


def test_a_deferral_lasts_at_least_until_the_given_time() -> None:
    wait = deferral(delivery(1), NOW, NOW + 90_000)
    assert (wait.due, wait.total, wait.deferrals) == (NOW + 90_000, 90.0, 1)


def test_the_longest_wait_is_the_cap_or_the_longest_delay() -> None:
    assert longest(RetryPolicy(cap=77)) == 77
    assert longest(RetryPolicy(delays=(5, 900, 60))) == 900
