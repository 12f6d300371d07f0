"""Clocks: the clock of the operating system, and a clock that a test sets by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time and monotonic time. Policies never call a clock: they take `now` as an argument."""

    def now(self) -> int:
        """Returns the wall time in milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Returns the seconds since a fixed moment; the value never decreases."""
        ...


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> int:
        """Returns the wall time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Returns the seconds since a fixed moment; the value never decreases."""
        return time.monotonic()


class ManualClock:
    """A clock for tests: only `advance` and `step` move it."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> int:
        """Returns the wall time in milliseconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Returns the seconds advanced so far."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Moves both times forward by `seconds`."""
        self._now += round(seconds * 1000)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Changes only the wall time by `seconds`, as an administrator or a bad time server would."""
        self._now += round(seconds * 1000)
