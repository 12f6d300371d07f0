"""Converts the time forms of notifications and of the command line to and from milliseconds since the epoch.

`eventTime` is `yyyyMMddTHHmmss.SSS` with an offset; times inside `content` are `YYYY-MM-DDTHH:MM:SSZ` or, for
intervals, `YYYY-MM-DDTHH:MMZ` (CloudMonitor system events, formats of 2019 to 2024).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from schemas.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BEIJING = timezone(timedelta(hours=8))


def _date(dash: str) -> str:
    """Returns a pattern of all valid dates from year 1 on, with `dash` between their parts."""
    leap_year = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
    return (
        f"(?!0000)(?:[0-9]{{4}}{dash}(?:(?:0[13578]|1[02]){dash}(?:0[1-9]|[12][0-9]|3[01])"
        f"|(?:0[469]|11){dash}(?:0[1-9]|[12][0-9]|30)|02{dash}(?:0[1-9]|1[0-9]|2[0-8]))"
        f"|{leap_year}{dash}02{dash}29)"
    )


_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
EVENT_TIME = rf"{_date('')}T{_HOUR}{_SIXTY}{_SIXTY}\.[0-9]{{3}}[+-]{_HOUR}{_SIXTY}"
"""Pattern of `eventTime` without anchors, in the syntax that Python and JSON Schema share."""
CONTENT_TIME = f"{_date('-')}T{_HOUR}:{_SIXTY}(?::{_SIXTY})?Z"
"""Pattern of a time inside `content`, to the second or to the minute."""

_EVENT_TIME = re.compile(EVENT_TIME)
_CONTENT_TIME = re.compile(CONTENT_TIME)


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def is_event_time(text: str) -> bool:
    """True if `text` is an `eventTime`."""
    return _EVENT_TIME.fullmatch(text) is not None


def is_content_time(text: str) -> bool:
    """True if `text` is a time of a `content`, to the second or to the minute."""
    return _CONTENT_TIME.fullmatch(text) is not None


def read_event_time(text: str) -> int:
    """Converts an `eventTime` to milliseconds since the epoch. Raises InputError for any other text."""
    if not is_event_time(text):
        raise InputError(f"{text[:40]!r} is not an event time; expected the form 20190409T121826.922+0800")
    offset = timedelta(hours=int(text[20:22]), minutes=int(text[22:24]))
    zone = timezone(offset if text[19] == "+" else -offset)
    return _milliseconds(datetime.strptime(text[:19], "%Y%m%dT%H%M%S.%f").replace(tzinfo=zone))


def event_time(milliseconds: int) -> str:
    """Formats a time as `eventTime`, with the offset +0800 as ECS sends it."""
    moment = _moment(milliseconds).astimezone(_BEIJING)
    return f"{moment:%Y%m%dT%H%M%S}.{milliseconds % 1000:03d}+0800"


def read_content_time(text: str) -> int:
    """Converts a time of a `content` to milliseconds since the epoch. Raises InputError for any other text."""
    if not is_content_time(text):
        raise InputError(f"{text[:40]!r} is not a time; expected the form 2019-04-09T04:18:26Z")
    return _milliseconds(datetime.fromisoformat(text))


def content_time(milliseconds: int) -> str:
    """Formats a time as in a `content`: in UTC, to the second."""
    return f"{_moment(milliseconds):%Y-%m-%dT%H:%M:%SZ}"


_AGO = re.compile(r"([0-9]{1,9})(ms|s|m|h|d|w)")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_MILLISECONDS = re.compile(r"[0-9]{13}")


def parse_duration(text: str) -> float:
    """Converts a duration of the command line to seconds, as `read_duration` does; spaces around it are ignored. Raises
    InputError for any other text."""
    try:
        return read_duration(text.strip())
    except InputError:
        raise InputError(f"duration {text!r}: expected 90s, 5m or 2h") from None


def parse_when(text: str, now_ms: int) -> int:
    """Converts a time of the command line to milliseconds since the epoch.

    Accepts an age such as `2h`, which means two hours before `now_ms` (units ms, s, m, h, d, w), an ISO 8601 date or
    time, in UTC unless it has an offset, and milliseconds of thirteen digits. Raises InputError for any other text.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return now_ms - int(ago[1]) * _UNITS[ago[2]]
    if _MILLISECONDS.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"time {text!r}: expected 2h, 2026-01-01 or 2026-01-01T00:00:00Z") from None
    return _milliseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def read_duration(text: str) -> float:
    """Converts a duration such as 90s, 5m or 2h (units ms, s, m, h, d, w) to seconds. Raises InputError for any other
    text."""
    found = _AGO.fullmatch(text)
    if found is None:
        raise InputError(f"{text[:40]!r} is not a duration; expected the form 90s, 5m or 2h")
    return int(found[1]) * _UNITS[found[2]] / 1000
