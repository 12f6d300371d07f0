"""The records and gaps of a partition that wait for its next segment. Pure: no clock, no I/O."""

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
"""Bytes counted for a record in addition to its key, headers and value."""


class Buffer:
    """Records and gaps that follow a chain's tail; every offset is in a record or in a gap, unless holes are legal."""

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
        """Number, size and arrival times of the waiting records and gaps; None if nothing waits."""
        if self.next_offset == self.tail.expected_offset:
            return None
        return Waiting(len(self._records), self.size, self._since, self._latest)

    def skip(self, end: int, now: float) -> Span | None:
        """Records that the bus no longer has the offsets before `end`; returns the gap, None if there is none."""
        if end <= self.next_offset:
            return None
        self._touch(now)
        gap = (self.next_offset, end)
        self._gaps.append(gap)
        self.next_offset = end
        return gap

    def add(self, records: Iterable[Record], now: float) -> tuple[list[Record], list[Span]]:
        """Adds records in order of offset; returns the records that are archived already, and the gaps found."""
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
            size = count_bytes(record)
            self._records.append(record)
            self._sizes.append(size)
            self.size += size
            self.next_offset = offset + 1
        return archived, gaps

    def build_draft(self, policy: ArchivePolicy) -> Draft:
        """Builds the next segment: all that waits, or as much as `policy` allows, but at least one record."""
        count = self._fitting(policy.max_records, min(policy.max_bytes, SEGMENT_LIMIT))
        records = self._records[:count]
        end = self.next_offset if count == len(self._records) else records[-1].offset + 1
        gaps = tuple(gap for gap in self._gaps if gap[1] <= end)
        return Draft(records, end, gaps, holes_legal=self._holes_legal)

    def rebase(self, tail: Tail) -> Sequence[Record]:
        """Drops the records and gaps that a later tail of the same chain covers; returns the dropped records."""
        at = bisect_left(self._records, tail.expected_offset, key=_offset)
        covered = self._records[:at]
        self.size -= sum(self._sizes[:at])
        del self._records[:at], self._sizes[:at]
        self._gaps = [(max(start, tail.expected_offset), end) for start, end in self._gaps]
        self._gaps = [gap for gap in self._gaps if gap[0] < gap[1]]
        self.tail = tail
        self.next_offset = max(self.next_offset, tail.expected_offset)
        self._since = self._latest  # the records left arrived last
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


def count_bytes(record: Record) -> int:
    """Counts the bytes of a record in memory."""
    return RECORD_OVERHEAD + len(record.value) + len(record.key or b"") + _headers_size(record.headers)


@lru_cache(maxsize=1024)
def _headers_size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)


_offset = attrgetter("offset")
