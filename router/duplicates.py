"""Events that a producer repeated: the same bytes as a record shortly before, in the same partition.

A record is a duplicate if the last record before it with the same bytes lies at most `REACH` offsets and at most the
window of time before it, by the log's time. That is a function of the log alone, so whoever reads a record again decides
the same, and a record is never its own duplicate. Where a log's times run backwards, a duplicate may be routed again;
nothing is ever taken for a duplicate that is none, because the bytes themselves are compared.
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
"""Seconds, where nothing else is said."""
REACH = 100_000
"""Records of a partition that a duplicate may lie behind the first. What is remembered of a partition is at most twice
as many, of 120 bytes each; who gains the partition reads as many again."""
_PAGE = 5000
"""Offsets that are read at once to be compared."""

_Seen = Recent[int, int]
"""The offset of the last record with a hash."""
_place = cast("Callable[[Record], tuple[str, int]]", attrgetter("topic", "partition"))


class Duplicates:
    """Recognises duplicates among records that are read in order. `window`: seconds; 0 recognises none.

    Of each record only a hash is kept. The window before a partition's first record is read from the log.
    """

    def __init__(self, bus: Bus, window: float) -> None:
        self.window = window
        self._bus = bus
        self._span = round(window * 1000)
        self._seen: dict[TopicPartition, _Seen] = {}

    def among(self, records: Sequence[Record]) -> Mapping[Position, Position]:
        """Of the next records, those that repeat one before them, and which. Raises BusUnavailable."""
        found: dict[Position, Position] = {}
        if self._span:
            for place, run in groupby(records, _place):
                found |= self._repeats_in(TopicPartition(*place), list(run))
        return found

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """What is known of partitions that come or go: others may have read what lies between."""
        for partition in partitions:
            self._seen.pop(partition, None)

    def _repeats_in(
        self, partition: TopicPartition, records: Sequence[Record]
    ) -> Mapping[Position, Position]:
        seen = self._seen.get(partition)
        if seen is None:
            seen = self._seen[partition] = self._before(records[0])
        repeats: defaultdict[int, list[Record]] = defaultdict(list)
        for place, offset in _put(seen, records):
            repeats[offset].append(records[place])
        return {
            record.position: before.position
            for before in _at(self._bus, partition, sorted(repeats))
            for record in repeats[before.offset]
            if _repeats(record, before, self._span)
        }

    def _before(self, record: Record) -> _Seen:
        """What reading the records before this one would have left."""
        seen = _Seen(self._span, REACH)
        for page in _window(self._bus, record, self._span):
            _put(seen, page)
        return seen


def _put(seen: _Seen, records: Sequence[Record]) -> Sequence[tuple[int, int]]:
    hashes = [hash(record.value) for record in records]
    return seen.put_all(hashes, [record.offset for record in records], records[0].timestamp)


def duplicate_of(bus: Bus, record: Record, window: float) -> Position | None:
    """The record that `record` repeats, read from the log anew; None if it repeats none. `window`: seconds."""
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
    """The records that `record` may repeat, in order, by pages."""
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


def _at(bus: Bus, partition: TopicPartition, offsets: Sequence[int]) -> Iterator[Record]:
    """The records at `offsets`, which ascend; as few reads as pages that hold one, and none wider than it must be."""
    place = 0
    while place < len(offsets):
        first = offsets[place]
        last = offsets[bisect_left(offsets, first + _PAGE) - 1]
        found = bus.read(partition, first, last - first + 1).records
        wanted = set(offsets[place:])
        yield from (record for record in found if record.offset in wanted)
        place = bisect_right(offsets, found[-1].offset if found else last)
