"""Queues of the deliveries that wait in a lane: in the order of arrival, or one delivery of a resource at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from schemas.delivery import Delivery
from schemas.record import Position


class ClaimedDelivery(NamedTuple):
    """A delivery, and the position of its record in `deliveries` or `parked`, which is committed when it ends."""

    position: Position
    delivery: Delivery


class LaneQueue(Protocol):
    """The deliveries of a lane that are not in flight."""

    def put(self, claimed: ClaimedDelivery) -> None:
        """Adds a delivery at the end."""
        ...

    def put_back(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Returns deliveries that were popped and not attempted to the front, in their order."""
        ...

    def pop(self) -> ClaimedDelivery | None:
        """Removes and returns the next delivery that may be sent, or None."""
        ...

    def complete(self, batch: Iterable[ClaimedDelivery]) -> None:
        """Notes that the attempts of popped deliveries have ended."""
        ...

    def take_all(self) -> list[ClaimedDelivery]:
        """Removes everything; the deliveries of each resource stay in their order."""
        ...

    def __len__(self) -> int: ...


class FifoQueue:
    """The queue of a target without order: first in, first out."""

    def __init__(self) -> None:
        self._waiting: deque[ClaimedDelivery] = deque()

    def put(self, claimed: ClaimedDelivery) -> None:
        """Adds a delivery at the end."""
        self._waiting.append(claimed)

    def put_back(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Returns deliveries to the front, in their order."""
        self._waiting.extendleft(reversed(batch))

    def pop(self) -> ClaimedDelivery | None:
        """Removes the delivery that has waited longest."""
        return self._waiting.popleft() if self._waiting else None

    def complete(self, batch: Iterable[ClaimedDelivery]) -> None:
        """Does nothing: no delivery waits for another."""

    def take_all(self) -> list[ClaimedDelivery]:
        """Removes everything."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def __len__(self) -> int:
        return len(self._waiting)


class OrderedQueue:
    """The queue of an ordered target: at most one delivery of each resource is in flight, the others wait for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[ClaimedDelivery]] = {}
        self._ready: deque[str] = deque()
        self._in_flight: dict[str, ClaimedDelivery] = {}
        self._size = 0

    def put(self, claimed: ClaimedDelivery) -> None:
        """Adds a delivery after the others of its resource."""
        resource = claimed.delivery.resource
        queue = self._waiting.get(resource)
        if queue is None:
            queue = self._waiting[resource] = deque()
            if resource not in self._in_flight:
                self._ready.append(resource)
        queue.append(claimed)
        self._size += 1

    def put_back(self, batch: Sequence[ClaimedDelivery]) -> None:
        """Returns each delivery to the front of its resource's queue, and makes the resource ready."""
        for claimed in batch:
            resource = claimed.delivery.resource
            self._in_flight.pop(resource, None)
            if resource not in self._waiting:
                self._waiting[resource] = deque()
            self._ready.appendleft(resource)
            self._waiting[resource].appendleft(claimed)
            self._size += 1

    def pop(self) -> ClaimedDelivery | None:
        """Removes the next delivery of the resource that has been ready longest."""
        if not self._ready:
            return None
        resource = self._ready.popleft()
        claimed = self._waiting[resource].popleft()
        if not self._waiting[resource]:
            del self._waiting[resource]
        self._in_flight[resource] = claimed
        self._size -= 1
        return claimed

    def complete(self, batch: Iterable[ClaimedDelivery]) -> None:
        """Makes the resources of these deliveries ready."""
        for claimed in batch:
            resource = claimed.delivery.resource
            self._in_flight.pop(resource, None)
            if resource in self._waiting:
                self._ready.append(resource)

    def find_in_flight(self, resource: str) -> ClaimedDelivery | None:
        """Returns the delivery of a resource that is in flight."""
        return self._in_flight.get(resource)

    def take_resource(self, resource: str) -> list[ClaimedDelivery]:
        """Removes and returns all waiting deliveries of a resource."""
        taken = list(self._waiting.pop(resource, ()))
        self._size -= len(taken)
        if taken and resource not in self._in_flight:
            self._ready.remove(resource)
        return taken

    def take_all(self) -> list[ClaimedDelivery]:
        """Removes everything; the deliveries of each resource stay in their order."""
        taken = [claimed for queue in self._waiting.values() for claimed in queue]
        self._waiting.clear()
        self._ready.clear()
        self._size = 0
        return taken

    def __len__(self) -> int:
        return self._size
