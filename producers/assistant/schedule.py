"""Schedules of recurring commands: `rate(5m)`, `at(2022-06-06 13:15:30 Asia/Shanghai)`, or a cron expression.

Source: `Frequency` of RunCommand and InvokeCommand, ECS API 2014-05-26, and the user manual, "Use the immediate
execution feature". Times are milliseconds since the epoch.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from producers.assistant import cron
from producers.assistant.zones import zone
from schemas.errors import InputError

LEAST_RATE = timedelta(seconds=60)
MOST_RATE = timedelta(days=7)
LEAST_CRON = timedelta(seconds=10)

_RATE = re.compile(r"rate\(\s*([1-9][0-9]{0,6})\s*([smhd])\s*\)")
_AT = re.compile(r"at\(\s*([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2})(?: +(\S+?))?\s*\)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Rate:
    """A fixed interval between runs. The first run is one interval after the request."""

    interval: timedelta


@dataclass(frozen=True, slots=True)
class At:
    """One run at a given time."""

    moment: datetime


Schedule = Rate | At | cron.Cron


def parse_schedule(frequency: str) -> Schedule:
    """Parses a `Frequency`. Raises InputError with the expected form."""
    text = frequency.strip()
    if text.startswith("rate"):
        if (found := _RATE.fullmatch(text)) is None:
            raise InputError(f"frequency {text!r}: expected rate(N) with N as 90s, 5m, 12h or 7d")
        return Rate(timedelta(**{_UNITS[found[2]]: int(found[1])}))
    if text.startswith("at"):
        if (found := _AT.fullmatch(text)) is None:
            raise InputError(f"frequency {text!r}: expected at(2022-06-06 13:15:30 Asia/Shanghai)")
        return At(_moment(found[1], found[2] or ""))
    return cron.parse(text)


def check_schedule(frequency: str, timeout: int, now: int) -> Schedule:
    """Parses a `Frequency` and checks its limits for a command with a time limit of `timeout` seconds. Raises
    InputError."""
    schedule = parse_schedule(frequency)
    least = timedelta(seconds=timeout)
    match schedule:
        case Rate(interval) if not LEAST_RATE <= interval <= MOST_RATE:
            raise InputError(f"frequency {frequency!r}: the interval must be from 60 seconds to 7 days")
        case Rate(interval) if interval <= least:
            raise InputError(
                f"frequency {frequency!r}: the interval must be longer than the time-out of {timeout} s"
            )
        case cron.Cron() if (found := schedule.least_interval(_aware(now))) < max(least, LEAST_CRON):
            raise InputError(
                f"frequency {frequency!r}: two of its times are {found.total_seconds():g} s apart; they must be "
                f"at least 10 s apart, and at least the time-out of {timeout} s"
            )
        case _:
            pass
    if next_time(schedule, now, now) is None:
        raise InputError(f"frequency {frequency!r}: names no time in the future; correct its date")
    return schedule


def next_time(schedule: Schedule, requested: int, after: int) -> int | None:
    """Returns the first time after `after` of a schedule that was requested at `requested`; None if there is none."""
    match schedule:
        case Rate(interval):
            step = interval // timedelta(milliseconds=1)
            return requested + (max(after - requested, 0) // step + 1) * step
        case At(moment):
            at = _milliseconds(moment)
            return at if at > after else None
        case cron.Cron():
            found = schedule.next_after(_aware(after))
            return None if found is None else _milliseconds(found)


def _moment(text: str, named: str) -> datetime:
    """Returns the time that the wall time `text` means in its zone, the first of two if the zone repeats the wall time.
    Raises InputError if the zone skips it."""
    where = zone(named)
    with suppress(ValueError, OverflowError):
        wall = datetime.fromisoformat(text)
        found = wall.replace(tzinfo=where).astimezone(UTC)
        if found.astimezone(where).replace(tzinfo=None) == wall:
            return found
    raise InputError(
        f"frequency at({text}): the time zone has no such time, since its clocks skip it; correct date or time"
    )


def _aware(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
