"""Topics as log and archive hold them together: what the log does not have any more is read from the archive."""

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
"""Archived segments that are kept in memory while single records are fetched."""


class History:
    """Log and archive, read as one. An archive that cannot be read stops nobody: `problem` then says why."""

    def __init__(self, bus: Bus, archive: Callable[[], ObjectStore]) -> None:
        self.bus = bus
        self.problem = ""
        self._archive = archive
        self._loaded = lru_cache(_SEGMENTS)(_by_offset)

    def read(self, topic: str, since: int = 0) -> Iterator[tuple[SegmentInfo | None, Record]]:
        """Records that are not older than `since` (milliseconds), archived ones with their segment."""
        yield from self.archived(topic, since)
        for record in read_topic(self.bus, topic, since):
            yield None, record

    def archived(self, topic: str, since: int = 0) -> Iterator[tuple[SegmentInfo, Record]]:
        """Of these, the ones that the log does not hold."""
        try:
            yield from archived_only(self.bus, self._archive(), topic, since)
        except StoreError as error:
            self.problem = str(error)

    def at(self, position: Position) -> Record | None:
        """The archived record at a position of this log; None if there is none."""
        try:
            segments = list(list_segments(self._archive(), position.topic))
            for info in reversed(segments):
                before = info.partition == position.partition and info.expected_offset <= position.offset
                if before and info.header.log_id == self.bus.log_id:
                    return self.fetch(info, position.offset)
        except StoreError as error:
            self.problem = str(error)
        return None

    def fetch(self, segment: SegmentInfo, offset: int) -> Record | None:
        """One record of a segment; None if it is not there any more."""
        try:
            return self._loaded(segment).get(offset)
        except StoreError as error:
            self.problem = str(error)
            return None


def history_of(deployment: Deployment) -> History:
    """Builds the history of a deployment; opens its archive when first needed."""
    return History(deployment.bus, lambda: deployment.archive)


def archived_only(
    bus: Bus, archive: ObjectStore, topic: str, since: int = 0
) -> Iterator[tuple[SegmentInfo, Record]]:
    """Archived records that the log does not hold, not older than `since` (milliseconds). Raises BusError, StoreError."""
    for info, start in _removed(bus, archive, topic):
        for record in records_between(info, since or None):
            if start is None or record.offset < start:
                yield info, record


def _removed(bus: Bus, archive: ObjectStore, topic: str) -> Iterator[tuple[SegmentInfo, int | None]]:
    """Segments of which the log lacks something: of another log, or before its first record, whose offset comes with
    them."""
    extents = bus.extents(topic)
    segments = list(list_segments(archive, topic))
    tails = {info.partition: info for info in segments}
    held = {
        number: extents[TopicPartition(topic, number)].start
        for number, tail in tails.items()
        if TopicPartition(topic, number) in extents and tail.header.goes_on_in(bus.log_id)
    }
    for info in segments:
        is_held = info.epoch == tails[info.partition].epoch
        start = held.get(info.partition) if is_held else None
        if start is None or info.expected_offset < start:
            yield info, start


def _by_offset(segment: SegmentInfo) -> dict[int, Record]:
    return {record.offset: record for record in records_between(segment, None)}
