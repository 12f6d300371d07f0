"""Spans of time as operators write them, for the filters of listings."""

from __future__ import annotations

from schemas.times import parse_when

OPEN_END = 2**62
"""The end of a span of time without an end, in milliseconds since the epoch."""


def parse_span(since: str, until: str, now: int) -> tuple[int, int]:
    """Reads the start and the end of a span of time, in milliseconds since the epoch.

    Both are read as `parse_when` does; an empty text leaves that side open. `now`: milliseconds since the epoch. Raises
    InputError.
    """
    return parse_when(since, now) if since else 0, parse_when(until, now) if until else OPEN_END
