"""Holds of a consumer on its partitions."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from schemas.clock import Clock
from schemas.record import TopicPartition


class Holds:
    """The partitions that hand out nothing for now, each with the end of its hold.

    A hold stays when its partition is lost and comes back.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[TopicPartition, float] = {}

    def hold(self, partition: TopicPartition, until: float | None) -> None:
        """Holds a partition until `until` (seconds of the clock's `monotonic`); None ends the hold."""
        if until is None:
            self._until.pop(partition, None)
        else:
            self._until[partition] = until

    def active(self) -> AbstractSet[TopicPartition]:
        """Returns the partitions that are held now."""
        now = self._clock.monotonic()
        return {partition for partition, until in self._until.items() if until > now}

    def remaining(self) -> Iterator[float]:
        """Yields for each partition that is held now the seconds until its hold ends."""
        now = self._clock.monotonic()
        return (until - now for until in self._until.values() if until > now)
