"""Time as an argument: a clock that is real, and one that tests turn by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Policies never call it: they take `now` as an argument."""

    def now(self) -> int:
        """Milliseconds since the epoch, by the wall clock."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        return time.monotonic()


class ManualClock:
    """A clock that only `advance` and `step` move."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> int:
        """What `advance` and `step` made of it."""
        return self._now

    def monotonic(self) -> float:
        """What `advance` made of it."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both hands."""
        self._now += round(seconds * 1000)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock off by `seconds`, as an administrator or a bad time server would."""
        self._now += round(seconds * 1000)
