"""The timing wheel: topics in which deliveries wait, each tier four times as wide as the one before.

A tier is first in, first out, and a record leaves it when it has aged by the tier's width, or at its due time if
that comes first: so nothing waits behind another for longer than one width. Rounding is told in
docs/decisions/0003-wheel-rounding.md.
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
from schemas.record import NewRecord, Position, Record, TopicPartition
from schemas.role import ConsumerRole
from schemas.topics import DELIVERIES, TIERS, retry_topic

LIMIT = 200
"""Records of one poll: what is kept in memory of a partition is never more."""

_SINCE = "tier-since"
"""Header: when whoever turned the wheel put the record into its tier, milliseconds since the epoch by that clock. The
log's own time of it would do if clocks agreed: by one that is ahead of the log's, a record had aged as soon as it came,
and went from tier to tier as fast as it could be written."""
_SLACK_MS = 1000
_SLACK_SHARE = 0.05
_WIDTHS = {retry_topic(width): width for width in TIERS}


def _slack_ms(wait_seconds: float) -> float:
    """How late a delivery may come back from a wait of that many seconds, in milliseconds."""
    return max(_SLACK_MS, _SLACK_SHARE * wait_seconds * 1000)


def next_tier(remaining_ms: int, wait_seconds: float) -> int | None:
    """Width in seconds of the tier where a delivery goes that is due in `remaining_ms`; None: it is due.

    The smallest tier that holds it to its end, if that is not too much wider; otherwise the widest that is not
    wider than what remains.
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
    """The topic where a delivery with this wait goes now: a tier, or `deliveries` when it is due."""
    width = next_tier(wait.due - now_ms, wait.total)
    return DELIVERIES if width is None else retry_topic(width)


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    """A record at or near a tier's head. `ready`: milliseconds since the epoch; `ready_monotonic`: seconds."""

    record: Record
    wait: Wait
    ready: int
    ready_monotonic: float

    def is_ready(self, now: int, monotonic: float) -> bool:
        return now >= self.ready or monotonic >= self.ready_monotonic


class Wheel(ConsumerRole[Consumer]):
    """The role that turns the wheel.

    The wall clock alone says when a delivery is due. A record whose time in the log lies (the clock was set back)
    moves on after one width by the monotonic clock, to a tier chosen anew, so that it holds up nothing behind it.
    """

    name = "wheel"
    topics = ("retries.*",)

    def __init__(self, bus: Bus, clock: Clock) -> None:
        for topic in _WIDTHS:
            bus.create(topic)
        self._bus = bus
        self._clock = clock
        self._fetched: dict[TopicPartition, deque[_Waiting]] = {}
        self._held: set[TopicPartition] = set()
        self._looking = True
        self._soonest = (math.inf, math.inf)
        self._consumer = bus.consumer(self.topics, self.name, gained=self._gained, lost=self._lost)

    def step(self, timeout: float) -> None:
        """Fetch what may be fetched, and move every head that is ready."""
        polled = self._consumer.poll(LIMIT, min(timeout, self.until_ready()))
        self._keep(polled)
        self._move()
        self._hold()

    def busy(self) -> bool:
        """Whether a head is ready, or tiers have not been looked into yet."""
        soonest, soonest_monotonic = self._soonest
        return self._looking or self._clock.now() >= soonest or self._clock.monotonic() >= soonest_monotonic

    def until_ready(self) -> float:
        """Seconds until a head that was seen is ready; infinite when there is none."""
        soonest, soonest_monotonic = self._soonest
        by_wall = (soonest - self._clock.now()) / 1000
        return max(0.0, min(by_wall, soonest_monotonic - self._clock.monotonic()))

    def _keep(self, polled: Polled) -> None:
        report_gaps(self.name, polled.gaps)
        seen = self._clock.monotonic()
        for record in polled.records:
            partition = TopicPartition(record.topic, record.partition)
            self._fetched.setdefault(partition, deque()).append(_waiting(record, seen))
        self._looking = bool(polled.records) or (self._looking and self._unseen())

    def _unseen(self) -> bool:
        """Whether a tier of ours holds what has not come yet, or any does while none is ours: a log on other machines
        gives partitions and records later than it is first asked."""
        assigned, cursors = self._consumer.assigned(), self._bus.lag(self.name)
        for topic in _WIDTHS:
            for partition, extent in self._bus.extents(topic).items():
                cursor = cursors[partition].cursor if partition in cursors else extent.start
                ours = not assigned or partition in assigned
                if ours and cursor < extent.end and not self._fetched.get(partition):
                    return True
        return False

    def _move(self) -> None:
        """Append every ready head to where it goes next, and finish it here: one commit for all of them."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ready = {
            partition: list(takewhile(lambda one: one.is_ready(now, monotonic), waiting))
            for partition, waiting in self._fetched.items()
        }
        moved = [one for heads in ready.values() for one in heads]
        if moved:
            self._looking = True
            self._consumer.done(_positions(moved), [_moved(one, now) for one in moved])
        for partition, heads in ready.items():
            for _ in heads:
                self._fetched[partition].popleft()
        heads_left = [waiting[0] for waiting in self._fetched.values() if waiting]
        self._soonest = (
            min((head.ready for head in heads_left), default=math.inf),
            min((head.ready_monotonic for head in heads_left), default=math.inf),
        )

    def _hold(self) -> None:
        """Fetch nothing more of a partition while something of it is here."""
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


def _waiting(record: Record, seen: float) -> _Waiting:
    """A record that has no readable wait is due at once: the deliverer says what is wrong with it."""
    width = _WIDTHS.get(record.topic, 0)
    try:
        wait = read_wait(record)
        since = int(record.header(_SINCE) or record.timestamp)
    except ValueError:
        wait, since = None, record.timestamp
    wait = wait or Wait(record.timestamp, 0.0)
    return _Waiting(record, wait, min(wait.due, since + width * 1000), seen + width)


def _moved(one: _Waiting, now: int) -> NewRecord:
    topic = topic_for(one.wait, now)
    headers = tuple(header for header in one.record.headers if header[0] != _SINCE)
    if topic != DELIVERIES:
        headers = (*headers, (_SINCE, b"%d" % now))
    return NewRecord(topic, one.record.value, one.record.key, headers)


def _positions(moved: Sequence[_Waiting]) -> Sequence[Position]:
    return [one.record.position for one in moved]
