"""Events that a producer repeated: the same bytes as a record shortly before, in the same partition.

A record is a duplicate if the last record before it with the same bytes lies at most `REACH` offsets and at most the
window of time before it, by the log's time. That is a function of the log alone, so whoever reads a record again decides
the same, and a record is never its own duplicate. Where a log's times run backwards, a duplicate may be routed again;
nothing is ever taken for a duplicate that is none, because the bytes themselves are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from heliograph.bus.base import Bus
from router.recent import Recent
from schemas.record import Position, Record, TopicPartition

WINDOW = 600.0
"""Seconds, where nothing else is said."""
REACH = 100_000
"""Records of a partition that a duplicate may lie behind the first. What is remembered of a partition is at most twice
as many, of 120 bytes each; who gains the partition reads as many again."""
_PAGE = 200
"""Records that are read at once to be compared: who repeats one event mostly repeats those after it."""


class Duplicates:
    """Recognises duplicates among records that are read in order. `window`: seconds; 0 recognises none.

    Of each record only a hash is kept. The window before a partition's first record is read from the log.
    """

    def __init__(self, bus: Bus, window: float) -> None:
        self.window = window
        self._bus = bus
        self._span = round(window * 1000)
        self._seen: dict[tuple[str, int], Recent[int, int]] = {}
        self._page: dict[Position, Record] = {}

    def earlier(self, record: Record) -> Position | None:
        """The record that this one repeats; None if it repeats none. Raises BusUnavailable."""
        if not self._span:
            return None
        partition = (record.topic, record.partition)
        seen = self._seen.get(partition)
        if seen is None:
            seen = self._seen[partition] = self._rebuilt(record)
        offset = seen.put(hash(record.value), record.offset, record.timestamp)
        return None if offset is None else self._compared(record, offset)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """What is known of partitions that come or go: others may have read what lies between."""
        for partition in partitions:
            self._seen.pop(partition, None)

    def _rebuilt(self, record: Record) -> Recent[int, int]:
        """What reading the records before this one would have left."""
        seen = Recent[int, int](self._span, REACH)
        for before in _window(self._bus, record, self._span):
            seen.put(hash(before.value), before.offset, before.timestamp)
        return seen

    def _compared(self, record: Record, offset: int) -> Position | None:
        """The position of `offset`, if the record there is the same indeed."""
        position = Position(record.topic, record.partition, offset)
        if position not in self._page:
            page = self._bus.read(position.topic_partition, offset, _PAGE).records
            self._page = {each.position: each for each in page}
        before = self._page.get(position)
        return position if before is not None and _repeats(record, before, self._span) else None


def duplicate_of(bus: Bus, record: Record, window: float) -> Position | None:
    """The record that `record` repeats, read from the log anew; None if it repeats none. `window`: seconds."""
    span = round(window * 1000)
    if not span:
        return None
    before = [each for each in _window(bus, record, span) if each.value == record.value]
    return before[-1].position if before and _repeats(record, before[-1], span) else None


def _repeats(record: Record, before: Record, span: int) -> bool:
    return (
        record.value == before.value
        and record.timestamp - before.timestamp <= span
        and 0 < record.offset - before.offset <= REACH
    )


def _window(bus: Bus, record: Record, span: int) -> Iterator[Record]:
    """The records that `record` may repeat, in order."""
    partition = TopicPartition(record.topic, record.partition)
    offset = max(bus.offset_at(partition, record.timestamp - span), record.offset - REACH)
    while offset < record.offset:
        found: Sequence[Record] = bus.read(partition, offset).records
        if not found:
            return
        for each in found:
            if each.offset >= record.offset:
                return
            yield each
        offset = found[-1].offset + 1
