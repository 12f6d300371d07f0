"""Erasure: removes the contents of records, while the chain can still be verified.

A compacted file is rewritten with marks in place of the erased records, which keep offset and time and lose key, headers
and value. A manifest names both files, the offsets, and the sha256 of the result; the old file and segments are removed
after a grace period (`archiver.maintain.removal`). docs/how-to/keep-the-archive-small.md: what verifying then proves.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec

from archiver.format.canonical import object_sha256, records_sha256
from archiver.format.manifest import Erased, ErasedSegment, Rewritten, file_key
from archiver.format.segment import ERASED, Segment, is_erased
from archiver.maintain.compaction import encode_rows, prove
from archiver.read.compacted import CompactedRecords, read_file
from archiver.read.ledger import Covered, Ledger, commit, read_ledger
from archiver.read.reader import SegmentInfo, list_objects, merge
from heliograph.store.base import ObjectStore
from schemas.clock import Clock
from schemas.errors import ObjectMissing
from schemas.record import Record

Selector = Callable[[Record], bool]
"""Returns True if a record is to be erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """The counts of an erasure in one topic, done or planned.

    `waiting`: selected records that are still in segments; they can be erased once
    their segments are compacted and are no longer the last of their chain.
    """

    topic: str
    records: int = 0
    segments: int = 0
    files: int = 0
    waiting: int = 0


def select_resource(arn: str) -> Selector:
    """Selects the records that name a resource in key, headers or value."""
    return _select_matching(re.compile(re.escape(arn.encode()) + rb"(?![A-Za-z0-9_.-])"))


def select_user(user: str) -> Selector:
    """Selects the records that have a user's id as a JSON text, as a whole header, or inside an ARN."""
    text = re.escape(user.encode())
    return _select_matching(re.compile(rb'"' + text + rb'"|:' + text + rb":|\A" + text + rb"\Z"))


def plan_erasure(store: ObjectStore, topic: str, select: Selector) -> Erasure:
    """Counts what `erase` would erase, without changing anything. Raises ArchiveBroken, StoreError."""
    ledger, found = _find(store, topic, select)
    return _erasure(ledger, found)


def erase(store: ObjectStore, clock: Clock, topic: str, select: Selector, *, reason: str) -> Erasure:
    """Erases the contents of the selected records in all compacted segments of a topic.

    Each file is compared with the chain before it is rewritten, and read back afterwards. A kill before the manifest
    leaves files that nobody reads. Raises ArchiveBroken, which names the key, before it changes anything, and StoreError.
    """
    while True:
        try:
            ledger, found = _find(store, topic, select)
            done = _erasure(ledger, found)
            if not done.records or _commit(store, clock, ledger, found, reason=reason):
                return done
        except ObjectMissing:
            continue  # another removal was first


@dataclass(frozen=True, slots=True)
class _Found:
    """Offsets to erase, by the keys of their segments; `waiting`: number of records that are still in segments."""

    offsets: Mapping[str, frozenset[int]]
    waiting: int


def _find(store: ObjectStore, topic: str, select: Selector) -> tuple[Ledger, _Found]:
    objects = [info for _, found in list_objects(store, topic) for info in found]
    ledger = read_ledger(store, topic)
    tails = {info.key.rpartition("/")[0]: info.key for info in objects}
    offsets: dict[str, frozenset[int]] = {}
    waiting = 0
    for info in sorted(merge(store, objects, ledger), key=_by_file):
        gone = frozenset(each.offset for each in info.load().records if not is_erased(each) and select(each))
        if info.covered and gone:
            offsets[info.key] = gone
        if info.covered is None or info.key in tails.values():
            waiting += len(gone) or (
                len(info.covered.erased.offsets) if info.covered and info.covered.erased else 0
            )
    return ledger, _Found(offsets, waiting)


def _erasure(ledger: Ledger, found: _Found) -> Erasure:
    files = {ledger.covered[key].file for key in found.offsets}
    records = sum(map(len, found.offsets.values()))
    return Erasure(
        topic=ledger.topic,
        records=records,
        segments=len(found.offsets),
        files=len(files),
        waiting=found.waiting,
    )


def _commit(store: ObjectStore, clock: Clock, ledger: Ledger, found: _Found, *, reason: str) -> bool:
    """Writes the files and the manifest; returns False if another manifest was first."""
    began = clock.now()
    written = [
        _rewrite(store, ledger, place, offsets=found.offsets, began=began)
        for place in sorted({ledger.covered[key].file for key in found.offsets})
    ]
    manifest = Erased(
        topic=ledger.topic,
        made_at=clock.now(),
        previous_sha256=ledger.sha256,
        reason=reason,
        files=tuple(file for file, _ in written),
        segments=tuple(chain.from_iterable(segments for _, segments in written)),
    )
    if commit(store, ledger, manifest):
        return True
    for file, _ in written:
        store.delete(file.key)
    return False


def _rewrite(
    store: ObjectStore, ledger: Ledger, place: int, *, offsets: Mapping[str, frozenset[int]], began: int
) -> tuple[Rewritten, Sequence[ErasedSegment]]:
    """Rewrites one file, and proves the old and the new one."""
    file = ledger.files[place]
    members = [ledger.covered[source.key] for source in file.sources]
    prove(store, ledger.topic, file, members)
    old = CompactedRecords(ledger.topic, read_file(store, file))
    segments: list[Segment] = []
    after: list[Covered] = []
    for each in members:
        marked = _marked(old.read_segment(each.source.header), offsets.get(each.source.key, frozenset()))
        segments.append(Segment(each.source.header, marked))
        after.append(_erased(each, marked) if each.source.key in offsets else each)
    body = encode_rows(segments)
    day = file.key.split("day=")[1].split("/")[0]
    key = file_key(ledger.topic, day, began, secrets.token_hex(8))
    store.put_new(key, body)
    new = msgspec.structs.replace(file, key=key, sha256=object_sha256(body), size=len(body))
    prove(store, ledger.topic, new, after)
    erased = [each.erased for each in after if each.erased and each.source.key in offsets]
    return Rewritten(file.key, key, new.sha256, new.size), erased


def _marked(records: Sequence[Record], gone: frozenset[int]) -> Sequence[Record]:
    return [
        msgspec.structs.replace(each, key=None, headers=((ERASED, b"1"),), value=b"")
        if each.offset in gone
        else each
        for each in records
    ]


def _erased(covered: Covered, records: Sequence[Record]) -> Covered:
    offsets = tuple(each.offset for each in records if is_erased(each))
    segment = ErasedSegment(covered.source.key, offsets, records_sha256(records))
    return Covered(covered.source, covered.file, covered.since, segment)


def _select_matching(pattern: re.Pattern[bytes]) -> Selector:
    def select(record: Record) -> bool:
        return any(pattern.search(part.replace(b"\\/", b"/")) for part in _parts(record))

    return select


def _parts(record: Record) -> Iterator[bytes]:
    yield record.value
    yield record.key or b""
    for _, value in record.headers:
        yield value


def _by_file(info: SegmentInfo) -> tuple[float, bytes]:
    return info.covered.file if info.covered else float("inf"), info.key.encode()
