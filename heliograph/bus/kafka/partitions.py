"""Reads partitions page by page, outside of groups."""

from __future__ import annotations

import time
from threading import Lock

from heliograph.bus.base import Extent, Polled
from heliograph.bus.kafka.client import TIMEOUT, Connection, PartitionReader
from schemas.errors import BusUnavailable
from schemas.record import Gap, Record, TopicPartition

_PAGE_BYTES = 32 * 1024 * 1024
"""Bytes of values after which a page ends."""
_SLICE = 500
"""Records of one poll."""


class Reader:
    """One reader of the cluster for all threads, one page at a time. It keeps its position, so that the next page of the
    same partition needs no seek."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = Lock()
        self._reader: PartitionReader | None = None
        self._at: tuple[TopicPartition, int] | None = None

    def read(self, partition: TopicPartition, offset: int, limit: int, extent: Extent) -> Polled:
        """Reads up to `limit` records from `offset` on, within `extent`."""
        start = max(offset, extent.start)
        gaps = [Gap(*partition, offset, extent.start)] if offset < extent.start else []
        if start >= extent.end or limit <= 0:
            return Polled((), gaps)
        with self._lock:
            if self._reader is None:
                self._reader = self._connection.reader()
            if self._at != (partition, start):
                self._reader.assign(partition, start)
            self._at = None
            records, at = self._page(self._reader, partition, Extent(start, extent.end), limit)
            self._at = partition, at
        return Polled(records, gaps)

    def _page(
        self, reader: PartitionReader, partition: TopicPartition, wanted: Extent, limit: int
    ) -> tuple[list[Record], int]:
        """Reads one page; returns its records, and the offset that the reader reads next."""
        records: list[Record] = []
        at, size = wanted.start, 0
        deadline = time.monotonic() + TIMEOUT
        while at < wanted.end and len(records) < limit and size < _PAGE_BYTES:
            fetched = reader.poll(min(_SLICE, limit - len(records)), 0.1)
            page = fetched.records.get(partition, [])
            if page:
                records.extend(page)
                at = page[-1].offset + 1
                size += sum(len(record.value) for record in page)
                deadline = time.monotonic() + TIMEOUT
            at = max(at, fetched.positions.get(partition, 0))
            if fetched.out_of_range:
                break  # removed meanwhile: the next page reports the gap
            if time.monotonic() > deadline:
                raise BusUnavailable(
                    f"{partition}: nothing was read for {TIMEOUT:.0f} s; see the broker's log"
                )
        return records, at

    def close(self) -> None:
        """Closes the connections."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = None
