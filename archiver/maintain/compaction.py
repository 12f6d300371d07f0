"""Small files become large ones: the segments of closed days become Parquet, and a manifest says so.

A segment belongs to the UTC day of its latest record, and is compacted wholly and once. In this order: the files are
written, read back and held against the chain; one manifest makes them count; the segments go after a grace period
(`archiver.maintain.removal`). A kill before the manifest leaves files that nobody reads, one after it segments that nobody
needs. Of two compactors one puts the manifest, and the other begins again from what it says.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import structlog

from archiver.format import parquet
from archiver.format.canonical import HeaderBytes, object_sha256
from archiver.format.manifest import DAY, Compacted, DataFile, Source, day_name, day_number, file_key
from archiver.format.rows import COMPACTED, compacted_row
from archiver.format.segment import Segment, find_problem
from archiver.format.segments import decode_segment
from archiver.maintain.removal import ORPHAN_AGE
from archiver.read.compacted import CompactedRecords, find_covered_problem, read_file
from archiver.read.ledger import Covered, Ledger, commit
from archiver.read.survey import Survey, survey
from heliograph.store.base import ObjectStore
from schemas.clock import Clock
from schemas.errors import ArchiveBroken, ObjectMissing, StoreUnavailable
from schemas.record import Record

log = structlog.get_logger()


@dataclass(frozen=True)
class CompactionPolicy:
    """A day is closed `closed_after` milliseconds after its end. A file is begun anew at `file_records` records, or
    `file_bytes` of segments as they are stored; one segment may be more. That bounds memory: a few hundred MiB."""

    closed_after: int = 6 * 3_600_000
    file_records: int = 100_000
    file_bytes: int = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactedDay:
    """What one manifest brought. Sizes in bytes, as stored."""

    topic: str
    day: str
    generation: int
    segments: int
    records: int
    files: int
    size_before: int
    size: int


class _Beaten(Exception):  # noqa: N818 - nothing is wrong
    """Another compaction, retention or erasure was first."""


def compact(
    store: ObjectStore, clock: Clock, topic: str, policy: CompactionPolicy | None = None
) -> Iterator[CompactedDay]:
    """Compact every closed day of a topic that has segments not compacted yet; yields a day once it is committed.

    Raises ArchiveBroken where the chain does not hold, before anything was changed, and StoreError.
    """
    policy = policy or CompactionPolicy()
    while True:
        try:
            found = survey(store, topic)
            ledger = found.ledger
            for day, sources in _closed_days(found, clock.now() - policy.closed_after):
                done, ledger = _compact_day(store, clock, ledger, day, sources, policy)
                yield done
        except (_Beaten, ObjectMissing):
            log.info("another compaction or removal was first", topic=topic)
            continue
        return


def _closed_days(found: Survey, before: int) -> list[tuple[str, list[Source]]]:
    """What is to be compacted: days that ended at `before` or earlier, in milliseconds, the oldest first."""
    days: dict[int, list[Source]] = {}
    for link in found.links:
        latest = link.source.header.latest_timestamp
        if link.compacted is None and latest is not None:
            number = day_number(latest)
            if (number + 1) * DAY <= before:
                days.setdefault(number, []).append(link.source)
    return [(day_name(number), days[number]) for number in sorted(days)]


def _compact_day(
    store: ObjectStore,
    clock: Clock,
    ledger: Ledger,
    day: str,
    sources: list[Source],
    policy: CompactionPolicy,
) -> tuple[CompactedDay, Ledger]:
    """Write, prove, commit. Raises _Beaten."""
    began = clock.now()
    sources.sort(key=lambda source: (source.header.earliest_timestamp or 0, source.key))
    files = [_write_file(store, ledger.topic, day, began, part) for part in _parts(sources, policy)]
    manifest = Compacted(
        topic=ledger.topic,
        made_at=clock.now(),
        previous_sha256=ledger.sha256,
        day=day,
        generation=ledger.generations.get(day, 0) + 1,
        files=tuple(files),
    )
    if manifest.made_at - began > ORPHAN_AGE // 2:
        raise StoreUnavailable(
            f"compaction of {ledger.topic} {day} took longer than half a day; run it again"
        )
    committed = commit(store, ledger, manifest)
    if committed is None:
        for file in files:
            store.delete(file.key)
        raise _Beaten
    done = CompactedDay(
        topic=ledger.topic,
        day=day,
        generation=manifest.generation,
        segments=len(sources),
        records=sum(file.records for file in files),
        files=len(files),
        size_before=sum(source.size for source in sources),
        size=sum(file.size for file in files),
    )
    log.info("day compacted", topic=ledger.topic, day=day, segments=done.segments, records=done.records)
    return done, committed


def _parts(sources: Iterable[Source], policy: CompactionPolicy) -> Iterator[list[Source]]:
    """The sources of each file."""
    part: list[Source] = []
    records = size = 0
    for source in sources:
        records += source.header.count
        size += source.size
        if part and (records > policy.file_records or size > policy.file_bytes):
            yield part
            part, records, size = [], source.header.count, source.size
        part.append(source)
    yield part


def _write_file(store: ObjectStore, topic: str, day: str, began: int, sources: Sequence[Source]) -> DataFile:
    """Write the file of some segments, and prove by reading it back that each can be had from it."""
    segments = [_read(store, source) for source in sources]
    body = encode_rows(segments)
    key = file_key(topic, day, began, secrets.token_hex(8))
    if not store.put_new(key, body):
        raise ArchiveBroken(f"{key}: was there already")
    records = sum(source.header.count for source in sources)
    file = DataFile(
        key=key, sha256=object_sha256(body), size=len(body), records=records, sources=tuple(sources)
    )
    try:
        prove(store, topic, file, [Covered(source, 0, 0) for source in sources])
    except ArchiveBroken:
        store.delete(key)
        raise
    return file


def prove(store: ObjectStore, topic: str, file: DataFile, segments: Sequence[Covered]) -> None:
    """Read a file back and recompute the sha256 of each of its segments. Raises ArchiveBroken, naming the key."""
    try:
        body = read_file(store, file)
    except ObjectMissing as error:
        raise ArchiveBroken(f"{file.key}: is gone right after it was stored") from error
    found = CompactedRecords(topic, body)
    if len(found) != file.records:
        raise ArchiveBroken(f"{file.key}: has {len(found)} records, and must have {file.records}")
    for each in segments:
        problem = find_covered_problem(found, each)
        if problem:
            raise ArchiveBroken(f"{file.key}: {each.source.key}: {problem}")


def _read(store: ObjectStore, source: Source) -> Segment:
    """A segment, held against itself and against what was surveyed. Raises ArchiveBroken, naming the key, ObjectMissing."""
    body = store.get(source.key)
    segment = decode_segment(source.key, body)
    problem = find_problem(segment)
    if object_sha256(body) != source.object_sha256:
        problem = "changed while it was compacted"
    if problem:
        raise ArchiveBroken(f"{source.key}: {problem}")
    return segment


def encode_rows(segments: Sequence[Segment]) -> bytes:
    """The Parquet file of segments, its rows in order of time."""
    epochs = [[segment.header.epoch] * len(segment.records) for segment in segments]
    records = chain.from_iterable(segment.records for segment in segments)
    rows = sorted(zip(records, chain.from_iterable(epochs), strict=True), key=_time)
    headers = HeaderBytes()
    return parquet.encode(COMPACTED, (compacted_row(record, epoch, headers) for record, epoch in rows))


def _time(row: tuple[Record, int]) -> tuple[int, int, int, int]:
    record, epoch = row
    return record.timestamp, record.partition, epoch, record.offset
