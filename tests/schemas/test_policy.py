"""Retry and breaker policies, and shares of a target's limits."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.policy import SCHEDULES, RetryPolicy
from schemas.subscription import Target


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_named_schedule_gives_the_values_that_are_not_set(name: str) -> None:
    alone = RetryPolicy.model_validate(name)
    assert alone == RetryPolicy.model_validate({"schedule": name})
    assert RetryPolicy.model_validate({"schedule": name, "tries": 5}) == alone.model_copy(update={"tries": 5})
    assert RetryPolicy.model_validate_json(alone.model_dump_json()) == alone


def test_seconds_may_be_written_with_a_unit() -> None:
    policy = RetryPolicy.model_validate({"first": "30s", "cap": "1h", "age": "2d", "delays": ["5s", 60]})
    assert (policy.first, policy.cap, policy.age, policy.delays) == (30, 3600, 172_800, (5, 60))
    target = {"id": "a", "kind": "topic", "expires": "1d", "breaker": {"rest": "1m"}}
    assert Target.model_validate(target).expires == 86_400
    with pytest.raises(ValidationError, match="or seconds as a number"):
        RetryPolicy.model_validate({"age": "tomorrow"})


def test_an_unknown_schedule_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValidationError, match=r"'hourly': expected one of standard-webhooks, cloudmonitor"):
        RetryPolicy.model_validate("hourly")


def test_jitter_stored_as_a_boolean_by_version_0_1_0_is_read() -> None:
    assert RetryPolicy.model_validate({"jitter": True}).jitter == "full"
    assert RetryPolicy.model_validate({"jitter": False}).jitter == "none"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"delays": [1, -1]}, "delays: each must be between 0"),
        ({"delays": [10**6]}, "delays: each must be between 0"),
        ({"statuses": [500]}, "statuses: each must be between 300 and 499"),
        ({"statuses": [200]}, "statuses: each must be between 300 and 499"),
        ({"tries": 0}, "greater than or equal to 1"),
    ],
)
def test_values_out_of_range_are_refused(written: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        RetryPolicy.model_validate(written)


@pytest.mark.parametrize("limit", ["concurrency", "in_flight"])
def test_a_limit_smaller_than_the_number_of_lanes_is_refused(limit: str) -> None:
    with pytest.raises(ValidationError, match=f"{limit}: each lane needs a share"):
        Target.model_validate({"id": "a", "kind": "topic", "lanes": 3, "concurrency": 3, limit: 2})


def test_breaker_false_switches_the_breaker_off() -> None:
    assert Target.model_validate({"id": "a", "kind": "topic", "breaker": False}).breaker is False
