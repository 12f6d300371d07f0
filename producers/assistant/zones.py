"""Time zones of schedules: `Asia/Shanghai`, `GMT+8:00`, `UTC`. Source: RunCommand's `Frequency`, ECS API 2014-05-26."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.errors import InputError

_OFFSET = re.compile(r"GMT([+-])([0-9]{1,2}):([0-5][0-9])")


def zone(text: str) -> tzinfo:
    """Returns the zone that `text` names. An empty text means UTC, not the host's zone, so that an expression means the
    same on every instance. Raises InputError."""
    if text in {"", "UTC", "GMT"}:
        return UTC
    if offset := _OFFSET.fullmatch(text):
        size = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        if size <= timedelta(hours=14):
            return timezone(size if offset[1] == "+" else -size)
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"time zone {text!r}: expected a name such as Asia/Shanghai, GMT+8:00 or UTC"
        ) from None
