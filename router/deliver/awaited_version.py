"""The wait for a version of the configuration that deliveries were matched under and that was not read yet."""

from __future__ import annotations

import enum

import structlog

LIMIT_SECONDS = 30.0
"""Longest wait in seconds. A bus that has not shown an appended record by then has lost it, and a longer wait would
block the partition for ever."""
_log = structlog.get_logger()


class _State(enum.Enum):
    IDLE = enum.auto()
    WAITING = enum.auto()
    GIVEN_UP = enum.auto()


class AwaitedVersion:
    """Limits the wait for a later version. After a wait that reached the limit, no wait starts before another version
    is read."""

    def __init__(self) -> None:
        self._state = _State.IDLE
        self._since = 0.0

    def may_come(self, awaited: int, known: int, now: float) -> bool:
        """Returns True if deliveries should wait for version `awaited`; starts the wait if none is running.

        `known`: the version that was read; `now`: seconds of the monotonic clock.
        """
        if self._state is _State.GIVEN_UP:
            return False
        if self._state is _State.IDLE:
            self._state, self._since = _State.WAITING, now
        if now - self._since < LIMIT_SECONDS:
            return True
        self._state = _State.GIVEN_UP
        _log.error("configuration version not found, using the latest known", version=awaited, used=known)
        return False

    def stop(self) -> None:
        """Ends the wait: no delivery waits any more."""
        if self._state is _State.WAITING:
            self._state = _State.IDLE

    def reset(self) -> None:
        """Ends the wait: another version was read."""
        self._state = _State.IDLE
