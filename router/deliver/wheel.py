"""The timing wheel: topics in which deliveries wait. Each topic is a tier, four times as wide as the one before.

A tier is first in, first out. A record leaves it after the tier's width in seconds, or at its due time if that is
sooner, so that no record waits behind another for longer than one width. docs/decisions/0003-wheel-rounding.md
explains the rounding.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import takewhile

import msgspec

from heliograph.bus.base import Bus, Consumer, Polled
from heliograph.bus.gaps import report_gaps
from schemas.clock import Clock
from schemas.delivery import Wait, read_wait
from schemas.record import NewRecord, Record, TopicPartition
from schemas.role import ConsumerRole
from schemas.topics import DELIVERIES, TIERS, retry_topic

LIMIT = 200
"""Number of records in one poll, and the largest number of a partition's records in memory."""

_SINCE = "tier-since"
"""Header: time at which a wheel put the record into its tier, in milliseconds since the epoch, by the wheel's clock.

The record's timestamp would not do: by a clock ahead of the bus, a record would age at once, and move from tier to
tier as fast as it can be written.
"""
_SLACK_MS = 1000
_SLACK_SHARE = 0.05
_WIDTHS = {retry_topic(width): width for width in TIERS}


def _slack_ms(wait_seconds: float) -> float:
    """Returns the lateness in milliseconds that a wait of so many seconds allows."""
    return max(_SLACK_MS, _SLACK_SHARE * wait_seconds * 1000)


def next_tier(remaining_ms: int, wait_seconds: float) -> int | None:
    """Returns the width in seconds of the tier for a delivery that is due in `remaining_ms`; None if it is due now.

    It is the smallest tier that holds the delivery until it is due, unless that would make it too late. Then it is the
    widest tier that is not wider than the remaining time.
    """
    if remaining_ms <= 0:
        return None
    for width in TIERS:
        too_wide = width * 1000 - remaining_ms
        if 0 <= too_wide <= _slack_ms(wait_seconds):
            return width
        if too_wide > 0:
            break
    return max(width for width in TIERS if width * 1000 <= remaining_ms)


def topic_for(wait: Wait, now_ms: int) -> str:
    """Returns the topic for a delivery with this wait: a tier, or `deliveries` if it is due."""
    width = next_tier(wait.due - now_ms, wait.total)
    return DELIVERIES if width is None else retry_topic(width)


class _Fetched(msgspec.Struct, frozen=True, gc=False):
    """A record near the head of a tier. `ready`: milliseconds since the epoch; `ready_monotonic`: seconds."""

    record: Record
    wait: Wait
    ready: int
    ready_monotonic: float

    def is_ready(self, now: int, monotonic: float) -> bool:
        return now >= self.ready or monotonic >= self.ready_monotonic


class Wheel(ConsumerRole[Consumer]):
    """The role that moves records between tiers, and back to `deliveries` when they are due.

    A delivery is due by the wall clock alone. If a record's timestamp is wrong because the clock was set back, the
    record leaves its tier after one width by the monotonic clock, for a new tier, so that it blocks nothing behind it.
    """

    name = "wheel"
    topics = ("retries.*",)

    def __init__(self, bus: Bus, clock: Clock) -> None:
        for topic in _WIDTHS:
            bus.create(topic)
        self._bus = bus
        self._clock = clock
        self._fetched: dict[TopicPartition, deque[_Fetched]] = {}
        self._held: set[TopicPartition] = set()
        self._looking = True
        self._soonest = (math.inf, math.inf)
        self._consumer = bus.consumer(self.topics, self.name, gained=self._gained, lost=self._lost)

    def step(self, timeout: float) -> None:
        """Polls the tiers without fetched records, and moves every head that is ready."""
        polled = self._consumer.poll(LIMIT, min(timeout, self.until_ready()))
        self._add(polled)
        self._move()
        self._hold()

    def busy(self) -> bool:
        """True if a head is ready, or if a tier may hold records that were not fetched yet."""
        soonest, soonest_monotonic = self._soonest
        return self._looking or self._clock.now() >= soonest or self._clock.monotonic() >= soonest_monotonic

    def until_ready(self) -> float:
        """Returns the seconds until a fetched head is ready; infinite if none is fetched."""
        soonest, soonest_monotonic = self._soonest
        by_wall = (soonest - self._clock.now()) / 1000
        return max(0.0, min(by_wall, soonest_monotonic - self._clock.monotonic()))

    def _add(self, polled: Polled) -> None:
        report_gaps(self.name, polled.gaps)
        seen = self._clock.monotonic()
        for record in polled.records:
            partition = TopicPartition(record.topic, record.partition)
            self._fetched.setdefault(partition, deque()).append(_fetched(record, seen))
        self._looking = bool(polled.records) or (self._looking and self._has_unfetched())

    def _has_unfetched(self) -> bool:
        """Returns True if a tier of ours holds records that were not fetched.

        While no partition is assigned, looks at all tiers: a cluster assigns partitions some time after the first poll.
        """
        assigned, cursors = self._consumer.assigned(), self._bus.lag(self.name)
        for topic in _WIDTHS:
            for partition, extent in self._bus.extents(topic).items():
                cursor = cursors[partition].cursor if partition in cursors else extent.start
                ours = not assigned or partition in assigned
                if ours and cursor < extent.end and not self._fetched.get(partition):
                    return True
        return False

    def _move(self) -> None:
        """Moves every ready head to its next topic, in one commit."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ready = {
            partition: list(takewhile(lambda one: one.is_ready(now, monotonic), waiting))
            for partition, waiting in self._fetched.items()
        }
        moved = [one for heads in ready.values() for one in heads]
        if moved:
            self._looking = True
            self._consumer.done([one.record.position for one in moved], [_moved(one, now) for one in moved])
        for partition, heads in ready.items():
            for _ in heads:
                self._fetched[partition].popleft()
        heads_left = [waiting[0] for waiting in self._fetched.values() if waiting]
        self._soonest = (
            min((head.ready for head in heads_left), default=math.inf),
            min((head.ready_monotonic for head in heads_left), default=math.inf),
        )

    def _hold(self) -> None:
        """Pauses partitions with fetched records, and resumes the others."""
        waiting = {partition for partition, records in self._fetched.items() if records}
        for partition in waiting - self._held:
            self._consumer.hold(partition, math.inf)
        for partition in self._held - waiting:
            self._consumer.hold(partition, None)
        self._held = waiting
        self._fetched = {partition: self._fetched[partition] for partition in waiting}

    def _gained(self, _: Sequence[TopicPartition]) -> None:
        self._looking = True

    def _lost(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            self._fetched.pop(partition, None)


def _fetched(record: Record, seen: float) -> _Fetched:
    """Returns a record with its times. A record without a readable wait is due at once: the deliverer rejects it."""
    width = _WIDTHS.get(record.topic, 0)
    try:
        wait = read_wait(record)
        since = int(record.header(_SINCE) or record.timestamp)
    except ValueError:
        wait, since = None, record.timestamp
    wait = wait or Wait(record.timestamp, 0.0)
    return _Fetched(record, wait, min(wait.due, since + width * 1000), seen + width)


def _moved(one: _Fetched, now: int) -> NewRecord:
    topic = topic_for(one.wait, now)
    headers = tuple(header for header in one.record.headers if header[0] != _SINCE)
    if topic != DELIVERIES:
        headers = (*headers, (_SINCE, b"%d" % now))
    return NewRecord(topic, one.record.value, one.record.key, headers)
