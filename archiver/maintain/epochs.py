"""New epochs, for chains whose bus was lost, recreated or restored (docs/decisions/0004-archive-epochs.md)."""

from __future__ import annotations

from collections.abc import Sequence

from archiver.format.segment import Draft, EpochStart, is_erased
from archiver.read.reader import SegmentInfo, list_segments
from archiver.write.chain import Stored, Tail, append_segment, find_bus_problem, find_tail, read_extent
from heliograph.bus.base import Bus
from heliograph.store.base import ObjectStore
from schemas.errors import NotFound
from schemas.record import Record

_READ_LIMIT = 5000


def begin_epoch(store: ObjectStore, bus: Bus, topic: str) -> Sequence[str]:
    """Begins a new epoch for each partition of a topic whose records on the bus differ from the archive.

    Returns the keys of the segments that begin them; other partitions stay as they are. For a bus restored to an earlier
    state the epoch starts at the first difference. Raises NotFound if nothing of the topic is archived.
    """
    begun: list[str] = []
    chains = _chains(store, topic)
    if not chains:
        raise NotFound(f"topic {topic}: nothing of it is archived")
    for partition, chain in chains.items():
        tail = find_tail(store, topic, partition, hint=chain[-2].key if chain[1:] else "")
        if tail is None or not find_bus_problem(bus, tail):
            continue
        start = _first_difference(bus, tail, chain) if tail.log_id == bus.log_id else 0
        starts = EpochStart(tail.epoch + 1, bus.log_id, start)
        outcome = append_segment(store, tail, Draft((), tail.expected_offset, begins=starts))
        if isinstance(outcome, Stored):
            begun.append(outcome.tail.key)
    return begun


def _chains(store: ObjectStore, topic: str) -> dict[int, list[SegmentInfo]]:
    """Returns each partition's segments, in the order of the chain."""
    chains: dict[int, list[SegmentInfo]] = {}
    for info in list_segments(store, topic):
        chains.setdefault(info.partition, []).append(info)
    return chains


def _first_difference(bus: Bus, tail: Tail, chain: Sequence[SegmentInfo]) -> int:
    """Returns the first offset at which a bus restored to an earlier state differs from the archive.

    It goes backward through the chain while segments differ. Offsets that a later epoch covers count in that epoch only.
    """
    extent = read_extent(bus, tail.topic_partition)
    first = covered = min(extent.end, tail.expected_offset)
    for info in reversed(chain):
        header, records = info.load()
        archived = [
            record for record in records if extent.start <= record.offset < covered and not is_erased(record)
        ]
        covered = min(covered, header.expected_offset)
        logged = set(_read_bus(bus, archived))
        if header.log_id != tail.log_id or (archived and logged.issuperset(archived)):
            break
        first = next((record.offset for record in archived if record not in logged), first)
    return first


def _read_bus(bus: Bus, archived: Sequence[Record]) -> Sequence[Record]:
    """Reads the records on the bus between the first and the last of some archived records."""
    records: list[Record] = []
    at, end = (archived[0].offset, archived[-1].offset + 1) if archived else (0, 0)
    while at < end:
        found = bus.read(archived[0].position.topic_partition, at, min(_READ_LIMIT, end - at)).records
        if not found:
            break
        records += found
        at = found[-1].offset + 1
    return [record for record in records if record.offset < end]
