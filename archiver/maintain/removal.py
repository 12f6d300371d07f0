"""Removal: deletes objects that the ledger no longer needs, after a grace period for readers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from archiver.format.manifest import file_made, files_prefix
from archiver.format.naming import SegmentName, parse_key, topic_prefix
from archiver.read.ledger import Ledger, read_ledger
from heliograph.store.base import ObjectStore

ORPHAN_AGE = 86_400_000
"""Age in milliseconds at which a Parquet file that no manifest names was left by a killed compaction. A compaction that
takes longer than half of it does not commit."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Counts of removed objects: `segments` that were compacted or retired, `files` that were retired or replaced, `orphans`
    that no manifest names. `waiting`: objects still in their grace period."""

    segments: int = 0
    files: int = 0
    orphans: int = 0
    waiting: int = 0

    def __add__(self, other: Removed) -> Removed:
        """Adds the counts."""
        return Removed(
            self.segments + other.segments,
            self.files + other.files,
            self.orphans + other.orphans,
            self.waiting + other.waiting,
        )


def remove(store: ObjectStore, topic: str, now: int, grace: int) -> Removed:
    """Removes a topic's objects that have not been needed for `grace` milliseconds.

    These are segments that were compacted or retired, files that were retired or replaced, and files that killed
    compactions left; the last object of each chain stays. Such objects are never needed again, so a removal may be killed,
    repeated, and run by several processes at once.
    Raises ArchiveBroken for a damaged manifest, StoreError.
    """
    files = [info.key for info in store.list(files_prefix(topic))]
    segments = [(name, info.key) for info in store.list(topic_prefix(topic)) if (name := parse_key(info.key))]
    ledger = read_ledger(store, topic)
    removed = Removed()
    for key, since in _find_unneeded(segments, ledger):
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


def _find_unneeded(found: list[tuple[SegmentName, str]], ledger: Ledger) -> Iterator[tuple[str, int]]:
    """Returns the segments that are not needed, with the time since when."""
    for partition, chain in groupby(found, key=lambda one: one[0].partition):
        *before, _ = (key for _, key in chain)
        for key in before:
            if key in ledger.covered:
                yield key, ledger.covered[key].since
            elif ledger.is_retired(key):
                yield key, ledger.retired_at[partition]


def _files(ledger: Ledger) -> dict[str, int | None]:
    """Returns the files that manifests name, with the time since when they are not needed; None for needed ones."""
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
