"""The policy that closes segments: frozen data and pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SEGMENT_LIMIT = 63 * 2**20
"""Maximum bytes of records in a segment under any policy; it keeps segments under 64 MiB even without compression."""


@dataclass(frozen=True)
class ArchivePolicy:
    """The limits at which a segment is closed, whichever is reached first.

    `max_bytes`: bytes of records before compression; `max_age`: seconds after the first record arrived; `max_idle`:
    seconds after the last one.
    """

    max_bytes: int = 16 * 2**20
    max_records: int = 50_000
    max_age: float = 60.0
    max_idle: float = 5.0


class Waiting(NamedTuple):
    """The number and bytes of records that wait for a segment.

    `since` and `latest`: monotonic time in seconds at which the first and the last of them arrived.
    """

    records: int
    size: int
    since: float
    latest: float


def due_at(policy: ArchivePolicy, waiting: Waiting) -> float:
    """Returns the monotonic time in seconds at which the segment is due; a time in the past if it is full."""
    if waiting.records >= policy.max_records or waiting.size >= min(policy.max_bytes, SEGMENT_LIMIT):
        return waiting.since
    return min(waiting.since + policy.max_age, waiting.latest + policy.max_idle)


def is_due(policy: ArchivePolicy, waiting: Waiting, now: float) -> bool:
    """Returns True if the segment is due."""
    return due_at(policy, waiting) <= now
