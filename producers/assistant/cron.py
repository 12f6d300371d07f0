"""The cron dialect of Cloud Assistant: `second minute hour day month week [year] [time zone]`.

Source: the user manual of ECS, "Cron expression" (2022-07), and RunCommand's `Frequency` for the zone. Weeks begin on
Monday, which is 1. An expression names every second whose wall time in the zone matches. So it has no run at a wall
time that is skipped when clocks go forward, and two runs at a wall time that is repeated when clocks go back.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise, product

from producers.assistant.zones import zone
from schemas.errors import InputError

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEK = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_NUMBER = re.compile(r"0?(0|[1-9][0-9]{0,3})")
_SUNDAY = 7
_WEEKS_OF_A_MONTH = 5

Days = Callable[[int, int], frozenset[int]]
"""Returns the days of a month that an expression names, given the year and the month."""


@dataclass(frozen=True, slots=True)
class _Field:
    """Allowed values of one field: numbers from `low` to `high`, and `names` for these numbers."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("week", 1, 7, _WEEK),
    _Field("year", 1970, 2099),
)
_DAY_FIELD, _WEEK_FIELD = _FIELDS[3], _FIELDS[5]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A parsed expression. All numbers are in ascending order."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    months: tuple[int, ...]
    years: tuple[int, ...]
    zone: tzinfo

    def next_after(self, after: datetime) -> datetime | None:
        """Returns the first time after `after`, a time with a zone, in UTC to the second; None if there is none up
        to 2099."""
        start = after.astimezone(UTC).replace(microsecond=0) + _SECOND
        while True:
            offset, end = _steady(self.zone, start)
            found = self._next_on_the_wall((start + offset).replace(tzinfo=None))
            at = found.replace(tzinfo=UTC) - offset if found else None
            if at is not None and at < end:
                return at
            if end == start + _DAY:
                if at is None:
                    return None
                end = max(end, at - _DAY)  # no clock change exceeds a day, so no matching time is skipped
            start = end

    def least_interval(self, now: datetime) -> timedelta:
        """Returns the shortest time between two consecutive times from `now` on, at most a day, ignoring changes of the
        clocks."""
        times = [hour * 3600 + minute * 60 + second for hour, minute, second in self._times()]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        today = now.astimezone(self.zone).date()
        if any(later - earlier == _DAY for earlier, later in pairwise(self._days_from(today))):
            gaps.append(times[0] + 86_400 - times[-1])
        return timedelta(seconds=min(gaps, default=86_400))

    def _times(self) -> Iterator[tuple[int, int, int]]:
        return product(self.hours, self.minutes, self.seconds)

    def _next_on_the_wall(self, wall: datetime) -> datetime | None:
        """Returns the first matching wall time at or after `wall`, ignoring changes of the clocks."""
        for day in self._days_from(wall.date()):
            earliest = (wall.hour, wall.minute, wall.second) if day == wall.date() else (0, 0, 0)
            if found := self._time_from(*earliest):
                return datetime.combine(day, found)
        return None

    def _time_from(self, hour: int, minute: int, second: int) -> time | None:
        for each_hour in (one for one in self.hours if one >= hour):
            for each_minute in (one for one in self.minutes if each_hour > hour or one >= minute):
                same = (each_hour, each_minute) == (hour, minute)
                for each_second in (one for one in self.seconds if not same or one >= second):
                    return time(each_hour, each_minute, each_second)
        return None

    def _days_from(self, first: date) -> Iterator[date]:
        years = self.years[bisect_left(self.years, first.year) :]
        for year, month in product(years, self.months):
            if (year, month) >= (first.year, first.month):
                days = (date(year, month, day) for day in sorted(self.days(year, month)))
                yield from (day for day in days if day >= first)


def parse(expression: str) -> Cron:
    """Parses an expression. Raises InputError with the wrong field and its allowed values."""
    words = expression.split()
    named = ""
    if len(words) in {7, 8} and not re.fullmatch(r"[0-9*,/?-]+", words[-1]):
        *words, named = words
    if len(words) not in {6, 7}:
        raise InputError(
            f"{expression!r}: has {len(words)} fields; write second minute hour day month week, "
            "and optionally a year and a time zone"
        )
    plain = {
        field.name: _numbers(field, text)
        for field, text in zip(_FIELDS, [*words, "*"], strict=False)
        if field not in {_DAY_FIELD, _WEEK_FIELD}
    }
    return Cron(
        seconds=plain["second"],
        minutes=plain["minute"],
        hours=plain["hour"],
        days=_days(words[3].upper(), words[5].upper()),
        months=plain["month"],
        years=plain["year"],
        zone=zone(named),
    )


