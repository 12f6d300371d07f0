"""The next commit of a deliverer: deliveries that leave it as verdicts, on the wheel, parked, or as dead letters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from heliograph.bus.base import Consumer
from router.deliver.lane import Lane
from router.deliver.parking import Parking
from router.deliver.queues import ClaimedDelivery
from router.deliver.settle import Ended, RetryLater, Settlement, dead, expired, waiting_record
from schemas.clock import Clock
from schemas.delivery import Exhausted, Reason, ReasonCode
from schemas.metrics import REJECTED, VERDICTS
from schemas.record import NewRecord, Position, Record
from schemas.rejects import rejected_record
from schemas.topics import PARKED


class PendingCommit:
    """Positions to commit, and the records to append in the same commit. Belongs to one thread.

    A delivery's record in `deliveries` is committed when the delivery is parked. When a parked delivery ends, an empty
    record is appended to `parked`.
    """

    def __init__(self, parking: Parking, clock: Clock) -> None:
        self._parking = parking
        self._clock = clock
        self._positions: list[Position] = []
        self._records: list[NewRecord] = []

    def commit(self, consumer: Consumer) -> int:
        """Commits everything at once; returns the number of committed records of `deliveries`.

        Raises BusError, and keeps everything for the next call.
        """
        count = len(self._positions)
        if self._positions or self._records:
            consumer.done(self._positions, self._records)
            self._positions, self._records = [], []
        return count

    def append(self, records: Iterable[NewRecord]) -> None:
        """Adds records that belong to no single delivery."""
        self._records += records

    def settle(self, lane: Lane, claimed: ClaimedDelivery, settlement: Settlement) -> None:
        """Adds the settlement of a delivery: its verdict, or its next wait on the wheel or parked."""
        match settlement:
            case Ended(records=records):
                self._end(claimed, records)
            case RetryLater(delivery=delivery) if lane.target.ordered:
                self._park_with_followers(lane, ClaimedDelivery(claimed.position, delivery))
            case RetryLater(delivery=delivery):
                self._end(claimed, [waiting_record(delivery, self._clock.now())])
            case _ as never:
                assert_never(never)

    def dead_letter(self, claimed: ClaimedDelivery, reason: Reason, exhausted: Exhausted) -> None:
        """Ends a delivery as a dead letter, without an attempt."""
        self._end_without_attempt(claimed, dead(claimed.delivery, reason, exhausted, self._clock.now()))

    def expire(self, claimed: ClaimedDelivery, now: int) -> None:
        """Ends a delivery whose event is older than its target accepts. `now`: milliseconds since the epoch."""
        self._end_without_attempt(claimed, expired(claimed.delivery, now))

    def reject(self, record: Record, problem: str, by: str) -> None:
        """Appends a record that is no delivery to `rejects`. `by`: name of the role."""
        REJECTED.labels(by).inc()
        self._positions.append(record.position)
        self._records.append(rejected_record(record.value, problem, f"{by} {record.position}"))

    def park(self, claimed: ClaimedDelivery) -> None:
        """Parks a delivery of `deliveries`; beyond the limit of parked deliveries it becomes a dead letter."""
        if self._parking.contains(claimed.delivery) or not self._parking.owns(claimed):
            self._positions.append(claimed.position)  # read again after a crash, or another member's by now
        elif self._parking.has_room(claimed.delivery):
            self._positions.append(claimed.position)
            self._records.append(self._parking.park(claimed))
        else:
            reason = Reason(ReasonCode.PARKED, "too many deliveries of the target are parked")
            self.dead_letter(claimed, reason, Exhausted.PARKED)

    def put_back(self, lane: Lane, claimed: ClaimedDelivery) -> None:
        """Leaves a recalled delivery to `parked` if it was parked while it was in flight."""
        if claimed.position.topic != PARKED and self._parking.contains(claimed.delivery):
            self._positions += [each.position for each in lane.take_resource(claimed.delivery.resource)]
            self._parking.put_back(claimed, 0)

    def _end_without_attempt(self, claimed: ClaimedDelivery, ended: Ended) -> None:
        self._end(claimed, ended.records)
        VERDICTS.labels(claimed.delivery.target, ended.state).inc()

    def _end(self, claimed: ClaimedDelivery, records: Iterable[NewRecord]) -> None:
        self._records += records
        if claimed.position.topic == PARKED or self._parking.contains(claimed.delivery):
            self._records.append(self._parking.release(claimed))
        if claimed.position.topic != PARKED:
            self._positions.append(claimed.position)

    def _park_with_followers(self, lane: Lane, claimed: ClaimedDelivery) -> None:
        """Parks a delivery of an ordered target, and behind it those of its resource that wait in the lane."""
        if self._parking.contains(claimed.delivery):
            self._records.append(self._parking.update(claimed))
        if claimed.position.topic == PARKED:
            return
        followers = lane.take_resource(claimed.delivery.resource)
        for one in followers:
            if one.position.topic == PARKED:
                self._parking.put_back(one, 0)
        self._park_after(lane.find_in_flight(claimed.delivery.resource), claimed)
        for one in followers:
            if one.position.topic != PARKED:
                self.park(one)

    def _park_after(self, in_flight: ClaimedDelivery | None, claimed: ClaimedDelivery) -> None:
        """Parks a delivery, and before it the one of its resource that is in flight.

        Otherwise the next owner of the partition could send the parked one before it reads the other again.
        """
        if (
            in_flight is not None
            and self._parking.owns(in_flight)
            and not self._parking.holds_resource(in_flight.delivery)
        ):
            self._records.append(self._parking.park_in_flight(in_flight))
        self.park(claimed)
