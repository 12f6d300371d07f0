"""A lane: what a target, or a share of one, has been given, how much more it may be given, and whether it moves.

Belongs to the deliverer's thread. The half that sends, on the sinks' loop, is in `sender.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence

import msgspec

from router.deliver.breaker import FailureWindow
from router.deliver.waiting import InOrder, OneOfEach, Parcel, Waiting
from schemas.delivery import Outcome
from schemas.lanes import share
from schemas.metrics import IN_FLIGHT
from schemas.subscription import Target
from schemas.topics import DELIVERIES

STUCK_SECONDS = 1.0
"""A full lane without an answer for so long is stuck."""
SMALLEST_LIMIT = 100
BYTES_LIMIT = 64 * 1024 * 1024
"""Bytes of events in flight in one lane; the last delivery taken may exceed it."""
_PACED_SECONDS = 2.0
"""What a lane with a rate takes in at most, as seconds of its rate."""


class Lane:
    """A bounded number of deliveries in flight, the rest waiting in order. Limits are this lane's share of the target's.

    A lane is full when nothing more may be handed out, or when so much waits for others of its resources that it holds
    its partitions. A stuck lane is one that was full and had no answer for a second; an answer is `Delivered` or
    `Rejected`, since a dead receiver's timeouts come at any pace. It stays stuck until half of what was in flight has
    ended, so that a trickle of answers does not make others wait time and again.
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
        self._ordered = OneOfEach() if target.ordered else None
        self._waiting: Waiting = InOrder() if self._ordered is None else self._ordered
        self._waiting_in: Counter[int] = Counter()
        self._bytes = 0
        self._room = BYTES_LIMIT
        self._answered = now
        self._slot = 0.0
        self._gauge = IN_FLIGHT.labels(target.id)

    @property
    def full(self) -> bool:
        """Whether it takes in nothing more."""
        return self.in_flight >= self.limit or self._bytes >= self._room or self._crowded

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def holds(self) -> Iterable[int]:
        """Partitions of `deliveries` of which nothing more may be read while so much waits here. Deliveries of an
        ordered target wait for each other, which must not hold up other targets."""
        return self._waiting_in if self._ordered is None or self._crowded else ()

    def put(self, parcel: Parcel) -> None:
        """Let a delivery wait for its turn."""
        self._waiting.put(parcel)
        if parcel.position.topic == DELIVERIES:
            self._waiting_in[parcel.position.partition] += 1

    def take(self, now: float, room: int = BYTES_LIMIT) -> list[Parcel]:
        """Hand out what fits, oldest first. `now`: seconds of the monotonic clock; `room`: bytes of events that may be
        in flight."""
        self._room = room
        return self._take(now, self.limit - self.in_flight)

    def probe(self, now: float) -> list[Parcel]:
        """Hand out one delivery if none is in flight."""
        return self._take(now, 0 if self.in_flight else 1)

    def clear(self) -> list[Parcel]:
        """Take away everything that waits."""
        self._waiting_in.clear()
        return self._waiting.clear()

    def of(self, resource: str) -> list[Parcel]:
        """Take away what waits of a resource, in a lane of an ordered target."""
        parcels = self._ordered.of(resource) if self._ordered is not None else []
        self._left(parcels)
        return parcels

    def under_way(self, resource: str) -> Parcel | None:
        """What is in flight of a resource, in a lane of an ordered target."""
        return self._ordered.under_way(resource) if self._ordered is not None else None

    def forget(self, partitions: Container[int]) -> int:
        """Drop what waits from these partitions; returns how many of `deliveries` that were."""
        dropped = 0
        for parcel in self.clear():
            if parcel.position.partition not in partitions:
                self.put(parcel)
            elif parcel.position.topic == DELIVERIES:
                dropped += 1
        return dropped

    def ended(self, parcels: Sequence[Parcel], *, answered: bool, now: float) -> None:
        """Count deliveries out again; `answered` says whether the receiver gave an answer to any."""
        self._count_out(parcels)
        self._waiting.ended(parcels)
        if answered:
            self._answered = now

    def returned(self, parcels: Sequence[Parcel]) -> None:
        """Let deliveries wait again that were handed out and not tried."""
        self._count_out(parcels)
        self._waiting.put_back(parcels)
        for parcel in parcels:
            if parcel.position.topic == DELIVERIES:
                self._waiting_in[parcel.position.partition] += 1

    def newly_stuck(self, now: float) -> bool:
        """Look whether it still moves; True when it has just been found that it does not."""
        before = self.stuck
        self.stuck = before or (self.full and now - self._answered >= STUCK_SECONDS)
        return self.stuck and not before

    def slot(self, now: int) -> int:
        """When the rate has room for one more of those that are put off; milliseconds since the epoch."""
        assert self.rate is not None  # noqa: S101 - only lanes with a rate have slots
        self._slot = max(self._slot, now + 1000.0) + 1000.0 / self.rate
        return round(self._slot)

    @property
    def _crowded(self) -> bool:
        """Whether more waits in a lane of an ordered target than may be in flight: one resource may keep all the others
        waiting that it has."""
        return self._ordered is not None and len(self._waiting) > self.limit

    def _limit(self) -> int:
        """Deliveries in flight at most."""
        if self.target.in_flight is not None:
            return share(self.target.in_flight, self.target.lanes, self.number)
        limit = max(SMALLEST_LIMIT, 2 * self.concurrency * self.batch)
        return limit if self.rate is None else max(1, min(limit, math.ceil(_PACED_SECONDS * self.rate)))

    def _take(self, now: float, most: int) -> list[Parcel]:
        if not self.in_flight:
            self._answered = now
        taken: list[Parcel] = []
        pop = self._waiting.pop
        while len(taken) < most and self._bytes < self._room and (parcel := pop()) is not None:
            self._bytes += len(parcel.delivery.event)
            taken.append(parcel)
        self.in_flight += len(taken)
        self._left(taken)
        self._gauge.set(self.in_flight)
        return taken

    def _count_out(self, parcels: Sequence[Parcel]) -> None:
        self.in_flight -= len(parcels)
        self._bytes -= sum(len(parcel.delivery.event) for parcel in parcels)
        if self.in_flight * 2 <= self.limit and self._bytes * 2 <= self._room:
            self.stuck = False
        self._gauge.set(self.in_flight)

    def _left(self, parcels: Iterable[Parcel]) -> None:
        waiting = self._waiting_in
        for parcel in parcels:
            topic, partition, _ = parcel.position
            if topic == DELIVERIES:
                waiting[partition] -= 1
                if not waiting[partition]:
                    del waiting[partition]


class Completion(msgspec.Struct, frozen=True):
    """One call of a sink that has ended. `at`: milliseconds since the epoch when it began; `took`: seconds."""

    lane: Lane
    parcels: Sequence[Parcel]
    outcomes: Sequence[Outcome]
    at: int
    took: float


class Returned(msgspec.Struct, frozen=True):
    """Deliveries that were handed out and called back before they were tried."""

    lane: Lane
    parcels: Sequence[Parcel]


Report = Completion | Returned
