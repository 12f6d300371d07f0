"""The conditions of all targets, read from the topic `state`, and the availability that follows from them."""

from __future__ import annotations

from typing import NamedTuple

import structlog

from heliograph.bus.base import Bus
from schemas.record import Record, TopicPartition
from schemas.target_state import Condition, TargetStatus, read_condition
from schemas.topics import STATE

_PARTITION = TopicPartition(STATE, 0)
_log = structlog.get_logger()


class Available(NamedTuple):
    """Deliveries may be sent; one at a time if `probing`. `elapsed`: conditions whose time has passed, which a success
    lifts."""

    probing: bool
    elapsed: tuple[Condition, ...] = ()


class Paused(NamedTuple):
    """No delivery may be sent before `until`, milliseconds since the epoch."""

    until: int


class Suspended(NamedTuple):
    """No delivery may be sent before an operator resumes the target."""

    why: str


Availability = Available | Paused | Suspended

_AVAILABLE = Available(probing=False)


class TargetStates:
    """A view of the topic `state`. Belongs to one thread. Nothing is read before the first `refresh`."""

    def __init__(self, bus: Bus) -> None:
        bus.create(STATE)
        self._bus = bus
        self._offset = 0
        self._conditions: dict[str, dict[TargetStatus, Condition]] = {}

    def refresh(self) -> None:
        """Reads to the end of the topic; costs one read of the bus when there is nothing new."""
        while True:
            polled = self._bus.read(_PARTITION, self._offset)
            for gap in polled.gaps:  # left by compaction
                self._offset = gap.end
            if not polled.records and not polled.gaps:
                return
            for record in polled.records:
                self._apply(record)
                self._offset = record.offset + 1

    def put(self, condition: Condition) -> None:
        """Puts a condition into force before its record is read back."""
        self._conditions.setdefault(condition.target, {})[condition.status] = condition

    def lift(self, target: str, status: TargetStatus) -> None:
        """Lifts a condition before its record is read back."""
        found = self._conditions.get(target, {})
        found.pop(status, None)
        if not found:
            self._conditions.pop(target, None)

    def find(self, target: str, status: TargetStatus) -> Condition | None:
        """Returns the condition of that status, even if its time has passed."""
        return self._conditions.get(target, {}).get(status)

    def availability(self, target: str, now: int) -> Availability:
        """Returns Available, Paused or Suspended for a target. `now`: milliseconds since the epoch."""
        found = self._conditions.get(target)
        if not found:
            return _AVAILABLE
        suspension = found.get(TargetStatus.SUSPENDED)
        if suspension is not None:
            return Suspended(suspension.why)
        until = max(condition.until for condition in found.values())
        if until > now:
            return Paused(until)
        return Available(TargetStatus.OPEN in found, tuple(found.values()))

    def gravest(self, target: str, now: int) -> Condition | None:
        """Returns the gravest condition in force, None if there is none. A breaker is open until a probe succeeds."""
        found = self._conditions.get(target, {})
        for status in TargetStatus:
            one = found.get(status)
            if one is not None and (status is not TargetStatus.THROTTLED or one.until > now):
                return one
        return None

    def _apply(self, record: Record) -> None:
        try:
            read = read_condition(record)
        except ValueError as error:
            _log.error("state of a target unreadable", position=str(record.position), problem=str(error))
            return
        if isinstance(read, Condition):
            self.put(read)
        else:
            self.lift(*read)
