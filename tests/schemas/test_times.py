"""Time forms of notifications and of the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import times
from schemas.errors import InputError

MOMENTS = st.integers(
    min_value=int(datetime(1000, 1, 2, tzinfo=UTC).timestamp() * 1000),
    max_value=int(datetime(9999, 12, 30, tzinfo=UTC).timestamp() * 1000),
)
LOCAL_TIMES = st.datetimes(
    min_value=datetime(1000, 1, 3),  # noqa: DTZ001 - the offset is drawn apart
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
)
NOW = 1_700_000_000_000


@given(MOMENTS)
def test_reading_a_written_event_time_returns_its_milliseconds(milliseconds: int) -> None:
    assert times.read_event_time(times.event_time(milliseconds)) == milliseconds


@given(MOMENTS)
def test_reading_a_written_content_time_returns_its_seconds(milliseconds: int) -> None:
    assert times.read_content_time(times.content_time(milliseconds)) == milliseconds // 1000 * 1000


@given(LOCAL_TIMES, st.integers(-1439, 1439))
def test_an_event_time_with_any_offset_is_read(local: datetime, offset: int) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=offset)))
    sign, minutes = ("-", -offset) if offset < 0 else ("+", offset)
    text = f"{local:%Y%m%dT%H%M%S}.{local.microsecond // 1000:03d}{sign}{minutes // 60:02d}{minutes % 60:02d}"
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert times.read_event_time(text) == (moment - epoch) // timedelta(milliseconds=1)


def test_the_published_time_forms_are_read() -> None:
    assert times.event_time(1_545_832_874_058) == "20181226T220114.058+0800"
    assert times.content_time(1_554_783_506_922) == "2019-04-09T04:18:26Z"
    assert times.read_content_time("2019-11-11T11:00Z") == times.read_content_time("2019-11-11T11:00:00Z")


@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
def test_only_days_of_the_calendar_are_accepted(year: int, month: int, day: int) -> None:
    try:
        datetime(year, month, day, tzinfo=UTC)
        exists = True
    except ValueError:
        exists = False
    assert times.is_event_time(f"{year:04d}{month:02d}{day:02d}T000000.000+0800") is exists
    assert times.is_content_time(f"{year:04d}-{month:02d}-{day:02d}T00:00:00Z") is exists


@pytest.mark.parametrize(
    "text",
    [
        "20190409T121826.922+0800\n",
        "20190409T121826.922Z",
        "20190409T121826+0800",
        "20190409T241826.922+0800",
        "20190409T121860.922+0800",
        "20190409T121826.922+2400",
        "20190409T121826.922+ 0800",
        "２０190409T121826.922+0800",
        "2019-04-09T12:18:26.922+08:00",
    ],
)
def test_other_forms_of_event_times_are_refused(text: str) -> None:
    assert not times.is_event_time(text)
    with pytest.raises(InputError, match="expected the form"):
        times.read_event_time(text)


@pytest.mark.parametrize(
    "text", ["2019-04-09 04:18:26Z", "2019-04-09T04:18:26", "2019-04-09T04:18:26+08:00", ""]
)
def test_other_forms_of_content_times_are_refused(text: str) -> None:
    assert not times.is_content_time(text)
    with pytest.raises(InputError, match="expected the form"):
        times.read_content_time(text)


@pytest.mark.parametrize("pattern", [times.EVENT_TIME, times.CONTENT_TIME])
def test_patterns_use_only_the_syntax_of_json_schema(pattern: str) -> None:
    assert not re.search(r"\\[AZz]|\(\?P|\(\?<", pattern)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - 7_200_000),
        ("250ms", NOW - 250),
        ("1w", NOW - 604_800_000),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-15T06:13:20+08:00", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14", NOW - 80_000_000),
        ("1700000000000", NOW),
    ],
)
def test_each_form_of_a_time_on_the_command_line_is_read(text: str, expected: int) -> None:
    assert times.parse_when(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2 hours", "-2h", "2024-02-30", "12"])
def test_an_invalid_time_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(InputError, match="expected 2h, 2026-01-01 or"):
        times.parse_when(text, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("5m", 300.0), (" 2h ", 7200.0), ("250ms", 0.25)]
)
def test_each_unit_of_a_duration_on_the_command_line_is_read(text: str, seconds: float) -> None:
    assert times.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "soon", "-5m", "1.5h", "2026-01-01"])
def test_an_invalid_duration_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(InputError, match="expected 90s, 5m or 2h"):
        times.parse_duration(text)
