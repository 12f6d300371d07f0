from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.policy import SCHEDULES, RetryPolicy
from schemas.subscription import Target


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_named_alone_or_with_values_over_it(name: str) -> None:
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


def test_an_unknown_schedule_lists_the_known() -> None:
    with pytest.raises(ValidationError, match=r"'hourly': expected one of standard-webhooks, cloudmonitor"):
        RetryPolicy.model_validate("hourly")


def test_what_was_stored_before_there_were_kinds_of_jitter_is_read() -> None:
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
def test_what_makes_no_sense_is_refused(written: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        RetryPolicy.model_validate(written)


@pytest.mark.parametrize("limit", ["concurrency", "in_flight"])
def test_each_lane_needs_a_share(limit: str) -> None:
    with pytest.raises(ValidationError, match=f"{limit}: each lane needs a share"):
        Target.model_validate({"id": "a", "kind": "topic", "lanes": 3, "concurrency": 3, limit: 2})


def test_a_breaker_is_switched_off_by_false() -> None:
    assert Target.model_validate({"id": "a", "kind": "topic", "breaker": False}).breaker is False
