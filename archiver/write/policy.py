"""When a segment is closed: frozen data and pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SEGMENT_LIMIT = 63 * 2**20
"""Bytes of records that a segment holds at most, whatever the policy says: with its header it stays under 64 MiB even
where nothing can be compressed."""


@dataclass(frozen=True)
class ArchivePolicy:
    """A segment is closed at `max_bytes` of records before compression, at `max_records`, `max_age` seconds after its
    first record came, or `max_idle` seconds after its last: whichever is first."""

    max_bytes: int = 16 * 2**20
    max_records: int = 50_000
    max_age: float = 60.0
    max_idle: float = 5.0


class Waiting(NamedTuple):
    """What waits for company in a segment. `since` and `latest`: when the first and the last of it came, in seconds of
    a monotonic clock."""

    records: int
    size: int
    since: float
    latest: float


def due_at(policy: ArchivePolicy, waiting: Waiting) -> float:
    """When the segment is to be closed, in seconds of the same clock; already past if it is full."""
    if waiting.records >= policy.max_records or waiting.size >= min(policy.max_bytes, SEGMENT_LIMIT):
        return waiting.since
    return min(waiting.since + policy.max_age, waiting.latest + policy.max_idle)


def due(policy: ArchivePolicy, waiting: Waiting, now: float) -> bool:
    """Whether the segment is to be closed now."""
    return due_at(policy, waiting) <= now
