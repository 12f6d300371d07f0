"""Writes batches of records into the file, and reads partitions from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import msgspec

from heliograph.bus.base import Extent
from heliograph.bus.partition import place
from heliograph.bus.sqlite.schema import OFFSET_MASK, pack
from schemas.record import Gap, Headers, NewRecord, Position, Record, TopicPartition

BATCH_BYTES = 32 * 1024 * 1024
"""Bytes of values after which a read stops, so that large records do not fill the memory."""
_ROWS = 200

_encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(Headers).decode
_NOWHERE = Position("", 0, -1)


class _Run:
    """The records of a batch for one partition, as columns, with the index of each record in the batch."""

    __slots__ = ("headers", "identity", "indexes", "keys", "partition", "values")

    def __init__(self, identity: int, partition: TopicPartition) -> None:
        self.identity = identity
        self.partition = partition
        self.indexes: list[int] = []
        self.keys: list[bytes | None] = []
        self.headers: list[bytes | None] = []
        self.values: list[bytes] = []


class Batch:
    """Records prepared for one transaction: assigned to partitions and encoded."""

    def __init__(
        self, records: Sequence[NewRecord], topics: Mapping[str, tuple[int, ...]], turn: int
    ) -> None:
        """Prepares records. `topics`: ids of the partitions of each topic; `turn`: chooses the partition of records without
        a key.

        Raises TopicMissing for a partition that does not exist.
        """
        self._size = len(records)
        self._runs: dict[int, _Run] = {}
        runs = self._runs
        for index, record in enumerate(records):
            ids = topics[record.topic]
            number = place(record, len(ids), turn)
            run = runs.get(ids[number])
            if run is None:
                run = runs[ids[number]] = _Run(ids[number], TopicPartition(record.topic, number))
            run.indexes.append(index)
            run.keys.append(record.key)
            run.headers.append(_encode_headers(record.headers) if record.headers else None)
            run.values.append(record.value)

    def write(self, connection: sqlite3.Connection, now: int) -> Sequence[Position]:
        """Inserts the records inside the caller's transaction; returns their positions in the order of the batch.

        Timestamps never decrease within a partition, whatever `now` (milliseconds) does.
        """
        positions = [_NOWHERE] * self._size
        for run in self._runs.values():
            start, newest = connection.execute(
                "SELECT next, newest FROM partitions WHERE id = ?", (run.identity,)
            ).fetchone()
            end, timestamp = start + len(run.values), max(now, newest)
            rows = range(pack(run.identity, start), pack(run.identity, end))
            connection.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
                zip(rows, repeat(timestamp), run.keys, run.headers, run.values, strict=False),
            )
            connection.execute(
                "UPDATE partitions SET next = ?, newest = ? WHERE id = ?", (end, timestamp, run.identity)
            )
            topic, number = run.partition
            for index, offset in zip(run.indexes, range(start, end), strict=True):
                positions[index] = Position(topic, number, offset)
        return positions


class Found(NamedTuple):
    """The result of a read: records, the gap of removed records before them, and the bytes of the values."""

    records: Sequence[Record]
    gap: Gap | None
    size: int


def read(
    connection: sqlite3.Connection, partition: TopicPartition, identity: int, *, span: Extent, limit: int
) -> Found:
    """Reads up to `limit` records of `span`, fewer if they are large."""
    cursor = connection.execute(
        "SELECT id, timestamp, key, headers, value FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (pack(identity, span.start), pack(identity, span.end), limit),
    )
    records: list[Record] = []
    size = 0
    while size < BATCH_BYTES and (rows := cursor.fetchmany(_ROWS)):
        size += _decode(rows, partition, records.append)
    cursor.close()
    first = records[0].offset if records else span.end
    return Found(records, Gap(*partition, span.start, first) if first > span.start else None, size)


_Row = tuple[int, int, bytes | None, bytes | None, bytes]


def _decode(rows: Sequence[_Row], partition: TopicPartition, add: Callable[[Record], None]) -> int:
    """Decodes rows and passes each record to `add`; returns the bytes of their values."""
    topic, number = partition
    size = 0
    packed: bytes | None = None
    headers: Headers = ()
    for row, timestamp, key, blob, value in rows:
        if blob != packed:  # neighbours often have the same headers
            headers = () if blob is None else _decode_headers(blob)
            packed = blob
        add(Record(topic, number, row & OFFSET_MASK, timestamp, key, headers, value))
        size += len(value)
    return size


def offset_at(connection: sqlite3.Connection, identity: int, span: Extent, timestamp: int) -> int:
    """Finds the first offset of `span` whose record is not older than `timestamp`; the end if there is none."""
    low, high = span
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT timestamp FROM records WHERE id = ?", (pack(identity, middle),)
        ).fetchone()
        if row is None or row[0] < timestamp:  # a missing record was old enough to be removed
            low = middle + 1
        else:
            high = middle
    return low
