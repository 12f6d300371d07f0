"""Reads compacted files, and splits their records into the segments that they came from."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from archiver.format.canonical import ParsedHeaders, object_sha256
from archiver.format.manifest import DataFile
from archiver.format.parquet import Table
from archiver.format.segment import Segment, SegmentHeader, find_problem
from archiver.read.ledger import Covered
from heliograph.store.base import ObjectStore
from schemas.errors import ArchiveBroken
from schemas.record import Record

_ORDER = ("partition", "epoch", "offset")
_COLUMNS = ("partition", "epoch", "offset", "time", "key", "canonical_headers", "value")


class CompactedRecords:
    """The records of one file, sorted by partition, epoch and offset. It takes about as much memory as the records have bytes."""

    def __init__(self, topic: str, body: bytes) -> None:
        """Decodes a file. Raises ArchiveBroken if `body` is not a compacted file."""
        self._topic = topic
        self._table = Table(body, _COLUMNS, _ORDER)

    def __len__(self) -> int:
        return len(self._table.keys)

    def read_segment(self, header: SegmentHeader) -> Sequence[Record]:
        """Returns the records of a segment. Raises ArchiveBroken for headers that are not in canonical form."""
        keys, values, place = self._table.keys, self._table.values, (header.partition, header.epoch)
        start = bisect_left(keys, (*place, header.expected_offset))
        end = bisect_left(keys, (*place, header.next_offset), start)
        columns = (values(name, start, end) for name in _COLUMNS[2:])
        headers = ParsedHeaders()
        try:
            return [
                Record(self._topic, header.partition, offset, time, key, headers[encoded], value)
                for offset, time, key, encoded, value in zip(*columns, strict=True)
            ]
        except (ValueError, TypeError) as error:
            raise ArchiveBroken(f"canonical_headers: {error}") from error


class FileReader:
    """Reads compacted files of one topic, and keeps the last ones, so that the segments of a file read it only once."""

    def __init__(self, store: ObjectStore, topic: str) -> None:
        self._store = store
        self._topic = topic
        self._kept: dict[str, CompactedRecords] = {}

    def read(self, file: DataFile) -> CompactedRecords:
        """Returns the records of a file. Raises ArchiveBroken, which names the key, and ObjectMissing."""
        kept = self._kept.pop(file.key, None)
        if kept is None:
            body = read_file(self._store, file)
            self._kept = dict(list(self._kept.items())[1 - _KEPT :])
            try:
                kept = CompactedRecords(self._topic, body)
            except ArchiveBroken as error:
                raise ArchiveBroken(f"{file.key}: {error}") from error
        self._kept[file.key] = kept
        return kept


_KEPT = 2
"""Files in memory: a day's late records are in a second file."""


def read_file(store: ObjectStore, file: DataFile) -> bytes:
    """Reads the bytes of a compacted file. Raises ArchiveBroken if the manifest has another sha256, and ObjectMissing."""
    body = store.get(file.key)
    if object_sha256(body) != file.sha256:
        raise ArchiveBroken(f"{file.key}: damaged: its bytes do not match the sha256 in its manifest")
    return body


def find_covered_problem(records: CompactedRecords, covered: Covered) -> str | None:
    """Returns the first contradiction between a file's records and the header of one of its segments; None if none.

    A segment with erased records is compared with the sha256 in the manifest of the erasure.
    """
    header = covered.source.header
    found = records.read_segment(header)
    if covered.erased:
        header = msgspec.structs.replace(header, records_sha256=covered.erased.records_sha256)
    return find_problem(Segment(header, found))
