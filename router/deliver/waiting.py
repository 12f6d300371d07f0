"""What waits in a lane for its turn: in the order of arrival, or one delivery of a resource at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from schemas.delivery import Delivery
from schemas.record import Position


class Parcel(NamedTuple):
    """A delivery, and the record of `deliveries` or `parked` that is finished when it ends."""

    position: Position
    delivery: Delivery


class Waiting(Protocol):
    """Parcels in a lane that were not handed out, or whose resource must wait for one that was."""

    def put(self, parcel: Parcel) -> None:
        """Let it wait behind the others."""
        ...

    def put_back(self, parcels: Sequence[Parcel]) -> None:
        """Let those wait before the others that were handed out and not tried."""
        ...

    def pop(self) -> Parcel | None:
        """Hand out the next; None if there is none that may go now."""
        ...

    def ended(self, parcels: Iterable[Parcel]) -> None:
        """Parcels that were handed out have ended."""
        ...

    def clear(self) -> list[Parcel]:
        """Take away everything, each resource in its order."""
        ...

    def __len__(self) -> int: ...


class InOrder:
    """First come, first served."""

    def __init__(self) -> None:
        self._parcels: deque[Parcel] = deque()

    def put(self, parcel: Parcel) -> None:
        """Behind the others."""
        self._parcels.append(parcel)

    def put_back(self, parcels: Sequence[Parcel]) -> None:
        """Before the others, in their order."""
        self._parcels.extendleft(reversed(parcels))

    def pop(self) -> Parcel | None:
        """The one that has waited longest."""
        return self._parcels.popleft() if self._parcels else None

    def ended(self, parcels: Iterable[Parcel]) -> None:
        """Nothing waits for these."""

    def clear(self) -> list[Parcel]:
        """All of them."""
        parcels = list(self._parcels)
        self._parcels.clear()
        return parcels

    def __len__(self) -> int:
        return len(self._parcels)


class OneOfEach:
    """Of each resource one parcel at a time is handed out; those of others may pass."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Parcel]] = {}
        self._ready: deque[str] = deque()
        self._busy: dict[str, Parcel] = {}
        self._size = 0

    def put(self, parcel: Parcel) -> None:
        """Behind those of its resource."""
        resource = parcel.delivery.resource
        queue = self._queues.get(resource)
        if queue is None:
            queue = self._queues[resource] = deque()
            if resource not in self._busy:
                self._ready.append(resource)
        queue.append(parcel)
        self._size += 1

    def put_back(self, parcels: Sequence[Parcel]) -> None:
        """Before those of their resources, which are free again."""
        for parcel in parcels:
            resource = parcel.delivery.resource
            self._busy.pop(resource, None)
            if resource not in self._queues:
                self._queues[resource] = deque()
            self._ready.appendleft(resource)
            self._queues[resource].appendleft(parcel)
            self._size += 1

    def pop(self) -> Parcel | None:
        """The next of the resource that has been free longest."""
        if not self._ready:
            return None
        resource = self._ready.popleft()
        parcel = self._queues[resource].popleft()
        if not self._queues[resource]:
            del self._queues[resource]
        self._busy[resource] = parcel
        self._size -= 1
        return parcel

    def ended(self, parcels: Iterable[Parcel]) -> None:
        """Their resources are free again."""
        for parcel in parcels:
            resource = parcel.delivery.resource
            self._busy.pop(resource, None)
            if resource in self._queues:
                self._ready.append(resource)

    def under_way(self, resource: str) -> Parcel | None:
        """What is handed out of a resource."""
        return self._busy.get(resource)

    def of(self, resource: str) -> list[Parcel]:
        """Take away what waits of a resource."""
        parcels = list(self._queues.pop(resource, ()))
        self._size -= len(parcels)
        if parcels and resource not in self._busy:
            self._ready.remove(resource)
        return parcels

    def clear(self) -> list[Parcel]:
        """All of them, each resource in its order."""
        parcels = [parcel for queue in self._queues.values() for parcel in queue]
        self._queues.clear()
        self._ready.clear()
        self._size = 0
        return parcels

    def __len__(self) -> int:
        return self._size
