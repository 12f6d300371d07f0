"""The chain of a partition's segments: exactly once by compare-and-swap.

The key of a segment is made of the offset that its predecessor says comes next. So all writers of a chain race for the
same key, `put_new` lets one win, and the others read the new tail and drop the records that the winner archived.

When the bus was lost, recreated or restored to an earlier state, its offsets have other records. Then a segment without
records takes the next key: it ends the epoch for all its writers and says where the next one begins
(docs/decisions/0004-archive-epochs.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass

from archiver.format.canonical import object_sha256
from archiver.format.naming import parse_key, partition_prefix, segment_key
from archiver.format.segment import Draft, EpochStart, Place, SegmentHeader, build_header
from archiver.format.segments import encode_segment, read_segment_header
from heliograph.bus.base import Bus, Extent
from heliograph.store.base import ObjectInfo, ObjectStore
from schemas.errors import ArchiveBroken, ObjectMissing
from schemas.record import TopicPartition


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a chain: the place of the next segment, and the object that it must link to.

    `key` and `object_sha256` are those of the last object, empty for a chain without any. `last_offset` and
    `last_timestamp` are its last record's, None if it has none.
    """

    log_id: str
    topic: str
    partition: int
    _: KW_ONLY
    epoch: int = 0
    expected_offset: int = 0
    key: str = ""
    object_sha256: str = ""
    last_offset: int | None = None
    last_timestamp: int | None = None

    @property
    def topic_partition(self) -> TopicPartition:
        """The topic partition of the chain."""
        return TopicPartition(self.topic, self.partition)

    @property
    def place(self) -> Place:
        """The place of the next segment."""
        return Place(
            log_id=self.log_id,
            topic=self.topic,
            partition=self.partition,
            epoch=self.epoch,
            expected_offset=self.expected_offset,
            previous_sha256=self.object_sha256,
        )

    @property
    def next_key(self) -> str:
        """The key of the next segment."""
        return segment_key(self.topic, self.partition, self.expected_offset, self.epoch)


@dataclass(frozen=True, slots=True)
class Stored:
    """The segment was stored, and `tail` is the new end of the chain."""

    tail: Tail


@dataclass(frozen=True, slots=True)
class Lost:
    """Another writer was first: nothing was stored, and `tail` is the end that it left."""

    tail: Tail


def find_tail(store: ObjectStore, topic: str, partition: int, hint: str = "") -> Tail | None:
    """Returns the tail of a chain; None if nothing was archived.

    It lists keys after `hint`, a key at or before the last one; if the hint is too late, it lists all keys.
    Raises StoreUnavailable, ArchiveBroken.
    """
    prefix = partition_prefix(topic, partition)
    key = _last_key(store.list(prefix, after=hint)) or (_last_key(store.list(prefix)) if hint else None)
    if key is None:
        return None
    body = store.get(key)
    return tail_after(key, read_segment_header(key, body), object_sha256(body))


def append_segment(store: ObjectStore, tail: Tail, draft: Draft) -> Stored | Lost:
    """Stores a draft after `tail`, unless another writer was first.

    Raises StoreUnavailable if the store did not say whether it was stored; the next try finds out by reading.
    """
    header = build_header(tail.place, draft)
    key = tail.next_key
    body = encode_segment(key, header, draft.records)
    # the same bytes are there if the answer to an earlier try was lost
    if store.put_new(key, body) or _holds(store, key, body):
        new = tail_after(key, header, object_sha256(body))
        if _in_chain(store, new):
            return Stored(new)
    winner = find_tail(store, tail.topic, tail.partition, hint=tail.key)
    if winner is None:
        raise ArchiveBroken(
            f"{key}: the object was there and has disappeared; nothing may delete the last segment of a chain"
        )
    return Lost(winner)


def _holds(store: ObjectStore, key: str, body: bytes) -> bool:
    with suppress(ObjectMissing):  # compacted or retired a moment ago
        return store.get(key) == body
    return False


def _in_chain(store: ObjectStore, tail: Tail) -> bool:
    """Returns True if the segment just stored is the end of its chain, or the next segment links to it.

    It is neither if the chain went on long ago and the segment with this key was compacted or retired and then removed,
    which freed the key. Readers ignore such an object by its key, and the next removal deletes it.
    """
    later = store.list(partition_prefix(tail.topic, tail.partition), after=tail.key)
    following = next((info.key for info in later if parse_key(info.key)), None)
    if following is None:
        return True
    with suppress(ObjectMissing):
        return read_segment_header(following, store.get(following)).previous_sha256 == tail.object_sha256
    return False


def tail_after(key: str, header: SegmentHeader, sha256: str) -> Tail:
    """Returns the tail of a chain whose last object has this key, header and sha256."""
    begins = header.begins or EpochStart(header.epoch, header.log_id, header.next_offset)
    return Tail(
        log_id=begins.log_id,
        topic=header.topic,
        partition=header.partition,
        epoch=begins.epoch,
        expected_offset=begins.offset,
        key=key,
        object_sha256=sha256,
        last_offset=header.last_offset,
        last_timestamp=header.last_timestamp,
    )


def check_bus(bus: Bus, tail: Tail) -> None:
    """Raises ArchiveBroken unless the bus still has the records that the chain was archived from."""
    problem = find_bus_problem(bus, tail)
    if problem:
        raise ArchiveBroken(
            f"{tail.topic_partition}: {problem}. If that is intended, `heliograph archive new-epoch {tail.topic}` "
            "archives the records of this bus from here on, beside those archived before"
        )


def _last_key(objects: Iterable[ObjectInfo]) -> str | None:
    last = None
    for info in objects:
        if parse_key(info.key):
            last = info.key
    return last


def find_bus_problem(bus: Bus, tail: Tail) -> str | None:
    """Returns the reason why the bus no longer holds what the chain was archived from; None if it does.

    Raises BusError.
    """
    extent = read_extent(bus, tail.topic_partition)
    if tail.log_id != bus.log_id:
        return f"was archived from the bus with log id {tail.log_id}, and this bus has log id {bus.log_id}"
    if tail.expected_offset > extent.end:
        return f"is archived up to offset {tail.expected_offset}, and the topic ends at {extent.end}"
    if tail.last_offset is None or not extent.start <= tail.last_offset < extent.end:
        return None
    found = bus.read(tail.topic_partition, tail.last_offset, 1).records
    if found and (found[0].offset, found[0].timestamp) != (tail.last_offset, tail.last_timestamp):
        return f"the record at offset {tail.last_offset} is not the one that was archived"
    return None


def read_extent(bus: Bus, partition: TopicPartition) -> Extent:
    """Returns the offsets that the bus has of a partition; an empty extent if it has none."""
    return bus.extents(partition.topic).get(partition, Extent(0, 0))
