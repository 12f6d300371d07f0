"""Reads the archive from the object store alone; only this module knows where a segment's records are.

A segment is an object of its own until its day is compacted; then a Parquet file holds its records and a manifest its
header. Objects are listed before the manifests are read. So a segment that is compacted meanwhile is found in one of
them or in both, and then its manifest counts; it is never missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from archiver.format.manifest import DataFile
from archiver.format.naming import ROOT, parse_key, topic_prefix
from archiver.format.segment import Segment, SegmentHeader
from archiver.format.segments import decode_segment, read_segment_header
from archiver.read.compacted import FileReader
from archiver.read.ledger import Covered, Ledger, read_ledger
from heliograph.store.base import ObjectInfo, ObjectStore
from schemas.errors import ArchiveBroken
from schemas.record import Record
from schemas.topics import matches


@dataclass(frozen=True, kw_only=True)
class SegmentInfo:
    """A listed segment: the parts of its key and the size of its object in bytes.

    `covered` and `file`: set if the segment was compacted; its records are in that file. `modified`: time of its object,
    or of its manifest if it was compacted, in milliseconds since the epoch.
    """

    key: str
    topic: str
    partition: int
    epoch: int
    expected_offset: int
    size: int
    store: ObjectStore = field(repr=False, compare=False)
    modified: int = field(default=0, compare=False)
    covered: Covered | None = field(default=None, repr=False, compare=False)
    file: DataFile | None = field(default=None, repr=False, compare=False)
    files: FileReader | None = field(default=None, repr=False, compare=False)

    def read_header(self) -> SegmentHeader:
        """Returns the header: from the manifest if the segment was compacted, else from its object, which is read once.

        Raises ArchiveBroken, which names the key.
        """
        return self._header

    @cached_property
    def _header(self) -> SegmentHeader:
        return self.covered.source.header if self.covered else read_header(self.store, self.key)

    def load(self) -> Segment:
        """Reads header and records; erased records have no content. Raises ArchiveBroken, which names the key."""
        if self.covered is None or self.file is None or self.files is None:
            return read_segment(self.store, self.key)
        header = self.covered.source.header
        return Segment(header, self.files.read(self.file).read_segment(header))


def list_segments(store: ObjectStore, topic: str | None = None) -> Iterator[SegmentInfo]:
    """Lists the segments of a topic, of the topics that match a `*` pattern, or of all, in the order of their keys.

    Within a partition this is the order of the chain, from its beginning or from the first that retention left.
    """
    for name, objects in list_objects(store, topic):
        yield from sorted(merge(store, objects, read_ledger(store, name)), key=_key)


def list_objects(store: ObjectStore, topic: str | None = None) -> Iterator[tuple[str, list[ObjectInfo]]]:
    """Lists the segments that are objects, by topic. Every archived topic has some, since tails are never removed."""
    prefix = topic_prefix(topic) if topic and "*" not in topic else ROOT
    found = ((name, info) for info in store.list(prefix) if (name := parse_key(info.key)))
    for each, group in groupby(found, key=lambda one: one[0].topic):
        if topic is None or matches(each, (topic,)):
            yield each, [info for _, info in group]


def merge(store: ObjectStore, objects: Iterable[ObjectInfo], ledger: Ledger) -> Iterator[SegmentInfo]:
    """Returns a topic's segments in any order: those that are objects only, and those of the ledger.

    The ledger must have been read after the objects were listed.
    """
    files = FileReader(store, ledger.topic)
    for info in objects:
        if info.key not in ledger.covered and not ledger.is_retired(info.key):
            yield _info(store, info.key, info.size, info.modified)
    for covered in ledger.live():
        source = covered.source
        compacted = _info(store, source.key, source.size, covered.since)
        yield replace(compacted, covered=covered, file=ledger.files[covered.file], files=files)


def read_records(
    store: ObjectStore,
    topics: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Iterator[Record]:
    """Reads the records of topics (names or `*` patterns; None: all) with a timestamp in `[since, until)`, in milliseconds.

    Memory holds one segment or two compacted files at a time; segments outside of the time range are not decoded. The
    records of a partition are in order of offset. Raises ArchiveBroken for a damaged segment.
    """
    for topic in topics or (None,):
        for _, infos in groupby(list_segments(store, topic), key=lambda info: info.topic):
            for info in _by_file(infos):
                yield from records_between(info, since, until)


def records_between(info: SegmentInfo, since: int | None, until: int | None = None) -> Iterator[Record]:
    """Reads the records of a segment with a timestamp in `[since, until)`, in milliseconds; decodes only if it has some."""
    for record in _records(info, lambda header: _overlaps(header, since, until)):
        if (since is None or record.timestamp >= since) and (until is None or record.timestamp < until):
            yield record


def read_segment(store: ObjectStore, key: str) -> Segment:
    """Reads a whole segment that is an object. Raises ArchiveBroken, which names the key, and ObjectMissing."""
    return decode_segment(key, store.get(key))


def read_header(store: ObjectStore, key: str) -> SegmentHeader:
    """Reads the header of a segment that is an object. Raises ArchiveBroken, which names the key, and ObjectMissing."""
    return read_segment_header(key, store.get(key))


def _records(info: SegmentInfo, wanted: Callable[[SegmentHeader], bool]) -> Sequence[Record]:
    if info.covered:
        return info.load().records if wanted(info.covered.source.header) else ()
    body = info.store.get(info.key)
    header = read_segment_header(info.key, body)
    return decode_segment(info.key, body).records if wanted(header) else ()


def _by_file(infos: Iterable[SegmentInfo]) -> Iterator[SegmentInfo]:
    """Orders segments so that those of one file follow each other, and each partition keeps its order."""
    queues = [deque(found) for _, found in groupby(infos, key=lambda info: info.partition)]
    while queues := [queue for queue in queues if queue]:
        first = min(queues, key=lambda queue: _file_place(queue[0]))
        file = first[0].file
        if file is None:
            yield first.popleft()
            continue
        for queue in queues:
            while queue and queue[0].file is file:
                yield queue.popleft()


def _file_place(info: SegmentInfo) -> float:
    return info.covered.file if info.covered else float("inf")


def _info(store: ObjectStore, key: str, size: int, modified: int) -> SegmentInfo:
    name = parse_key(key)
    if name is None:
        raise ArchiveBroken(f"{key}: not the key of a segment")
    return SegmentInfo(key=key, **name._asdict(), size=size, store=store, modified=modified)


def _key(info: SegmentInfo) -> bytes:
    return info.key.encode()


def _overlaps(header: SegmentHeader, since: int | None, until: int | None) -> bool:
    earliest, latest = header.earliest_timestamp, header.latest_timestamp
    if earliest is None or latest is None:
        return False
    return (since is None or latest >= since) and (until is None or earliest < until)