def _days(day: str, week: str) -> Days:
    if day == "?" and week == "?":
        raise InputError("day, week: both are ?; name the days in one of them")
    if day != "?" and week != "?" and not day == week == "*":
        raise InputError(f"day {day!r}, week {week!r}: both name days; write ? in one of them")
    return _week_field(week) if day == "?" else _day_field(day)


def _day_field(text: str) -> Days:
    if text == "L":
        return lambda year, month: frozenset({monthrange(year, month)[1]})
    if text == "LW":
        return lambda year, month: _nearest_weekday(year, month, monthrange(year, month)[1])
    if text.endswith("W"):
        wanted = _number(_DAY_FIELD, text, text[:-1])
        return lambda year, month: _nearest_weekday(year, month, wanted)
    numbers = frozenset(_numbers(_DAY_FIELD, text))
    return lambda year, month: numbers & set(range(1, monthrange(year, month)[1] + 1))


def _week_field(text: str) -> Days:
    if text == "L":
        return _on_weekdays(frozenset({_SUNDAY}))
    if text.endswith("L"):
        last = _number(_WEEK_FIELD, text, text[:-1])
        return lambda year, month: frozenset({max(_on_weekdays(frozenset({last}))(year, month))})
    if "#" in text:
        written, _, place = text.partition("#")
        weekday = _number(_WEEK_FIELD, text, written)
        nth = _number(_Field("week", 1, _WEEKS_OF_A_MONTH), text, place)
        return lambda year, month: frozenset(
            sorted(_on_weekdays(frozenset({weekday}))(year, month))[nth - 1 : nth]
        )
    return _on_weekdays(frozenset(_numbers(_WEEK_FIELD, text)))


def _on_weekdays(weekdays: frozenset[int]) -> Days:
    def days(year: int, month: int) -> frozenset[int]:
        first, length = monthrange(year, month)
        return frozenset(day for day in range(1, length + 1) if (first + day - 1) % 7 + 1 in weekdays)

    return days


def _nearest_weekday(year: int, month: int, day: int) -> frozenset[int]:
    """Returns the weekday nearest to `day` in its month; an empty set for a month without that day."""
    first, length = monthrange(year, month)
    if day > length:
        return frozenset()
    match (first + day - 1) % 7 + 1:
        case 6:
            return frozenset({day - 1 if day > 1 else day + 2})
        case 7:
            return frozenset({day + 1 if day < length else day - 2})
        case _:
            return frozenset({day})


def _numbers(field: _Field, text: str) -> tuple[int, ...]:
    """Returns the numbers of a list of `*`, `n` or `n-m`, each with or without `/step`."""
    return tuple(sorted({number for part in text.upper().split(",") for number in _part(field, text, part)}))


def _part(field: _Field, text: str, part: str) -> range:
    written, slash, step = part.partition("/")
    start, dash, end = written.partition("-")
    if start == "*" and not dash:
        low, high = field.low, field.high
    else:
        low = _number(field, text, start)
        high = _number(field, text, end) if dash else field.high if slash else low
    if low > high:
        raise InputError(f"{field.name} {text!r}: the range {written} ends before it begins")
    return range(low, high + 1, _number(_Field(field.name, 1, field.high), text, step) if slash else 1)


def _number(field: _Field, text: str, written: str) -> int:
    if written in field.names:
        return field.low + field.names.index(written)
    number = _NUMBER.fullmatch(written)
    if number is None or not field.low <= int(number[1]) <= field.high:
        names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
        raise InputError(
            f"{field.name} {text!r}: {written or 'nothing'!r} is not a number from {field.low} to {field.high}"
            f"{names}; {_ALLOWED[field.name]}"
        )
    return int(number[1])


_ALLOWED: Mapping[str, str] = {
    "day": "other values, each alone in the field: ?, L, LW, or a day with W, as in 5W",
    "week": "other values, each alone in the field: ?, L, a day with L, as in 6L, or a day and its week, as in 4#2",
} | dict.fromkeys(
    ("second", "minute", "hour", "month", "year"), "lists (,), ranges (-) and steps (/) are allowed"
)


def _steady(where: tzinfo, start: datetime) -> tuple[timedelta, datetime]:
    """Returns the zone's offset at `start` (UTC), and the time until which it holds, at most a day later."""
    offset, end = _offset(where, start), start + _DAY
    if _offset(where, end) == offset:
        return offset, end
    steady = start
    while end - steady > _SECOND:
        middle = (steady + (end - steady) / 2).replace(microsecond=0)
        steady, end = (middle, end) if _offset(where, middle) == offset else (steady, middle)
    return offset, end


def _offset(where: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(where).utcoffset() or timedelta()
