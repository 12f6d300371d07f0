"""Reading the archive, with nothing but the object store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from archiver.formats import avro
from archiver.naming import ROOT, parse_key, topic_prefix
from archiver.segment import Segment, SegmentHeader
from heliograph.store.base import ObjectStore
from schemas.errors import ArchiveBroken
from schemas.record import Record
from schemas.topics import matches


@dataclass(frozen=True)
class SegmentInfo:
    """A segment as its key and its size in bytes tell of it. `header` and `load` read the object."""

    key: str
    topic: str
    partition: int
    epoch: int
    expected_offset: int
    size: int
    store: ObjectStore = field(repr=False, compare=False)

    @cached_property
    def header(self) -> SegmentHeader:
        """What the segment says of itself; read at the first use. Raises ArchiveBroken, naming the key."""
        return read_header(self.store, self.key)

    def load(self) -> Segment:
        """Header and records. Raises ArchiveBroken, naming the key."""
        return read_segment(self.store, self.key)


def list_segments(store: ObjectStore, topic: str | None = None) -> Iterator[SegmentInfo]:
    """The segments of a topic, of the topics that a `*` pattern names, or of all, in order of their keys.

    Within a partition that is the order of the chain.
    """
    prefix = topic_prefix(topic) if topic and "*" not in topic else ROOT
    for info in store.list(prefix):
        name = parse_key(info.key)
        if name and (topic is None or matches(name.topic, (topic,))):
            yield SegmentInfo(
                info.key, name.topic, name.partition, name.epoch, name.expected_offset, info.size, store
            )


def read_records(
    store: ObjectStore,
    topics: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Iterator[Record]:
    """Records of topics (names or `*` patterns; None: all) with a timestamp in `[since, until)`, in milliseconds.

    One segment at a time is in memory, and one outside of the time range is not decoded. Each partition's records come
    in order of offset. Raises ArchiveBroken for a segment that is not what was written.
    """
    for topic in topics or (None,):
        for info in list_segments(store, topic):
            body = store.get(info.key)
            if _overlaps(_header(info.key, body), since, until):
                for record in _segment(info.key, body).records:
                    if (since is None or record.timestamp >= since) and (
                        until is None or record.timestamp < until
                    ):
                        yield record


def read_segment(store: ObjectStore, key: str) -> Segment:
    """A whole segment. Raises ArchiveBroken, naming the key, and ObjectMissing."""
    return _segment(key, store.get(key))


def read_header(store: ObjectStore, key: str) -> SegmentHeader:
    """A segment's header. Raises ArchiveBroken, naming the key, and ObjectMissing."""
    return _header(key, store.get(key))


def _segment(key: str, body: bytes) -> Segment:
    try:
        return avro.decode(body)
    except ArchiveBroken as error:
        raise ArchiveBroken(f"{key}: {error}") from error


def _header(key: str, body: bytes) -> SegmentHeader:
    try:
        return avro.read_header(body)
    except ArchiveBroken as error:
        raise ArchiveBroken(f"{key}: {error}") from error


def _overlaps(header: SegmentHeader, since: int | None, until: int | None) -> bool:
    earliest, latest = header.earliest_timestamp, header.latest_timestamp
    if earliest is None or latest is None:
        return False
    return (since is None or latest >= since) and (until is None or earliest < until)
