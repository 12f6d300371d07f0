"""The cron dialect."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producers.assistant.cron import parse
from producers.assistant.schedule import check_schedule, next_time
from schemas.errors import InputError

CASES = [
    (row["expression"], row["expect"])
    for row in csv.DictReader(
        Path(__file__).with_name("cron_cases.tsv").read_text(encoding="utf-8").splitlines(), delimiter="\t"
    )
]
IN_2022 = datetime(2022, 1, 1, tzinfo=UTC)
IN_2026 = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def all_times(expression: str, after: datetime = IN_2022) -> Iterator[str]:
    cron = parse(expression)
    found = cron.next_after(after)
    while found is not None:
        yield found.isoformat(sep=" ").removesuffix("+00:00")
        found = cron.next_after(found)


def first(expression: str, count: int, after: datetime = IN_2022) -> list[str]:
    return [found for found, _ in zip(all_times(expression, after), range(count), strict=False)]


def test_the_file_of_cases_has_fifty() -> None:
    assert len(CASES) == 50


@pytest.mark.parametrize(("expression", "expect"), CASES)
def test_each_case_is_accepted_or_refused_as_its_source_says(expression: str, expect: str) -> None:
    now = milliseconds(IN_2026 if expect == "invalid_in_2022+" else datetime(2021, 1, 1, tzinfo=UTC))
    if expect in {"valid", "valid_in_newer_SDK"}:
        requested_in_2022 = milliseconds(IN_2022)
        schedule = check_schedule(expression, 10, requested_in_2022)
        assert next_time(schedule, requested_in_2022, requested_in_2022) is not None
    else:
        with pytest.raises(InputError):
            check_schedule(expression, 10, now)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 15 8 ? * * 2022", ["2022-01-01 08:15:00", "2022-01-02 08:15:00"]),
        ("0 0/30 9-17 * * ?", [f"2022-01-01 {h:02}:{m:02}:00" for h in range(9, 18) for m in (0, 30)]),
        ("0 * 14 * * ?", [f"2022-01-01 14:{m:02}:00" for m in range(60)] + ["2022-01-02 14:00:00"]),
        ("0 0/5 14,18 * * ?", [f"2022-01-01 {h}:{m:02}:00" for h in (14, 18) for m in range(0, 60, 5)]),
        ("0 0 12 ? * WED", ["2022-01-05 12:00:00", "2022-01-12 12:00:00"]),
        ("0 15 10 L * ?", ["2022-01-31 10:15:00", "2022-02-28 10:15:00", "2022-03-31 10:15:00"]),
        ("0 15 10 ? * 6L", ["2022-01-29 10:15:00", "2022-02-26 10:15:00"]),
        ("0 15 10 ? * 6#3", ["2022-01-15 10:15:00", "2022-02-19 10:15:00"]),
        ("0 15 10 ? * 6#3 2022,2023", first("0 15 10 ? * 6#3", 24)),
        ("0 15 10 ? * L", ["2022-01-02 10:15:00", "2022-01-09 10:15:00"]),
        ("0 15 10 ? * SUN#5", ["2022-01-30 10:15:00", "2022-05-29 10:15:00"]),
        ("0 15 10 5W * ?", ["2022-01-05 10:15:00", "2022-02-04 10:15:00", "2022-03-04 10:15:00"]),
        ("0 15 10 1W * ?", ["2022-01-03 10:15:00", "2022-02-01 10:15:00"]),
        ("0 15 10 31W * ?", ["2022-01-31 10:15:00", "2022-03-31 10:15:00", "2022-05-31 10:15:00"]),
        ("0 15 10 LW * ?", ["2022-01-31 10:15:00", "2022-02-28 10:15:00", "2022-03-31 10:15:00"]),
        ("0 10,44 14 ? 3 WED 2022/2", ["2022-03-02 14:10:00", "2022-03-02 14:44:00"]),
        ("0 0/30 10-11 * * ? 2022 GMT+8:00", ["2022-01-01 02:00:00", "2022-01-01 02:30:00"]),
        ("0 15 10 ? * * 2022 Asia/Shanghai", ["2022-01-01 02:15:00"]),
        ("0 0 0 29 FEB ? *", ["2024-02-29 00:00:00", "2028-02-29 00:00:00"]),
    ],
)
def test_times_match_the_examples_of_the_manual(expression: str, expected: list[str]) -> None:
    assert first(expression, len(expected)) == expected


def test_there_is_no_next_time_after_the_last_time() -> None:
    assert first("0 0 0 31 12 ? 2099", 2, datetime(2098, 1, 1, tzinfo=UTC)) == ["2099-12-31 00:00:00"]
    assert first("0 0 0 30 2 ?", 1) == []


def test_a_skipped_wall_time_has_no_run_and_a_repeated_one_has_two() -> None:
    berlin = "0 30 2 * * ? 2022 Europe/Berlin"
    march = first(berlin, 3, datetime(2022, 3, 26, tzinfo=UTC))
    assert march == ["2022-03-26 01:30:00", "2022-03-28 00:30:00", "2022-03-29 00:30:00"]
    october = first(berlin, 3, datetime(2022, 10, 29, 12, tzinfo=UTC))
    assert october == ["2022-10-30 00:30:00", "2022-10-30 01:30:00", "2022-10-31 01:30:00"]


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("0 15 008 ? * *", "hour"),
        ("a 15 8 ? * *", "second"),
        ("0 5-2 8 ? * *", "minute"),
        ("0 */0 8 ? * *", "minute"),
        ("0 , 8 ? * *", "minute"),
        ("0 1-2-3 8 ? * *", "minute"),
        ("0 0 8 L,15 * ?", "day"),
        ("0 0 8 5W,6 * ?", "day"),
        ("0 0 8 0W * ?", "day"),
        ("0 0 8 1 JANUARY ?", "month"),
        ("0 0 8 ? * 4#6", "week"),
        ("0 0 8 ? * 1L,2", "week"),
        ("0 0 8 ? * * 2100", "year"),
        ("0 0 8 ? * * 2022 Mars/Olympus", "time zone"),
        ("0 0 8 ? * * ../../etc/passwd", "time zone"),
        ("0 0 8 ? * * GMT+25:00", "time zone"),
        ("0 0 8 ? * * 2022 UTC x", "fields"),
        ("", "fields"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_field(expression: str, field: str) -> None:
    with pytest.raises(InputError, match=field):
        parse(expression)


# Comparison with brute force: every second of an interval, by its wall time.


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, high).map(str)
    part = st.one_of(
        st.just("*"),
        number.map(str),
        span,
        st.tuples(st.one_of(st.just("*"), number.map(str), span), step).map("/".join),
    )
    return st.lists(part, min_size=1, max_size=3).map(",".join)


DAYS = st.one_of(
    st.tuples(field(1, 31), st.just("?")),
    st.tuples(st.just("?"), field(1, 7)),
    st.sampled_from([("L", "?"), ("LW", "?"), ("?", "L"), ("*", "*")]),
    st.integers(1, 31).map(lambda day: (f"{day}W", "?")),
    st.integers(1, 7).map(lambda day: ("?", f"{day}L")),
    st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda nth: ("?", f"{nth[0]}#{nth[1]}")),
)
ZONES = st.sampled_from(["UTC", "Asia/Shanghai", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])


def holds(text: str, low: int, high: int, value: int) -> bool:
    """True if the field `text` names `value`. Implements the rules a second time, without sets."""
    for part in text.split(","):
        span, _, step = part.partition("/")
        start, dash, end = span.partition("-")
        bottom = low if start == "*" else int(start)
        top = high if start == "*" or (step and not dash) else int(end or start)
        if bottom <= value <= top and (value - bottom) % int(step or 1) == 0:
            return True
    return False


def on_day(day: str, week: str, wall: datetime) -> bool:
    if day == "?":
        return on_weekday(week, wall)
    if day == "L":
        return is_last_of_month(wall)
    if day.endswith("W"):
        return any(
            nearest(other) == wall.date()
            for other in (wall + timedelta(days=shift) for shift in range(-2, 3))
            if (is_last_of_month(other) and day == "LW") or day == f"{other.day}W"
        )
    return holds(day, 1, 31, wall.day)


def on_weekday(week: str, wall: datetime) -> bool:
    weekday = wall.isoweekday()
    if week == "L":
        return weekday == 7
    if week.endswith("L"):
        return weekday == int(week[:-1]) and (wall + timedelta(days=7)).month != wall.month
    if "#" in week:
        return week == f"{weekday}#{(wall.day + 6) // 7}"
    return holds(week, 1, 7, weekday)


def is_last_of_month(wall: datetime) -> bool:
    return (wall + timedelta(days=1)).month != wall.month


def nearest(wall: datetime) -> object:
    """Returns the nearest weekday in the same month."""
    near = [wall + timedelta(days=shift) for shift in (0, -1, 1, -2, 2)]
    return next(one.date() for one in near if one.isoweekday() <= 5 and one.month == wall.month)


def brute_force(words: list[str], zone: tzinfo, after: datetime, until: datetime) -> Iterator[datetime]:
    second, minute, hour, day, month, week = words

    @cache
    def on_that_day(that: date) -> bool:
        return on_day(day, week, datetime.combine(that, time()))

    at = after + SECOND
    while at <= until:
        wall = at.astimezone(zone)
        if (
            holds(minute, 0, 59, wall.minute)
            and holds(hour, 0, 23, wall.hour)
            and holds(month, 1, 12, wall.month)
            and on_that_day(wall.date())
        ):
            if holds(second, 0, 59, wall.second):
                yield at
            at += SECOND
        else:
            at += timedelta(seconds=60 - wall.second)


@settings(max_examples=100)
@given(
    st.tuples(field(0, 59), field(0, 59), field(0, 23), DAYS, field(1, 12), ZONES),
    st.sampled_from(
        [
            datetime(2022, 3, 26, 20, tzinfo=UTC),
            datetime(2022, 10, 29, 20, tzinfo=UTC),
            datetime(2022, 4, 2, 10, tzinfo=UTC),
            datetime(2024, 2, 28, 23, 30, tzinfo=UTC),
            datetime(2022, 12, 31, 12, tzinfo=UTC),
        ]
    ),
    st.integers(0, 86_399),
)
@example(("0", "30", "2", ("*", "?"), "*", "Europe/Berlin"), datetime(2022, 10, 29, 20, tzinfo=UTC), 0)
@example(("0", "45", "1", ("*", "?"), "*", "Australia/Lord_Howe"), datetime(2022, 4, 2, 10, tzinfo=UTC), 0)
@example(("5/7", "*", "*", ("?", "6#5"), "10", "UTC"), datetime(2022, 10, 29, 20, tzinfo=UTC), 3)
def test_times_match_those_of_a_brute_force_search(
    drawn: tuple[str, str, str, tuple[str, str], str, str], start: datetime, shift: int
) -> None:
    second, minute, hour, (day, week), month, zone = drawn
    after = start + timedelta(seconds=shift)
    until = after + timedelta(hours=14)
    cron = parse(f"{second} {minute} {hour} {day} {month} {week} {zone}")
    model = brute_force([second, minute, hour, day, month, week], ZoneInfo(zone), after, until)
    expected = list(islice(model, 100))
    found: list[datetime] = []
    at = cron.next_after(after)
    while at is not None and at <= until and len(found) < 100:
        found.append(at)
        at = cron.next_after(at)
    assert found == expected


@settings(max_examples=40)
@given(field(0, 59), field(0, 59), field(0, 23), DAYS)
def test_no_two_times_are_closer_than_the_least_interval(
    second: str, minute: str, hour: str, days: tuple[str, str]
) -> None:
    cron = parse(f"{second} {minute} {hour} {days[0]} * {days[1]}")
    least = cron.least_interval(IN_2022)
    at, gaps = cron.next_after(IN_2022), list[timedelta]()
    for _ in range(50):
        following = cron.next_after(at) if at else None
        if at is None or following is None:
            break
        gaps.append(following - at)
        at = following
    assert all(gap >= least for gap in gaps)
