"""Segments: a segment is one archived file of one topic partition; its header proves its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec

from archiver.format.canonical import records_sha256
from schemas.errors import ArchiveBroken
from schemas.record import Record

FORMAT_VERSION = 1
"""Version of the segment's format. A newer reader reads older versions."""

ERASED = "heliograph-erased"
"""Header of a record whose content was erased (`archiver.maintain.erasure`)."""

Span = tuple[int, int]
"""Offsets `[start, end)`."""


class EpochStart(msgspec.Struct, frozen=True):
    """The next epoch, as named by the segment without records that ends the one before it."""

    epoch: int
    log_id: str
    offset: int


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a segment, and its link to the one before it.

    The segment covers the offsets `[expected_offset, next_offset)`; `gaps` are those that the bus no longer had. With
    `holes_legal` (a topic with transactions or compaction) other offsets may be missing too. Timestamps are milliseconds
    since the epoch: of the first and last record, and the earliest and latest of all. `records_sha256` covers the
    canonical form (`archiver.format.canonical`); `previous_sha256` the whole object before this one, and is empty for the
    first of a chain. `begins` is set if an epoch ends here.
    """

    format: int = FORMAT_VERSION
    log_id: str
    epoch: int
    topic: str
    partition: int
    expected_offset: int
    next_offset: int
    count: int
    first_offset: int | None = None
    first_timestamp: int | None = None
    last_offset: int | None = None
    last_timestamp: int | None = None
    earliest_timestamp: int | None = None
    latest_timestamp: int | None = None
    holes_legal: bool = False
    gaps: tuple[Span, ...] = ()
    records_sha256: str
    previous_sha256: str
    begins: EpochStart | None = None

    def goes_on_in(self, log_id: str) -> bool:
        """Returns True if, after this last segment of a chain, the chain continues with the bus of this log id."""
        return self.log_id == log_id and self.begins is None


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of the next segment: records in order of offset, gaps, and the offset that comes after all of it."""

    records: Sequence[Record]
    next_offset: int
    gaps: tuple[Span, ...] = ()
    _: KW_ONLY
    holes_legal: bool = False
    begins: EpochStart | None = None


class Segment(NamedTuple):
    """A segment that was read."""

    header: SegmentHeader
    records: Sequence[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of a segment in its chain."""

    log_id: str
    topic: str
    partition: int
    epoch: int
    expected_offset: int
    previous_sha256: str


def build_header(place: Place, draft: Draft) -> SegmentHeader:
    """Builds the header of a draft at its place."""
    offsets = [record.offset for record in draft.records]
    times = [record.timestamp for record in draft.records]
    return SegmentHeader(
        log_id=place.log_id,
        epoch=place.epoch,
        topic=place.topic,
        partition=place.partition,
        expected_offset=place.expected_offset,
        next_offset=draft.next_offset,
        count=len(draft.records),
        first_offset=offsets[0] if offsets else None,
        first_timestamp=times[0] if times else None,
        last_offset=offsets[-1] if offsets else None,
        last_timestamp=times[-1] if times else None,
        earliest_timestamp=min(times, default=None),
        latest_timestamp=max(times, default=None),
        holes_legal=draft.holes_legal,
        gaps=draft.gaps,
        records_sha256=records_sha256(draft.records),
        previous_sha256=place.previous_sha256,
        begins=draft.begins,
    )


def read_place(header: SegmentHeader) -> Place:
    """Reads the place of a segment from its header."""
    return Place(
        log_id=header.log_id,
        topic=header.topic,
        partition=header.partition,
        epoch=header.epoch,
        expected_offset=header.expected_offset,
        previous_sha256=header.previous_sha256,
    )


def find_problem(segment: Segment) -> str | None:
    """Returns the first contradiction between a segment's header and its records; None if there is none."""
    header, records = segment
    draft = Draft(
        records, header.next_offset, header.gaps, holes_legal=header.holes_legal, begins=header.begins
    )
    computed = build_header(read_place(header), draft)
    for field in header.__struct_fields__:
        said, found = getattr(header, field), getattr(computed, field)
        if said != found:
            return f"its header says {field} {said}, and its records give {found}"
    return _find_coverage_problem(header, records)


def is_erased(record: Record) -> bool:
    """Returns True if the content of the record was erased."""
    return not record.value and record.header(ERASED) is not None


def encode_header(header: SegmentHeader) -> bytes:
    """Encodes a header as JSON in the order of its fields; the same header always gives the same bytes."""
    return msgspec.json.encode(header)


def decode_header(data: bytes) -> SegmentHeader:
    """Reads a header. Raises ArchiveBroken, also for a format newer than this reader."""
    try:
        version = _VERSION.decode(data).format
        if version > FORMAT_VERSION:
            raise ArchiveBroken(
                f"segment of format {version}: this version of Heliograph reads up to {FORMAT_VERSION}; use a newer one"
            )
        return _HEADER.decode(data)
    except msgspec.MsgspecError as error:
        raise ArchiveBroken(f"segment header: {error}") from error


def _find_coverage_problem(header: SegmentHeader, records: Sequence[Record]) -> str | None:
    """Checks that records and gaps cover the header's offsets in order and once; holes may be left if they are legal."""
    spans = sorted([*header.gaps, *((record.offset, record.offset + 1) for record in records)])
    if any(one.offset >= two.offset for one, two in pairwise(records)):
        return "its records are not in order of offset"
    at = header.expected_offset
    for start, end in [*spans, (header.next_offset, header.next_offset)]:
        if start < at or end < start:
            return f"offset {start} comes twice, or outside of the offsets in its header"
        if start > at and not header.holes_legal:
            return f"offsets {at} to {start - 1} are missing"
        at = end
    return None


class _Version(msgspec.Struct, frozen=True):
    format: int


_VERSION = msgspec.json.Decoder(_Version)
_HEADER = msgspec.json.Decoder(SegmentHeader)
