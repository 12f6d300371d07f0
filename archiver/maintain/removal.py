"""Removing what is not needed any more: by the ledger alone, and never what a reader may still be on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from archiver.format.manifest import file_made, files_prefix
from archiver.format.naming import SegmentName, parse_key, topic_prefix
from archiver.read.ledger import Ledger, read_ledger
from heliograph.store.base import ObjectStore

ORPHAN_AGE = 86_400_000
"""Milliseconds after which a Parquet file that no manifest names is what a killed compaction left. A compaction that
took longer than half of that commits nothing."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many objects were removed: `segments` whose records are in Parquet files or retired, `files` of retired or
    replaced records, `orphans` that no manifest names. `waiting`: removed once their grace is over."""

    segments: int = 0
    files: int = 0
    orphans: int = 0
    waiting: int = 0

    def __add__(self, other: Removed) -> Removed:
        """Both together."""
        return Removed(
            self.segments + other.segments,
            self.files + other.files,
            self.orphans + other.orphans,
            self.waiting + other.waiting,
        )


def remove(store: ObjectStore, topic: str, now: int, grace: int) -> Removed:
    """Remove the segments of a topic that were compacted or retired `grace` milliseconds ago or longer, the files that
    were retired or replaced as long ago, and what killed compactions left. The last object of each chain stays.

    What may go never becomes needed again, so this may be killed, repeated, and done by several at once.
    Raises ArchiveBroken for a damaged manifest, StoreError.
    """
    files = [info.key for info in store.list(files_prefix(topic))]
    segments = [(name, info.key) for info in store.list(topic_prefix(topic)) if (name := parse_key(info.key))]
    ledger = read_ledger(store, topic)
    removed = Removed()
    for key, since in _segments(segments, ledger):
        removed += _remove(store, key, Removed(segments=1), due=since + grace <= now)
    known = _files(ledger)
    for key in files:
        made = file_made(key)
        if key in known:
            unneeded = known[key]
            if unneeded is not None:
                removed += _remove(store, key, Removed(files=1), due=unneeded + grace <= now)
        elif made is not None and made + ORPHAN_AGE <= now:
            removed += _remove(store, key, Removed(orphans=1), due=True)
    return removed


def _segments(found: list[tuple[SegmentName, str]], ledger: Ledger) -> Iterator[tuple[str, int]]:
    """Segments that may go, and since when."""
    for partition, chain in groupby(found, key=lambda one: one[0].partition):
        *before, _ = (key for _, key in chain)
        for key in before:
            if key in ledger.covered:
                yield key, ledger.covered[key].since
            elif ledger.is_retired(key):
                yield key, ledger.retired_at[partition]


def _files(ledger: Ledger) -> dict[str, int | None]:
    """The files that manifests name, and since when they may go: None for those that readers need."""
    known: dict[str, int | None] = dict(ledger.replaced)
    needed = {each.file for each in ledger.live()}
    for place, file in enumerate(ledger.files):
        since = max((ledger.retired_at.get(each.header.partition, 0) for each in file.sources), default=0)
        known[file.key] = None if place in needed else since
    return known


def _remove(store: ObjectStore, key: str, one: Removed, *, due: bool) -> Removed:
    if not due:
        return Removed(waiting=1)
    store.delete(key)
    return one
