"""Topics read from bus and archive together: records that retention removed from the bus come from the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from archiver.read.reader import SegmentInfo, list_segments, records_between
from heliograph.app.deployment import Deployment
from heliograph.bus.base import Bus
from heliograph.bus.reading import read_topic
from heliograph.store.base import ObjectStore
from schemas.errors import StoreError
from schemas.record import Position, Record, TopicPartition

_SEGMENTS = 16
"""Number of archived segments held in memory while single records are fetched."""


class History:
    """A bus and its archive, read as one.

    `archive` opens the archive when it is first needed; None reads the bus alone. If the archive cannot be read, the
    records of the bus are returned without it, and `problem` has the error.
    """

    def __init__(self, bus: Bus, archive: Callable[[], ObjectStore] | None = None) -> None:
        self.bus = bus
        self.problem = ""
        self._archive = archive
        self._loaded = lru_cache(_SEGMENTS)(_by_offset)

    def read(self, topic: str, since: int = 0) -> Iterator[tuple[SegmentInfo | None, Record]]:
        """Yields the records of a topic, each with its segment, or None if the bus has it.

        `since`: milliseconds since the epoch. Sets `problem` if the archive cannot be read.
        """
        yield from self.archived(topic, since)
        for record in read_topic(self.bus, topic, since):
            yield None, record

    def archived(self, topic: str, since: int = 0) -> Iterator[tuple[SegmentInfo, Record]]:
        """Yields the records that only the archive has, each with its segment.

        `since`: milliseconds since the epoch. Sets `problem` if the archive cannot be read.
        """
        if self._archive is None:
            return
        try:
            yield from archived_only(self.bus, self._archive(), topic, since)
        except StoreError as error:
            self.problem = str(error)

    def find(self, position: Position) -> Record | None:
        """Finds the record at a position, on the bus or in the archive; None if neither has it. Raises BusError."""
        for record in self.bus.read(position.topic_partition, position.offset, 1).records:
            if record.offset == position.offset:
                return record
        return self.find_archived(position)

    def find_archived(self, position: Position) -> Record | None:
        """Finds the archived record at a position of this bus; None if there is none."""
        if self._archive is None:
            return None
        try:
            segments = list(list_segments(self._archive(), position.topic))
            for info in reversed(segments):
                before = info.partition == position.partition and info.expected_offset <= position.offset
                if before and info.read_header().log_id == self.bus.log_id:
                    return self.fetch(info, position.offset)
        except StoreError as error:
            self.problem = str(error)
        return None

    def fetch(self, segment: SegmentInfo, offset: int) -> Record | None:
        """Reads one record of a segment; None if the segment has been removed."""
        try:
            return self._loaded(segment).get(offset)
        except StoreError as error:
            self.problem = str(error)
            return None


def open_history(deployment: Deployment) -> History:
    """Builds the history of a deployment; its archive is opened when first needed."""
    return History(deployment.bus, lambda: deployment.archive)


def archived_only(
    bus: Bus, archive: ObjectStore, topic: str, since: int = 0
) -> Iterator[tuple[SegmentInfo, Record]]:
    """Yields the records that only the archive has, each with its segment.

    `since`: milliseconds since the epoch. Raises BusError, StoreError.
    """
    for info, start in _removed(bus, archive, topic):
        for record in records_between(info, since or None):
            if start is None or record.offset < start:
                yield info, record


def _removed(bus: Bus, archive: ObjectStore, topic: str) -> Iterator[tuple[SegmentInfo, int | None]]:
    """Lists the segments with records that the bus does not have, each with the bus's first offset.

    The offset is None for a segment of another log id, or of an earlier epoch.
    """
    extents = bus.extents(topic)
    segments = list(list_segments(archive, topic))
    tails = {info.partition: info for info in segments}
    held = {
        number: extents[TopicPartition(topic, number)].start
        for number, tail in tails.items()
        if TopicPartition(topic, number) in extents and tail.read_header().goes_on_in(bus.log_id)
    }
    for info in segments:
        is_held = info.epoch == tails[info.partition].epoch
        start = held.get(info.partition) if is_held else None
        if start is None or info.expected_offset < start:
            yield info, start


def _by_offset(segment: SegmentInfo) -> dict[int, Record]:
    return {record.offset: record for record in records_between(segment, None)}
