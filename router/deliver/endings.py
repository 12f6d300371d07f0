"""How deliveries leave a process: as verdicts, on the wheel, parked, or among the dead letters.

What ends and what follows from it are gathered here until one commit stores both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from heliograph.bus.base import Consumer
from router.deliver.lane import Lane
from router.deliver.parking import Parking
from router.deliver.settle import Again, Ended, Settlement, dead, expired, waiting_record
from router.deliver.waiting import Parcel
from schemas.clock import Clock
from schemas.delivery import Exhausted, Reason, ReasonCode
from schemas.metrics import REJECTED, VERDICTS
from schemas.record import NewRecord, Position, Record
from schemas.rejects import rejected_record
from schemas.topics import PARKED


class Endings:
    """What a member has ended and not committed. What is parked has no record of `deliveries` to finish any more: its
    end releases it in `parked`. Belongs to one thread."""

    def __init__(self, parking: Parking, clock: Clock) -> None:
        self._parking = parking
        self._clock = clock
        self._ended: list[Position] = []
        self._follows: list[NewRecord] = []

    def commit(self, consumer: Consumer) -> int:
        """Store all of it at once; returns how many records of `deliveries` that finished. Raises BusError, and keeps
        everything."""
        finished = len(self._ended)
        if self._ended or self._follows:
            consumer.done(self._ended, self._follows)
            self._ended, self._follows = [], []
        return finished

    def follow(self, records: Iterable[NewRecord]) -> None:
        """Append what follows for others than one delivery."""
        self._follows += records

    def conclude(self, lane: Lane, parcel: Parcel, settlement: Settlement) -> None:
        """Append what follows for a delivery, and finish the record that it came from."""
        match settlement:
            case Ended(records=records):
                self._end(parcel, records)
            case Again(delivery=delivery) if lane.target.ordered:
                self._park(lane, Parcel(parcel.position, delivery))
            case Again(delivery=delivery):
                self._end(parcel, [waiting_record(delivery, self._clock.now())])
            case _ as never:
                assert_never(never)

    def bury(self, parcel: Parcel, reason: Reason, exhausted: Exhausted) -> None:
        """End a delivery without an attempt."""
        self._end_untried(parcel, dead(parcel.delivery, reason, exhausted, self._clock.now()))

    def expire(self, parcel: Parcel, now: int) -> None:
        """End a delivery whose event is older than its target wants. `now`: milliseconds since the epoch."""
        self._end_untried(parcel, expired(parcel.delivery, now))

    def reject(self, record: Record, problem: str, by: str) -> None:
        """Keep what is no delivery in `rejects`. `by`: the role that says so."""
        REJECTED.labels(by).inc()
        self._ended.append(record.position)
        self._follows.append(rejected_record(record.value, problem, f"{by} {record.position}"))

    def keep(self, parcel: Parcel) -> None:
        """Keep a delivery of `deliveries` in `parked`; at the bound it becomes a dead letter."""
        if self._parking.knows(parcel.delivery) or not self._parking.owns(parcel):
            self._ended.append(parcel.position)  # it came again after a crash, or is another member's by now
        elif self._parking.has_room(parcel.delivery):
            self._ended.append(parcel.position)
            self._follows.append(self._parking.park(parcel))
        else:
            reason = Reason(ReasonCode.PARKED, "too many deliveries wait for others of their resources")
            self.bury(parcel, reason, Exhausted.PARKED)

    def take_back(self, lane: Lane, parcel: Parcel) -> None:
        """Let one that was not tried come again from `parked`, if its place was kept there while it was under way."""
        if parcel.position.topic != PARKED and self._parking.knows(parcel.delivery):
            self._ended += [each.position for each in lane.of(parcel.delivery.resource)]
            self._parking.back(parcel, 0)

    def _end_untried(self, parcel: Parcel, ended: Ended) -> None:
        self._end(parcel, ended.records)
        VERDICTS.labels(parcel.delivery.target, ended.state).inc()

    def _end(self, parcel: Parcel, records: Iterable[NewRecord]) -> None:
        self._follows += records
        if parcel.position.topic == PARKED or self._parking.knows(parcel.delivery):
            self._follows.append(self._parking.ended(parcel))
        if parcel.position.topic != PARKED:
            self._ended.append(parcel.position)

    def _park(self, lane: Lane, parcel: Parcel) -> None:
        """Keep a delivery of an ordered target that must wait, and behind it what waits here for its turn after it."""
        if self._parking.knows(parcel.delivery):
            self._follows.append(self._parking.again(parcel))
        if parcel.position.topic == PARKED:
            return
        behind = lane.of(parcel.delivery.resource)
        for one in behind:
            if one.position.topic == PARKED:
                self._parking.back(one, 0)
        self._keep_after(lane.under_way(parcel.delivery.resource), parcel)
        for one in behind:
            if one.position.topic != PARKED:
                self.keep(one)

    def _keep_after(self, before: Parcel | None, parcel: Parcel) -> None:
        """Keep a delivery, and first the place of the one of its resource that is under way: else whoever takes over
        might send this one before it reads that one again."""
        if before is not None and self._parking.owns(before) and not self._parking.holds(before.delivery):
            self._follows.append(self._parking.park_under_way(before))
        self.keep(parcel)
