"""`clock_finding`: warns of a clock that differs, with the difference and its direction."""

from __future__ import annotations

import pytest

from heliograph.diagnose.finding import clock_finding


@pytest.mark.parametrize(
    ("lowest", "highest", "says"),
    [
        (-20, 5, ""),
        (900, 1900, ""),
        (-2000, -1000, ""),
        (1001, 2100, "1.0 s ahead of this machine's"),
        (-95_000, -94_000, "94.0 s behind this machine's"),
    ],
)
def test_the_least_possible_difference_of_a_clock_decides_the_warning(
    lowest: int, highest: int, says: str
) -> None:
    found = clock_finding("clock", lowest, highest)
    assert found.state == ("warning" if says else "ok")
    assert says in found.detail
    assert ("NTP" in found.detail) is bool(says)
