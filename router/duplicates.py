"""Duplicate events: records that repeat the bytes of a recent record in the same partition.

A record is a duplicate if the last record before it with the same bytes lies at most `REACH` offsets and at most the
window of time before it, by the timestamps of the records. This depends on the topic alone, so every router that reads
a record decides the same, and a record that is read again is not its own duplicate. If timestamps run backwards, a
duplicate may be routed. Records with other bytes are never taken for duplicates: hashes only find candidates, whose
bytes are compared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import cast

from heliograph.bus.base import Bus
from router.recent import Recent
from schemas.record import Position, Record, TopicPartition

WINDOW = 600.0
"""Default window in seconds."""
REACH = 100_000
"""Largest distance in offsets between a record and its duplicate. At most twice as many records of a partition are
remembered, with 120 bytes each; a router that gains the partition reads as many again."""
_PAGE = 5000
"""Number of offsets in one read of earlier records."""

_Seen = Recent[int, int]
"""Maps a hash to the offset of the last record that has it."""
_place = cast("Callable[[Record], tuple[str, int]]", attrgetter("topic", "partition"))


class Duplicates:
    """Finds duplicates in records that are read in order. `window`: seconds; 0 finds none.

    Keeps a hash of each record. Reads the window before the first record of a partition from the bus.
    """

    def __init__(self, bus: Bus, window: float) -> None:
        self.window = window
        self._bus = bus
        self._span = round(window * 1000)
        self._seen: dict[TopicPartition, _Seen] = {}

    def find_duplicates(self, records: Sequence[Record]) -> Mapping[Position, Position]:
        """Returns the duplicates in the next records, each with the record that it repeats. Raises BusUnavailable."""
        found: dict[Position, Position] = {}
        if self._span:
            for place, run in groupby(records, _place):
                found |= self._find_in_partition(TopicPartition(*place), list(run))
        return found

    def drop_partitions(self, partitions: Iterable[TopicPartition]) -> None:
        """Forgets partitions that were assigned or revoked: another router may have read records in between."""
        for partition in partitions:
            self._seen.pop(partition, None)

    def _find_in_partition(
        self, partition: TopicPartition, records: Sequence[Record]
    ) -> Mapping[Position, Position]:
        seen = self._seen.get(partition)
        if seen is None:
            seen = self._seen[partition] = self._read_window(records[0])
        repeats: defaultdict[int, list[Record]] = defaultdict(list)
        for place, offset in _put(seen, records):
            repeats[offset].append(records[place])
        return {
            record.position: before.position
            for before in _read_offsets(self._bus, partition, sorted(repeats))
            for record in repeats[before.offset]
            if _repeats(record, before, self._span)
        }

    def _read_window(self, record: Record) -> _Seen:
        """Reads the records of the window before this one; returns their hashes and offsets."""
        seen = _Seen(self._span, REACH)
        for page in _window(self._bus, record, self._span):
            _put(seen, page)
        return seen


def _put(seen: _Seen, records: Sequence[Record]) -> Sequence[tuple[int, int]]:
    hashes = [hash(record.value) for record in records]
    return seen.put_all(hashes, [record.offset for record in records], records[0].timestamp)


def find_original(bus: Bus, record: Record, window: float) -> Position | None:
    """Finds on the bus the record that `record` repeats; None if it is no duplicate. `window`: seconds."""
    span = round(window * 1000)
    if not span:
        return None
    before = [each for page in _window(bus, record, span) for each in page if each.value == record.value]
    return before[-1].position if before and _repeats(record, before[-1], span) else None


def _repeats(record: Record, before: Record, span: int) -> bool:
    return (
        record.value == before.value
        and record.timestamp - before.timestamp <= span
        and 0 < record.offset - before.offset <= REACH
    )


def _window(bus: Bus, record: Record, span: int) -> Iterator[Sequence[Record]]:
    """Yields the records that `record` may repeat, in order, by pages."""
    partition = TopicPartition(record.topic, record.partition)
    if record.offset == 0:
        return
    offset = max(bus.offset_at(partition, record.timestamp - span), record.offset - REACH)
    while offset < record.offset:
        page = [each for each in bus.read(partition, offset).records if each.offset < record.offset]
        if not page:
            return
        yield page
        offset = page[-1].offset + 1


def _read_offsets(bus: Bus, partition: TopicPartition, offsets: Sequence[int]) -> Iterator[Record]:
    """Yields the records at ascending `offsets`; each read is as narrow as its page allows."""
    place = 0
    while place < len(offsets):
        first = offsets[place]
        last = offsets[bisect_left(offsets, first + _PAGE) - 1]
        found = bus.read(partition, first, last - first + 1).records
        wanted = set(offsets[place:])
        yield from (record for record in found if record.offset in wanted)
        place = bisect_right(offsets, found[-1].offset if found else last)
