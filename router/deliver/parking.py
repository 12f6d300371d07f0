"""The topic `parked`, in memory: deliveries of ordered targets that wait to be sent, and later ones of the same
resource.

A record of `parked` has the partition number of its delivery in `deliveries`, so that one member of the group owns both
partitions. Its key is the delivery's id. The last record of a key counts; an empty one releases the delivery. The
header `place` is the delivery's first offset in `deliveries`, by which deliveries are ordered.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterable

import msgspec
import structlog

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from router.deliver.queues import ClaimedDelivery
from schemas.delivery import Delivery, delivery_record, read_delivery
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Position, Record, TopicPartition
from schemas.topics import DELIVERIES, PARKED

PARKED_LIMIT = 10_000
"""Deliveries of one target that may be parked in one process; further ones become dead letters."""
PARKED_BYTES = 64 * 1024 * 1024
"""Bytes of events of one target that may be parked in one process."""

_PLACE = "place"
_Resource = tuple[str, str]
_log = structlog.get_logger()


class _Parked(msgspec.Struct, gc=False):
    claimed: ClaimedDelivery
    due: int
    in_lane: bool = False


class Parking:
    """The parked deliveries of the partitions that are ours, by target and resource, in order. Belongs to one thread.

    Only the first delivery of a resource is attempted. It stays parked meanwhile, so that the others wait for it.
    """

    def __init__(self, bus: Bus) -> None:
        bus.create(PARKED, bus.topics()[DELIVERIES])
        self._bus = bus
        self._owned: set[int] = set()
        self._queues: dict[_Resource, deque[_Parked]] = {}
        self._ids: set[str] = set()
        self._count: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._heads: list[tuple[int, _Resource]] = []

    @property
    def empty(self) -> bool:
        """True if nothing is parked."""
        return not self._queues

    def load_partitions(self, partitions: Collection[int]) -> None:
        """Reads the parked deliveries of partitions that were assigned to us. Raises BusError."""
        self._owned.update(partitions)
        for partition in partitions:
            for claimed in sorted(self._read(partition), key=lambda one: one.position.offset):
                self._add(claimed)

    def drop_partitions(self, partitions: Collection[int]) -> None:
        """Forgets partitions that were revoked: another member reads them now."""
        self._owned.difference_update(partitions)
        for claimed in [one.claimed for queue in self._queues.values() for one in queue]:
            if claimed.position.partition in partitions:
                self._remove(claimed)

    def owns(self, claimed: ClaimedDelivery) -> bool:
        """True if the delivery's partition is ours, so that we may write its record in `parked`."""
        return claimed.position.partition in self._owned

    def holds_resource(self, delivery: Delivery) -> bool:
        """True if any delivery of the same target and resource is parked."""
        return _resource(delivery) in self._queues

    def contains(self, delivery: Delivery) -> bool:
        """True if the delivery itself is parked; then its record in `deliveries` was read again after a crash."""
        return delivery.id in self._ids

    def has_room(self, delivery: Delivery) -> bool:
        """True if one more delivery of its target may be parked."""
        target = delivery.target
        return self._count[target] < PARKED_LIMIT and self._bytes[target] < PARKED_BYTES

    def park(self, claimed: ClaimedDelivery) -> NewRecord:
        """Parks a delivery of `deliveries`; returns its record in `parked`."""
        _, partition, place = claimed.position
        parked = ClaimedDelivery(Position(PARKED, partition, place), claimed.delivery)
        self._add(parked)
        return _record(parked)

    def park_in_flight(self, claimed: ClaimedDelivery) -> NewRecord:
        """Parks a delivery that is in flight and whose resource has nothing parked; returns its record.

        The next owner of the partition then finds it before the deliveries that are parked behind it.
        """
        record = self.park(claimed)
        self._queues[_resource(claimed.delivery)][0].in_lane = True
        return record

    def update(self, claimed: ClaimedDelivery) -> NewRecord:
        """Stores the new wait of a parked delivery that was attempted; returns its record."""
        _, partition, place = claimed.position
        parked = ClaimedDelivery(Position(PARKED, partition, place), claimed.delivery)
        queue = self._queues[_resource(claimed.delivery)]
        one = next(one for one in queue if one.claimed.delivery.id == claimed.delivery.id)
        one.claimed = parked
        self.put_back(parked, _due(claimed.delivery))
        return _record(parked)

    def put_back(self, claimed: ClaimedDelivery, due: int) -> None:
        """Puts back a delivery that was taken and not attempted. `due`: its next time, in milliseconds since the
        epoch."""
        queue = self._queues.get(_resource(claimed.delivery))
        if queue and queue[0].claimed.delivery.id == claimed.delivery.id:
            queue[0].in_lane, queue[0].due = False, due
            self._schedule_head(queue)

    def release(self, claimed: ClaimedDelivery) -> NewRecord:
        """Removes a delivery that has ended; returns the empty record that releases it."""
        self._remove(claimed)
        return NewRecord(
            PARKED,
            b"",
            claimed.delivery.id.encode(),
            ((FORMAT, FORMAT_VERSION),),
            claimed.position.partition,
        )

    def take_due(self, now: int) -> list[ClaimedDelivery]:
        """Returns the heads that are due, and marks them as being in a lane. `now`: milliseconds since the epoch."""
        taken: list[ClaimedDelivery] = []
        while self._heads and self._heads[0][0] <= now:
            due, resource = heapq.heappop(self._heads)
            queue = self._queues.get(resource)
            if queue and not queue[0].in_lane and queue[0].due == due:
                queue[0].in_lane = True
                taken.append(queue[0].claimed)
        return taken

    def busy(self, now: int) -> bool:
        """True if a head is in a lane or due. `now`: milliseconds since the epoch."""
        heads = (queue[0] for queue in self._queues.values())
        return any(head.in_lane or head.due <= now for head in heads)

    def find_waiting(self, target: str) -> list[ClaimedDelivery]:
        """Returns all parked deliveries of a target that are not in a lane, each resource in its order."""
        queues = [queue for (owner, _), queue in self._queues.items() if owner == target]
        return [one.claimed for queue in queues for one in queue if not one.in_lane]

    def _add(self, claimed: ClaimedDelivery) -> None:
        """Inserts a delivery by its place among those of its resource: usually at the end."""
        delivery = claimed.delivery
        queue = self._queues.setdefault(_resource(delivery), deque())
        index = len(queue)
        while index and queue[index - 1].claimed.position.offset > claimed.position.offset:
            index -= 1
        queue.insert(index, _Parked(claimed, _due(delivery)))
        self._ids.add(delivery.id)
        self._count[delivery.target] += 1
        self._bytes[delivery.target] += len(delivery.event)
        if index == 0:
            self._schedule_head(queue)

    def _remove(self, claimed: ClaimedDelivery) -> None:
        delivery = claimed.delivery
        if delivery.id not in self._ids:
            return
        resource = _resource(delivery)
        queue = self._queues[resource]
        was_head = queue[0].claimed.delivery.id == delivery.id
        queue.remove(next(one for one in queue if one.claimed.delivery.id == delivery.id))
        self._ids.remove(delivery.id)
        self._count[delivery.target] -= 1
        self._bytes[delivery.target] -= len(delivery.event)
        if not queue:
            del self._queues[resource]
        elif was_head:
            self._schedule_head(queue)

    def _schedule_head(self, queue: deque[_Parked]) -> None:
        """Schedules the head of a queue, so that `take_due` returns it when it is due."""
        if not queue[0].in_lane:
            heapq.heappush(self._heads, (queue[0].due, _resource(queue[0].claimed.delivery)))

    def _read(self, partition: int) -> Iterable[ClaimedDelivery]:
        """Reads the last record of each key; leaves out empty records, which release their deliveries."""
        found: dict[bytes, ClaimedDelivery] = {}
        place = TopicPartition(PARKED, partition)
        for record in read_on(self._bus, place, 0, self._bus.extents(PARKED)[place].end):
            found.pop(record.key or b"", None)
            if record.value and (claimed := _read(record)) is not None:
                found[record.key or b""] = claimed
        return found.values()


def _record(claimed: ClaimedDelivery) -> NewRecord:
    record = delivery_record(claimed.delivery, PARKED)
    headers = (*record.headers, (_PLACE, b"%d" % claimed.position.offset), ("key", record.key or b""))
    return NewRecord(PARKED, record.value, claimed.delivery.id.encode(), headers, claimed.position.partition)


def _read(record: Record) -> ClaimedDelivery | None:
    try:
        delivery = read_delivery(record)
        headers = dict(record.headers)
        key, place = headers["key"], int(headers[_PLACE])
    except (KeyError, ValueError) as error:
        _log.error("parked delivery unreadable", position=str(record.position), problem=repr(error))
        return None
    return ClaimedDelivery(
        Position(PARKED, record.partition, place), msgspec.structs.replace(delivery, key=key)
    )


def _due(delivery: Delivery) -> int:
    return 0 if delivery.wait is None else delivery.wait.due


def _resource(delivery: Delivery) -> _Resource:
    return delivery.target, delivery.resource
