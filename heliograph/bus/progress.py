"""Progress of one group on one partition, and its form in a commit.

The committed cursor is the lowest offset that was handed out and is not finished, or the next one to fetch if there is
none. A note in the commit says which offsets beyond the cursor are finished. The lowest offset is taken from the offsets
that were handed out, never by counting, because a partition may have holes (transactions, compaction).
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Self

from schemas.record import Position, Record, TopicPartition

NOTE_LIMIT = 4096
"""Bytes of the longest note: the most that Apache Kafka stores with a commit (`offset.metadata.max.bytes`)."""

_NOTE = re.compile(r"\d{1,19}\+\d{1,19}(?:,\d{1,19}\+\d{1,19})*", re.ASCII)

_Range = tuple[int, int]
"""Offsets `[start, end)`."""


class Progress:
    """The records of one partition that one group has handed out and finished. No clock, no I/O, one thread at a time.

    Finishing whole batches in order costs about 0.1 µs a record; the cost of a note grows with the unfinished records.
    """

    __slots__ = ("_finished", "_open", "_position")

    def __init__(self, cursor: int) -> None:
        self._position = cursor
        # Offsets handed out and not finished. A dict keeps the order in which they were handed out, the order of offsets.
        self._open: dict[int, None] = {}
        # Ranges finished before a restart and not reached again yet: ascending, all of them beyond the position.
        self._finished: deque[_Range] = deque()

    @classmethod
    def from_note(cls, cursor: int, note: str) -> Self:
        """Continues from a commit. A note of another form counts as empty, so that work is repeated and none is skipped."""
        progress = cls(cursor)
        progress._finished.extend(_parse(cursor, note))
        progress._settle()
        return progress

    @property
    def position(self) -> int:
        """The offset to fetch next; nothing below it needs to be handed out again."""
        return self._position

    @property
    def cursor(self) -> int:
        """The offset to commit: the lowest one handed out and not finished, else the position."""
        return next(iter(self._open), self._position)

    @property
    def unfinished(self) -> int:
        """Number of records handed out and not finished."""
        return len(self._open)

    def take(self, records: Sequence[Record]) -> Sequence[Record]:
        """Takes fetched records, ascending and none below `position`, and moves the position behind the last.

        Returns the records to hand out: all but those finished before a restart.
        """
        if not records:
            return records
        last = records[-1].offset
        if self._finished and self._finished[0][0] <= last:
            records = list(self._fresh(records))
        self._open.update(dict.fromkeys([record.offset for record in records]))
        self._position = last + 1
        self._settle()
        return records

    def finish(self, offsets: Iterable[int]) -> Sequence[int]:
        """Finishes records, in any order. Offsets that are not handed out now are ignored.

        Returns the others, for `reopen` if the commit fails.
        """
        forget = self._open.pop
        return [offset for offset in offsets if forget(offset, 0) is None]

    def reopen(self, offsets: Sequence[int]) -> None:
        """Undoes a `finish` whose commit failed: these offsets are handed out and unfinished again."""
        self._open = dict.fromkeys(sorted([*self._open, *offsets]))

    def skip_to(self, offset: int) -> None:
        """Moves the position to `offset`, since the records below were removed. What is handed out stays handed out."""
        self._position = max(self._position, offset)
        self._settle()

    def seek(self, offset: int) -> None:
        """Moves the position forwards or backwards, and forgets the records handed out and the ranges of the note."""
        self._open.clear()
        self._finished.clear()
        self._position = offset

    def note(self, limit: int = NOTE_LIMIT) -> str:
        """Writes the finished ranges beyond the cursor as lengths `unfinished+finished,…`.

        `3+10,7+5`: from the cursor on 3 offsets are unfinished, 10 finished, 7 unfinished, 5 finished, all others
        unfinished. At most `limit` bytes of ASCII. If more ranges exist than fit, the note keeps those nearest to the
        cursor, and the others are repeated after a restart.
        """
        parts: list[str] = []
        room, at = limit + 1, self.cursor
        for start, end in self._ranges():
            part = f"{start - at}+{end - start}"
            room -= len(part) + 1
            if room < 0:
                break
            parts.append(part)
            at = end
        return ",".join(parts)

    def _ranges(self) -> Iterator[_Range]:
        """Yields the finished ranges beyond the cursor. Holes count as finished, since they never get a record."""
        for below, above in pairwise([*self._open, self._position]):
            if above - below > 1:
                yield below + 1, above
        yield from self._finished

    def _fresh(self, records: Iterable[Record]) -> Iterator[Record]:
        ranges = iter(self._finished)
        start, end = next(ranges)
        for record in records:
            while end <= record.offset:
                start, end = next(ranges, _NEVER)
            if record.offset < start:
                yield record

    def _settle(self) -> None:
        while self._finished and self._finished[0][0] <= self._position:
            self._position = max(self._position, self._finished.popleft()[1])


_NEVER: _Range = (1 << 64, 1 << 64)


def by_partition(positions: Iterable[Position]) -> Mapping[TopicPartition, list[int]]:
    """Groups positions: the offsets of each partition, in the order given."""
    offsets: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for topic, partition, offset in positions:
        offsets[topic, partition].append(offset)
    return {TopicPartition(*key): value for key, value in offsets.items()}


def _parse(cursor: int, note: str) -> Iterator[_Range]:
    if not _NOTE.fullmatch(note):
        return
    at = cursor
    for part in note.split(","):
        skipped, _, length = part.partition("+")
        start = at + int(skipped)
        at = start + int(length)
        yield start, at
