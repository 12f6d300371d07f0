"""A lane: what one target has been given, how much more it may be given, and whether it moves.

Belongs to the deliverer's thread. The half that sends, on the sinks' loop, is in `sender.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container
from typing import NamedTuple

import msgspec

from schemas.delivery import Delivery, Outcome
from schemas.metrics import IN_FLIGHT
from schemas.record import Position
from schemas.subscription import Target

STUCK_SECONDS = 1.0
"""A full lane without an answer for so long is stuck."""
SMALLEST_LIMIT = 100
BYTES_LIMIT = 64 * 1024 * 1024
"""Bytes of events in flight in one lane; the last delivery taken may exceed it."""


class Parcel(NamedTuple):
    """A delivery, and the record of `deliveries` that is finished when it ends."""

    position: Position
    delivery: Delivery


class Lane:
    """One target's share of a process: a bounded number of deliveries in flight, the rest waiting in order.

    A stuck lane is one that was full and had no answer for a second; an answer is `Delivered` or `Rejected`, since
    a dead receiver's timeouts come at any pace. It stays stuck until half of what was in flight has ended, so that
    a trickle of answers does not make others wait time and again.
    """

    def __init__(self, target: Target, batch: int, now: float) -> None:
        self.target = target
        self.batch = batch
        self.limit = max(SMALLEST_LIMIT, 2 * target.concurrency * batch)
        self.in_flight = 0
        self.stuck = False
        self.waiting: deque[Parcel] = deque()
        self.waiting_in: Counter[int] = Counter()
        self._bytes = 0
        self._room = BYTES_LIMIT
        self._answered = now
        self._gauge = IN_FLIGHT.labels(target.id)

    @property
    def full(self) -> bool:
        """Whether nothing more may be handed out."""
        return self.in_flight >= self.limit or self._bytes >= self._room

    def put(self, parcel: Parcel) -> None:
        """Let a delivery wait for its turn."""
        self.waiting.append(parcel)
        self.waiting_in[parcel.position.partition] += 1

    def take(self, now: float, room: int = BYTES_LIMIT) -> list[Parcel]:
        """Hand out what fits, oldest first. `now`: seconds of the monotonic clock; `room`: bytes of events that may be
        in flight."""
        self._room = room
        if not self.in_flight:
            self._answered = now
        taken: list[Parcel] = []
        while self.waiting and not self.full:
            parcel = self.waiting.popleft()
            self._left(parcel)
            self.in_flight += 1
            self._bytes += len(parcel.delivery.event)
            taken.append(parcel)
        self._gauge.set(self.in_flight)
        return taken

    def clear(self) -> list[Parcel]:
        """Take away everything that waits."""
        parcels = list(self.waiting)
        self.waiting.clear()
        self.waiting_in.clear()
        return parcels

    def forget(self, partitions: Container[int]) -> int:
        """Drop what waits from these partitions; returns how many that were."""
        kept = [parcel for parcel in self.waiting if parcel.position.partition not in partitions]
        dropped = len(self.waiting) - len(kept)
        self.clear()
        for parcel in kept:
            self.put(parcel)
        return dropped

    def ended(self, parcels: list[Parcel], *, answered: bool, now: float) -> None:
        """Count deliveries out again; `answered` says whether the receiver gave an answer to any."""
        self.in_flight -= len(parcels)
        self._bytes -= sum(len(parcel.delivery.event) for parcel in parcels)
        if answered:
            self._answered = now
        if self.in_flight * 2 <= self.limit and self._bytes * 2 <= self._room:
            self.stuck = False
        self._gauge.set(self.in_flight)

    def newly_stuck(self, now: float) -> bool:
        """Look whether it still moves; True when it has just been found that it does not."""
        before = self.stuck
        self.stuck = before or (self.full and now - self._answered >= STUCK_SECONDS)
        return self.stuck and not before

    def _left(self, parcel: Parcel) -> None:
        partition = parcel.position.partition
        self.waiting_in[partition] -= 1
        if not self.waiting_in[partition]:
            del self.waiting_in[partition]


class Completion(msgspec.Struct, frozen=True, gc=False):
    """What came of one call of a sink. `at`: when it began, milliseconds since the epoch; `took`: seconds."""

    lane: Lane
    parcels: list[Parcel]
    outcomes: list[Outcome]
    at: int
    took: float
