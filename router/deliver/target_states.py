"""How every target stands: what the topic `state` says, followed as it grows, and what a lane may do by it."""

from __future__ import annotations

from typing import NamedTuple

import structlog

from heliograph.bus.base import Bus
from schemas.record import Record, TopicPartition
from schemas.target_state import Condition, TargetStatus, read_condition
from schemas.topics import STATE

_PARTITION = TopicPartition(STATE, 0)
_log = structlog.get_logger()


class Open(NamedTuple):
    """Deliveries may go out: all of them, or one to probe the target. `tried`: the conditions whose time is over, and
    which a success lifts."""

    probe: bool
    tried: tuple[Condition, ...] = ()


class Closed(NamedTuple):
    """Nothing may go out until then, milliseconds since the epoch."""

    until: int


class Suspended(NamedTuple):
    """Nothing may go out until somebody says so."""

    why: str


Gate = Open | Closed | Suspended

_FREE = Open(probe=False)


class TargetStates:
    """A view of the topic `state`. Belongs to one thread. Nothing is read before the first `refresh`."""

    def __init__(self, bus: Bus) -> None:
        bus.create(STATE)
        self._bus = bus
        self._offset = 0
        self._conditions: dict[str, dict[TargetStatus, Condition]] = {}

    def refresh(self) -> None:
        """Read to the end of the topic: one read of the bus when there is nothing new."""
        while True:
            polled = self._bus.read(_PARTITION, self._offset)
            for gap in polled.gaps:  # compaction leaves them
                self._offset = gap.end
            if not polled.records and not polled.gaps:
                return
            for record in polled.records:
                self._apply(record)
                self._offset = record.offset + 1

    def put(self, condition: Condition) -> None:
        """Have a condition hold here before it is read back."""
        self._conditions.setdefault(condition.target, {})[condition.status] = condition

    def lift(self, target: str, status: TargetStatus) -> None:
        """Have a condition hold here no more."""
        found = self._conditions.get(target, {})
        found.pop(status, None)
        if not found:
            self._conditions.pop(target, None)

    def of(self, target: str, status: TargetStatus) -> Condition | None:
        """The condition of that status that is on record, even if its time is over."""
        return self._conditions.get(target, {}).get(status)

    def gate(self, target: str, now: int) -> Gate:
        """What a lane of the target may do. `now`: milliseconds since the epoch."""
        found = self._conditions.get(target)
        if not found:
            return _FREE
        suspension = found.get(TargetStatus.SUSPENDED)
        if suspension is not None:
            return Suspended(suspension.why)
        until = max(condition.until for condition in found.values())
        if until > now:
            return Closed(until)
        return Open(TargetStatus.OPEN in found, tuple(found.values()))

    def gravest(self, target: str, now: int) -> Condition | None:
        """What holds now and counts most; None for a target that is active. A breaker is open until a probe succeeds."""
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
