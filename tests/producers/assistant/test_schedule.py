"""Schedules of recurring commands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.assistant.schedule import check_schedule, next_time, parse_schedule
from schemas.errors import InputError

NOW = round(datetime(2022, 6, 6, 5, tzinfo=UTC).timestamp() * 1000)
SECOND, MINUTE, DAY = 1000, 60_000, 86_400_000


@pytest.mark.parametrize(
    ("written", "interval"), [("60s", MINUTE), ("5m", 5 * MINUTE), ("12h", DAY // 2), ("7d", 7 * DAY)]
)
def test_the_first_run_of_a_rate_is_one_interval_after_the_request(written: str, interval: int) -> None:
    schedule = check_schedule(f"rate({written})", 10, NOW)
    assert next_time(schedule, NOW, NOW) == NOW + interval
    assert next_time(schedule, NOW, NOW + interval - 1) == NOW + interval
    assert next_time(schedule, NOW, NOW + interval) == NOW + 2 * interval


@given(st.integers(60, 604_800), st.integers(0, 10**10))
def test_the_next_time_of_a_rate_is_a_multiple_of_its_interval(seconds: int, later: int) -> None:
    found = next_time(parse_schedule(f"rate({seconds}s)"), NOW, NOW + later)
    assert found is not None
    assert 0 < found - (NOW + later) <= seconds * SECOND
    assert (found - NOW) % (seconds * SECOND) == 0


def test_at_names_one_time_in_a_zone() -> None:
    schedule = check_schedule("at(2022-06-06 13:15:30 Asia/Shanghai)", 60, NOW)
    moment = next_time(schedule, NOW, NOW)
    assert moment is not None
    assert moment == NOW + 15 * MINUTE + 30 * SECOND
    assert next_time(schedule, NOW, moment) is None
    assert check_schedule("at(2022-06-06 05:15:30)", 60, NOW) == schedule


def test_at_names_the_first_of_two_equal_wall_times() -> None:
    schedule = check_schedule("at(2022-10-30 02:30:00 Europe/Berlin)", 60, NOW)
    assert schedule == check_schedule("at(2022-10-30 00:30:00)", 60, NOW)


@pytest.mark.parametrize(
    ("frequency", "timeout", "says"),
    [
        ("rate(59s)", 10, "60 seconds to 7 days"),
        ("rate(8d)", 10, "60 seconds to 7 days"),
        ("rate(169h)", 10, "60 seconds to 7 days"),
        ("rate(60s)", 60, "must be longer than the time-out"),
        ("rate(0m)", 10, "expected rate"),
        ("rate(5)", 10, "expected rate"),
        ("rate(5m", 10, "expected rate"),
        ("at(2022-06-06 13:15:30 Mars)", 10, "time zone"),
        ("at(2022-06-31 13:15:30)", 10, "no such time"),
        ("at(2022-06-06)", 10, "expected at"),
        ("at(2023-03-26 02:30:00 Europe/Berlin)", 10, "no such time"),
        ("at(2022-06-06 04:59:59)", 10, "no time in the future"),
        ("0/9 * * * * ?", 10, "two of its times are 6 s apart"),
        ("0/10 * * * * ?", 11, "two of its times are 10 s apart"),
        ("50 59 23 * * ?", 86_401, "two of its times are 86400 s apart"),
        ("0,55 59 23,0 * * ?", 60, "two of its times are 55 s apart"),
        ("0 0 0 30 2 ?", 10, "no time in the future"),
    ],
)
def test_a_frequency_beyond_a_limit_is_refused_with_the_reason(
    frequency: str, timeout: int, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        check_schedule(frequency, timeout, NOW)


@pytest.mark.parametrize(
    ("frequency", "timeout"), [("rate(61s)", 60), ("0/10 * * * * ?", 10), ("0 0/5 * * * ?", 300)]
)
def test_a_frequency_exactly_at_a_limit_is_accepted(frequency: str, timeout: int) -> None:
    check_schedule(frequency, timeout, NOW)
