"""What a partition has waiting for its next segment. Pure: no clock, no I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, takewhile
from operator import attrgetter

from archiver.format.segment import Draft, Span
from archiver.write.chain import Tail
from archiver.write.policy import SEGMENT_LIMIT, ArchivePolicy, Waiting
from schemas.record import Headers, Record

RECORD_OVERHEAD = 32
"""Bytes that a record counts for beside its key, headers and value."""


class Buffer:
    """Records and gaps behind a chain's tail, without holes that nobody accounts for.

    `stored` and `rebase` move it behind a new tail; `offer` takes what the log hands out.
    """

    def __init__(self, tail: Tail, *, holes_legal: bool = False) -> None:
        self.tail = tail
        self.next_offset = tail.expected_offset
        self.size = 0
        self._holes_legal = holes_legal
        self._records: list[Record] = []
        self._sizes: list[int] = []
        self._gaps: list[Span] = []
        self._since = self._latest = 0.0

    @property
    def waiting(self) -> Waiting | None:
        """What waits, and since when; None if nothing does."""
        if self.next_offset == self.tail.expected_offset:
            return None
        return Waiting(len(self._records), self.size, self._since, self._latest)

    def skip(self, end: int, now: float) -> Span | None:
        """Offsets up to `end` are not in the log any more. Returns the gap that this leaves, if any."""
        if end <= self.next_offset:
            return None
        self._touch(now)
        gap = (self.next_offset, end)
        self._gaps.append(gap)
        self.next_offset = end
        return gap

    def offer(self, records: Iterable[Record], now: float) -> tuple[list[Record], list[Span]]:
        """Take records in order of offset. Returns those that are archived already, and the gaps that were found."""
        archived: list[Record] = []
        gaps: list[Span] = []
        self._touch(now)
        for record in records:
            offset = record.offset
            if offset < self.next_offset:
                archived.append(record)
                continue
            if offset > self.next_offset and not self._holes_legal:
                gaps += [gap for gap in (self.skip(offset, now),) if gap]
            size = size_of(record)
            self._records.append(record)
            self._sizes.append(size)
            self.size += size
            self.next_offset = offset + 1
        return archived, gaps

    def draft(self, policy: ArchivePolicy) -> Draft:
        """The next segment: all that waits, or as much as `policy` allows, one record at least."""
        count = self._fitting(policy.max_records, min(policy.max_bytes, SEGMENT_LIMIT))
        records = self._records[:count]
        end = self.next_offset if count == len(self._records) else records[-1].offset + 1
        gaps = tuple(gap for gap in self._gaps if gap[1] <= end)
        return Draft(records, end, gaps, holes_legal=self._holes_legal)

    def rebase(self, tail: Tail) -> Sequence[Record]:
        """Stand behind a later tail of the same chain. Returns the records that it covers."""
        at = bisect_left(self._records, tail.expected_offset, key=_offset)
        covered = self._records[:at]
        self.size -= sum(self._sizes[:at])
        del self._records[:at], self._sizes[:at]
        self._gaps = [(max(start, tail.expected_offset), end) for start, end in self._gaps]
        self._gaps = [gap for gap in self._gaps if gap[0] < gap[1]]
        self.tail = tail
        self.next_offset = max(self.next_offset, tail.expected_offset)
        self._since = self._latest  # what is left came last
        return covered

    def _touch(self, now: float) -> None:
        if self.next_offset == self.tail.expected_offset:
            self._since = now
        self._latest = now

    def _fitting(self, records: int, size: int) -> int:
        if len(self._records) <= records and self.size <= size:
            return len(self._records)
        room = takewhile(lambda total: total <= size, accumulate(self._sizes[:records]))
        return max(1, sum(1 for _ in room))


def size_of(record: Record) -> int:
    """Bytes that a record counts for."""
    return RECORD_OVERHEAD + len(record.value) + len(record.key or b"") + _headers_size(record.headers)


@lru_cache(maxsize=1024)
def _headers_size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)


_offset = attrgetter("offset")
