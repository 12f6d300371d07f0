"""Deliveries of ordered targets that must wait, and those that must wait for them: the topic `parked`, in memory.

A record of `parked` lies in the partition of the same number as its delivery's in `deliveries`, so that one member of
the group owns both. Its key is the delivery's id, the last record of a key counts, and an empty one releases it. The
header `place` is the delivery's first offset in `deliveries`: the order.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator

import msgspec
import structlog

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from router.deliver.waiting import Parcel
from schemas.delivery import Delivery, delivery_record, read_delivery
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Position, Record, TopicPartition
from schemas.topics import DELIVERIES, PARKED

PARKED_LIMIT = 10_000
"""Deliveries of one target that may be parked in one process; further ones become dead letters."""
PARKED_BYTES = 64 * 1024 * 1024

_PLACE = "place"
_Resource = tuple[str, str]
_log = structlog.get_logger()


class _Parked(msgspec.Struct, gc=False):
    parcel: Parcel
    due: int
    under_way: bool = False


class Parking:
    """What is parked of the partitions that are ours, by target and resource, each in its order. Belongs to one thread.

    Only the head of a resource is tried; while it is under way it stays here, so that what follows waits for it.
    """

    def __init__(self, bus: Bus) -> None:
        bus.create(PARKED, bus.topics()[DELIVERIES])
        self._bus = bus
        self._owned: set[int] = set()
        self._queues: dict[_Resource, deque[_Parked]] = {}
        self._ids: set[str] = set()
        self._number: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._heads: list[tuple[int, _Resource]] = []

    def gained(self, partitions: Collection[int]) -> None:
        """Read what is parked of these. Raises BusError."""
        self._owned.update(partitions)
        for partition in partitions:
            for parcel in sorted(self._read(partition), key=lambda one: one.position.offset):
                self._add(parcel)

    def lost(self, partitions: Collection[int]) -> None:
        """Forget them: somebody else reads them now."""
        self._owned.difference_update(partitions)
        for parcel in [one.parcel for queue in self._queues.values() for one in queue]:
            if parcel.position.partition in partitions:
                self._remove(parcel)

    def owns(self, parcel: Parcel) -> bool:
        """Whether its partition is ours, so that we may say where it waits."""
        return parcel.position.partition in self._owned

    def holds(self, delivery: Delivery) -> bool:
        """Whether anything of its target and resource is parked."""
        return _resource(delivery) in self._queues

    def knows(self, delivery: Delivery) -> bool:
        """Whether it is parked itself: it came again after a crash."""
        return delivery.id in self._ids

    def has_room(self, delivery: Delivery) -> bool:
        """Whether one more of its target may be parked."""
        target = delivery.target
        return self._number[target] < PARKED_LIMIT and self._bytes[target] < PARKED_BYTES

    def park(self, parcel: Parcel) -> NewRecord:
        """Keep a delivery of `deliveries` until its wait is over and those before it have ended; returns its record."""
        _, partition, place = parcel.position
        parked = Parcel(Position(PARKED, partition, place), parcel.delivery)
        self._add(parked)
        return _record(parked)

    def park_under_way(self, parcel: Parcel) -> NewRecord:
        """Keep the place of a delivery that is under way, of whose resource nothing is parked: who takes over finds it
        before what is parked behind it. Returns its record."""
        record = self.park(parcel)
        self._queues[_resource(parcel.delivery)][0].under_way = True
        return record

    def again(self, parcel: Parcel) -> NewRecord:
        """Keep a parked delivery that was tried once more, with its new wait; returns its record."""
        _, partition, place = parcel.position
        parked = Parcel(Position(PARKED, partition, place), parcel.delivery)
        queue = self._queues[_resource(parcel.delivery)]
        one = next(one for one in queue if one.parcel.delivery.id == parcel.delivery.id)
        one.parcel = parked
        self.back(parked, _due(parcel.delivery))
        return _record(parked)

    def back(self, parcel: Parcel, due: int) -> None:
        """It was not tried; have it come again at `due`, milliseconds since the epoch."""
        queue = self._queues.get(_resource(parcel.delivery))
        if queue and queue[0].parcel.delivery.id == parcel.delivery.id:
            queue[0].under_way, queue[0].due = False, due
            self._show(queue)

    def ended(self, parcel: Parcel) -> NewRecord:
        """Release a delivery that has ended; returns the record that does."""
        self._remove(parcel)
        return NewRecord(
            PARKED,
            b"",
            parcel.delivery.id.encode(),
            ((FORMAT, FORMAT_VERSION),),
            parcel.position.partition,
        )

    def due(self, now: int) -> Iterator[Parcel]:
        """Heads whose time has come, which are then under way. `now`: milliseconds since the epoch."""
        while self._heads and self._heads[0][0] <= now:
            due, resource = heapq.heappop(self._heads)
            queue = self._queues.get(resource)
            if queue and not queue[0].under_way and queue[0].due == due:
                queue[0].under_way = True
                yield queue[0].parcel

    def busy(self, now: int) -> bool:
        """Whether a head is under way, or its time has come."""
        heads = (queue[0] for queue in self._queues.values())
        return any(head.under_way or head.due <= now for head in heads)

    def of(self, target: str) -> list[Parcel]:
        """Everything parked for a target that is not under way, each resource in its order."""
        queues = [queue for (owner, _), queue in self._queues.items() if owner == target]
        return [one.parcel for queue in queues for one in queue if not one.under_way]

    def targets(self) -> Collection[str]:
        """The targets that have something here."""
        return {target for target, _ in self._queues}

    def _add(self, parcel: Parcel) -> None:
        """In its place among those of its resource: usually the last."""
        delivery = parcel.delivery
        queue = self._queues.setdefault(_resource(delivery), deque())
        index = len(queue)
        while index and queue[index - 1].parcel.position.offset > parcel.position.offset:
            index -= 1
        queue.insert(index, _Parked(parcel, _due(delivery)))
        self._ids.add(delivery.id)
        self._number[delivery.target] += 1
        self._bytes[delivery.target] += len(delivery.event)
        if index == 0:
            self._show(queue)

    def _remove(self, parcel: Parcel) -> None:
        delivery = parcel.delivery
        if delivery.id not in self._ids:
            return
        resource = _resource(delivery)
        queue = self._queues[resource]
        was_head = queue[0].parcel.delivery.id == delivery.id
        queue.remove(next(one for one in queue if one.parcel.delivery.id == delivery.id))
        self._ids.remove(delivery.id)
        self._number[delivery.target] -= 1
        self._bytes[delivery.target] -= len(delivery.event)
        if not queue:
            del self._queues[resource]
        elif was_head:
            self._show(queue)

    def _show(self, queue: deque[_Parked]) -> None:
        """Have `due` see a new head."""
        if not queue[0].under_way:
            heapq.heappush(self._heads, (queue[0].due, _resource(queue[0].parcel.delivery)))

    def _read(self, partition: int) -> Iterable[Parcel]:
        """The last record of each key that is not empty."""
        found: dict[bytes, Parcel] = {}
        place = TopicPartition(PARKED, partition)
        for record in read_on(self._bus, place, 0, self._bus.extents(PARKED)[place].end):
            found.pop(record.key or b"", None)
            if record.value and (parcel := _read(record)) is not None:
                found[record.key or b""] = parcel
        return found.values()


def _record(parcel: Parcel) -> NewRecord:
    record = delivery_record(parcel.delivery, PARKED)
    headers = (*record.headers, (_PLACE, b"%d" % parcel.position.offset), ("key", record.key or b""))
    return NewRecord(PARKED, record.value, parcel.delivery.id.encode(), headers, parcel.position.partition)


def _read(record: Record) -> Parcel | None:
    try:
        delivery = read_delivery(record)
        headers = dict(record.headers)
        key, place = headers["key"], int(headers[_PLACE])
    except (KeyError, ValueError) as error:
        _log.error("parked delivery unreadable", position=str(record.position), problem=repr(error))
        return None
    return Parcel(Position(PARKED, record.partition, place), msgspec.structs.replace(delivery, key=key))


def _due(delivery: Delivery) -> int:
    return 0 if delivery.wait is None else delivery.wait.due


def _resource(delivery: Delivery) -> _Resource:
    return delivery.target, delivery.resource
