"""The token bucket."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from router.deliver.bucket import Bucket


@given(
    st.floats(0.01, 1000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), min_size=1, max_size=50),
)
def test_a_bucket_never_exceeds_its_rate_and_one_second_of_savings(
    rate: float, takes: list[tuple[float, int]]
) -> None:
    bucket, now = Bucket(rate, 0.0), 0.0
    given_at: list[tuple[float, int]] = []
    for pause, wanted in takes:
        now += pause
        given_at.append((now, bucket.take(wanted, now)))
    total = sum(number for _, number in given_at)
    assert total <= rate * now + 1e-6, "it starts empty"
    for start, (since, _) in enumerate(given_at):
        burst = sum(number for _, number in given_at[start:])
        assert burst <= max(1.0, rate) + rate * (now - since) + 1e-6


@given(st.floats(0.01, 1000))
def test_a_token_is_available_after_the_wait(rate: float) -> None:
    bucket = Bucket(rate, 10.0)
    assert bucket.take(1, 10.0) == 0
    assert math.isclose(bucket.wait(), 1 / rate, rel_tol=1e-6)
    assert bucket.take(5, 10.0 + bucket.wait()) == 1
