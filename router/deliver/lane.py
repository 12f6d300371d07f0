"""The lane of a target: its limits, its waiting deliveries, and those in flight.

Belongs to the deliverer's thread. The half of a lane that sends, on the loop of the sinks, is in `sender.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence

import msgspec

from router.deliver.breaker import FailureWindow
from router.deliver.queues import ClaimedDelivery, FifoQueue, LaneQueue, OrderedQueue
from schemas.delivery import Outcome, Retry
from schemas.lanes import share
from schemas.metrics import IN_FLIGHT
from schemas.subscription import Target
from schemas.topics import DELIVERIES

STUCK_SECONDS = 1.0
"""Seconds without an answer after which a full lane is stuck."""
SMALLEST_LIMIT = 100
"""Least limit of deliveries in flight of a lane without a rate, unless its target sets `in_flight`."""
BYTES_LIMIT = 64 * 1024 * 1024
"""Bytes of events in flight in one lane; the last delivery may exceed it."""
_RATE_SECONDS = 2.0
"""A lane with a rate may have as many deliveries in flight as its rate allows in so many seconds."""


class Lane:
    """A bounded number of deliveries in flight; the others wait in order. Limits are this lane's share of the target's.

    A lane is full when nothing more may be sent, or when an ordered lane has so much waiting that it pauses its
    partitions. A lane becomes stuck when it was full and had no answer for a second. An answer is `Delivered` or
    `Rejected`: a timeout is not, since the timeouts of a dead receiver come at any pace. A lane stays stuck until half
    of what was in flight has ended, so that a few answers do not make other targets wait again and again.
    """

    def __init__(self, target: Target, number: int, batch: int, now: float) -> None:
        self.target = target
        self.number = number
        self.batch = batch
        self.concurrency = share(target.concurrency, target.lanes, number)
        self.rate = target.rate / target.lanes if target.rate is not None else None
        self.limit = self._limit()
        self.in_flight = 0
        self.stuck = False
        self.failures = FailureWindow(target.breaker) if target.breaker else None
        self._ordered = OrderedQueue() if target.ordered else None
        self._queue: LaneQueue = FifoQueue() if self._ordered is None else self._ordered
        self._waiting_by_partition: Counter[int] = Counter()
        self._bytes = 0
        self._bytes_limit = BYTES_LIMIT
        self._answered_at = now
        self._last_slot = 0.0
        self._gauge = IN_FLIGHT.labels(target.id)

    @property
    def full(self) -> bool:
        """True if the lane sends nothing more before an attempt ends."""
        return self.in_flight >= self.limit or self._bytes >= self._bytes_limit or self._crowded

    @property
    def waiting(self) -> int:
        """Number of deliveries that wait."""
        return len(self._queue)

    @property
    def partitions_to_hold(self) -> Iterable[int]:
        """Partitions of `deliveries` to pause until fewer deliveries wait.

        An ordered lane pauses none until it is crowded: its deliveries wait for each other, and other targets must not
        wait for them.
        """
        return self._waiting_by_partition if self._ordered is None or self._crowded else ()

    def put(self, claimed: ClaimedDelivery) -> None:
        """Adds a delivery to those that wait."""
        self._queue.put(claimed)
        if claimed.position.topic == DELIVERIES:
            self._waiting_by_partition[claimed.position.partition] += 1

    def take(self, now: float, bytes_limit: int = BYTES_LIMIT) -> list[ClaimedDelivery]:
        """Moves as many waiting deliveries into flight as fit, oldest first, and returns them.

        `now`: seconds of the monotonic clock; `bytes_limit`: bytes of events that may be in flight.
        """
        self._bytes_limit = bytes_limit
        return self._take(now, self.limit - self.in_flight)

    def take_probe(self, now: float) -> list[ClaimedDelivery]:
        """Moves one delivery into flight if nothing is in flight, and returns it."""
        return self._take(now, 0 if self.in_flight else 1)

    def take_all(self) -> list[ClaimedDelivery]:
        """Removes and returns all waiting deliveries."""
        self._waiting_by_partition.clear()
        return self._queue.take_all()

    def take_resource(self, resource: str) -> list[ClaimedDelivery]:
        """Removes and returns the waiting deliveries of a resource; none if the target is not ordered."""
        taken = self._ordered.take_resource(resource) if self._ordered is not None else []
        self._count_as_taken(taken)
        return taken

    def find_in_flight(self, resource: str) -> ClaimedDelivery | None:
        """Returns the delivery of a resource that is in flight; None if the target is not ordered."""
        return self._ordered.find_in_flight(resource) if self._ordered is not None else None

    def drop_partitions(self, partitions: Container[int]) -> int:
        """Removes the waiting deliveries of these partitions; returns how many were records of `deliveries`."""
        dropped = 0
        for claimed in self.take_all():
            if claimed.position.partition not in partitions:
                self.put(claimed)
            elif claimed.position.topic == DELIVERIES:
                dropped += 1
        return dropped

    def complete(self, batch: Sequence[ClaimedDelivery], outcomes: Sequence[Outcome], now: float) -> None:
        """Removes attempted deliveries from flight. `now`: seconds of the monotonic clock."""
        self._remove_from_flight(batch)
        self._queue.complete(batch)
        failed = sum(isinstance(outcome, Retry) for outcome in outcomes)
        if failed < len(outcomes):
            self._answered_at = now
        if self.failures is not None:
            self.failures.add(len(outcomes), failed, now)

    def put_back(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Returns deliveries that were in flight and not attempted to the front of those that wait."""
        self._remove_from_flight(batch)
        self._queue.put_back(batch)
        for claimed in batch:
            if claimed.position.topic == DELIVERIES:
                self._waiting_by_partition[claimed.position.partition] += 1

    def becomes_stuck(self, now: float) -> bool:
        """Updates `stuck`; True if the lane was not stuck before and is now."""
        before = self.stuck
        self.stuck = before or (self.full and now - self._answered_at >= STUCK_SECONDS)
        return self.stuck and not before

    def take_slot(self, now: int) -> int:
        """Reserves the next time at which the rate has room for a deferred delivery; milliseconds since the epoch."""
        assert self.rate is not None  # noqa: S101 - only lanes with a rate have slots
        self._last_slot = max(self._last_slot, now + 1000.0) + 1000.0 / self.rate
        return round(self._last_slot)

    @property
    def _crowded(self) -> bool:
        """True if an ordered lane has more deliveries waiting than may be in flight. It then holds its partitions."""
        return self._ordered is not None and len(self._queue) > self.limit

    def _limit(self) -> int:
        """Returns how many deliveries may be in flight."""
        if self.target.in_flight is not None:
            return share(self.target.in_flight, self.target.lanes, self.number)
        limit = max(SMALLEST_LIMIT, 2 * self.concurrency * self.batch)
        return limit if self.rate is None else max(1, min(limit, math.ceil(_RATE_SECONDS * self.rate)))

    def _take(self, now: float, most: int) -> list[ClaimedDelivery]:
        if not self.in_flight:
            self._answered_at = now
        taken: list[ClaimedDelivery] = []
        pop = self._queue.pop
        while len(taken) < most and self._bytes < self._bytes_limit and (claimed := pop()) is not None:
            self._bytes += len(claimed.delivery.event)
            taken.append(claimed)
        self.in_flight += len(taken)
        self._count_as_taken(taken)
        self._gauge.set(self.in_flight)
        return taken

    def _remove_from_flight(self, batch: Sequence[ClaimedDelivery]) -> None:
        self.in_flight -= len(batch)
        self._bytes -= sum(len(claimed.delivery.event) for claimed in batch)
        if self.in_flight * 2 <= self.limit and self._bytes * 2 <= self._bytes_limit:
            self.stuck = False
        self._gauge.set(self.in_flight)

    def _count_as_taken(self, batch: Iterable[ClaimedDelivery]) -> None:
        waiting = self._waiting_by_partition
        for claimed in batch:
            topic, partition, _ = claimed.position
            if topic == DELIVERIES:
                waiting[partition] -= 1
                if not waiting[partition]:
                    del waiting[partition]


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a sink that has ended. `at`: milliseconds since the epoch when it began; `took`: seconds."""

    lane: Lane
    batch: Sequence[ClaimedDelivery]
    outcomes: Sequence[Outcome]
    at: int
    took: float


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries that were in flight and were recalled before they were attempted."""

    lane: Lane
    batch: Sequence[ClaimedDelivery]


SendResult = Completed | Recalled
