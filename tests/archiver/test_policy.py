"""The policy that closes segments."""

from __future__ import annotations

import pytest

from archiver.write.policy import SEGMENT_LIMIT, ArchivePolicy, Waiting, due_at, is_due

POLICY = ArchivePolicy(max_bytes=1000, max_records=10, max_age=60, max_idle=5)


@pytest.mark.parametrize(
    ("waiting", "now", "expected"),
    [
        (Waiting(1, 1, since=0, latest=0), 4.9, False),
        (Waiting(1, 1, since=0, latest=0), 5.0, True),
        (Waiting(9, 999, since=0, latest=58), 59.9, False),
        (Waiting(9, 999, since=0, latest=58), 60.0, True),
        (Waiting(10, 1, since=3, latest=3), 3.0, True),
        (Waiting(1, 1000, since=3, latest=3), 3.0, True),
        (Waiting(0, 0, since=3, latest=3), 7.9, False),
    ],
)
def test_count_size_age_or_idleness_makes_a_segment_due(waiting: Waiting, now: float, expected: bool) -> None:
    assert is_due(POLICY, waiting, now) is expected
    assert (due_at(POLICY, waiting) <= now) is expected


def test_no_policy_lets_a_segment_grow_beyond_the_limit() -> None:
    huge = ArchivePolicy(max_bytes=2**40)
    assert is_due(huge, Waiting(1, SEGMENT_LIMIT, since=9, latest=9), 9)
