"""A token bucket that holds the tokens of one second. Time is an argument."""

from __future__ import annotations


class Bucket:
    """Starts empty, so that a restart allows no burst. Times are seconds of the monotonic clock."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._tokens = 0.0
        self._at = now

    def take(self, wanted: int, now: float) -> int:
        """Takes up to `wanted` whole tokens; returns how many it took."""
        self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
        self._at = now
        taken = min(wanted, int(self._tokens + 1e-9))
        self._tokens -= taken
        return taken

    def wait(self) -> float:
        """Returns the seconds between the last `take` and the next whole token."""
        return max(0.0, (1 - self._tokens) / self._rate)
