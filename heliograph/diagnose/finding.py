"""Findings of `heliograph doctor`: the results of its checks."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check; `detail` names the remedy if the state is not `OK`."""

    check: str
    state: State
    detail: str

    def row(self) -> dict[str, str]:
        """Returns the finding as the row of a listing."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]


def clock_finding(check: str, lowest: int, highest: int) -> Finding:
    """Checks another machine's clock, which is between `lowest` and `highest` milliseconds ahead of ours."""
    offset = 0 if lowest <= 0 <= highest else min(lowest, highest, key=abs)
    if abs(offset) <= CLOCK_LIMIT:
        return Finding(check, State.OK, "agrees with this machine's to about a second")
    side = "ahead of" if offset > 0 else "behind"
    text = f"{abs(offset) / 1000:.1f} s {side} this machine's; synchronise both with a time server (NTP)"
    return Finding(check, State.WARNING, text)


CLOCK_LIMIT = 1000
"""Milliseconds by which clocks may differ without a warning."""
