"""Compaction: merges the segments of closed days into Parquet files, and commits them with a manifest.

A segment belongs to the UTC day of its latest record, and is compacted as a whole and once. First the files are written,
read back and compared with the chain; then one manifest commits them; the segments are removed after a grace period
(`archiver.maintain.removal`). A kill before the manifest is stored leaves files that nobody reads; a kill after that
leaves segments that nobody needs. Of two compactions one stores the manifest, and the other starts again from it.
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
    """The limits of compaction.

    `closed_after`: milliseconds after its end at which a day is compacted. `file_records`, `file_bytes`: maximum records
    and stored bytes of segments in one file, which a single segment may exceed; they bound memory to a few hundred MiB.
    """

    closed_after: int = 6 * 3_600_000
    file_records: int = 100_000
    file_bytes: int = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactedDay:
    """The result of compacting one day. Sizes in bytes, as stored."""

    topic: str
    day: str
    generation: int
    segments: int
    records: int
    files: int
    size_before: int
    size: int


class _LostRace(Exception):  # noqa: N818 - no error
    """Another compaction, retention or erasure stored its manifest first."""


def compact(
    store: ObjectStore, clock: Clock, topic: str, policy: CompactionPolicy | None = None
) -> list[CompactedDay]:
    """Compacts every closed day of a topic that has segments not compacted yet; returns the days that it committed.

    Raises ArchiveBroken for a broken chain, before it changes anything, and StoreError.
    """
    policy = policy or CompactionPolicy()
    compacted: list[CompactedDay] = []
    while True:
        try:
            found = survey(store, topic)
            ledger = found.ledger
            for day, sources in _closed_days(found, clock.now() - policy.closed_after):
                done, ledger = _compact_day(store, clock, ledger, day=day, sources=sources, policy=policy)
                compacted.append(done)
        except (_LostRace, ObjectMissing):
            log.info("archive changed during compaction, starting again", topic=topic)
            continue
        return compacted


def _closed_days(found: Survey, before: int) -> list[tuple[str, list[Source]]]:
    """Returns the segments to compact of each day that ended at `before` (milliseconds) or earlier, oldest first."""
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
    *,
    day: str,
    sources: list[Source],
    policy: CompactionPolicy,
) -> tuple[CompactedDay, Ledger]:
    """Writes the files of a day, proves them, and commits them. Raises _LostRace."""
    began = clock.now()
    sources.sort(key=lambda source: (source.header.earliest_timestamp or 0, source.key))
    files = [_write_file(store, ledger.topic, part, day=day, began=began) for part in _parts(sources, policy)]
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
        raise _LostRace
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
    """Divides the segments among files."""
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


def _write_file(
    store: ObjectStore, topic: str, sources: Sequence[Source], *, day: str, began: int
) -> DataFile:
    """Writes the file of some segments, and proves by reading it back that it holds each of them."""
    segments = [_read(store, source) for source in sources]
    body = encode_rows(segments)
    key = file_key(topic, day, began, secrets.token_hex(8))
    if not store.put_new(key, body):
        raise ArchiveBroken(f"{key}: the key of this new file is taken")
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
    """Reads a file back and recomputes the sha256 of each of its segments. Raises ArchiveBroken, which names the key."""
    try:
        body = read_file(store, file)
    except ObjectMissing as error:
        raise ArchiveBroken(f"{file.key}: disappeared right after it was stored") from error
    found = CompactedRecords(topic, body)
    if len(found) != file.records:
        raise ArchiveBroken(f"{file.key}: has {len(found)} records, expected {file.records}")
    for each in segments:
        problem = find_covered_problem(found, each)
        if problem:
            raise ArchiveBroken(f"{file.key}: {each.source.key}: {problem}")


def _read(store: ObjectStore, source: Source) -> Segment:
    """Reads a segment, and compares it with its header and with the survey. Raises ArchiveBroken, which names the key, and
    ObjectMissing."""
    body = store.get(source.key)
    segment = decode_segment(source.key, body)
    problem = find_problem(segment)
    if object_sha256(body) != source.object_sha256:
        problem = "changed while it was compacted"
    if problem:
        raise ArchiveBroken(f"{source.key}: {problem}")
    return segment


def encode_rows(segments: Sequence[Segment]) -> bytes:
    """Encodes segments as a Parquet file, its rows in order of time."""
    epochs = [[segment.header.epoch] * len(segment.records) for segment in segments]
    records = chain.from_iterable(segment.records for segment in segments)
    rows = sorted(zip(records, chain.from_iterable(epochs), strict=True), key=_time)
    headers = HeaderBytes()
    return parquet.encode(COMPACTED, (compacted_row(record, epoch, headers) for record, epoch in rows))


def _time(row: tuple[Record, int]) -> tuple[int, int, int, int]:
    record, epoch = row
    return record.timestamp, record.partition, epoch, record.offset
