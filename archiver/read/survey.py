"""Surveys a topic's chains: every segment with its header and sha256, whether compacted or not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise

from archiver.format.canonical import object_sha256
from archiver.format.manifest import Source
from archiver.format.segments import read_segment_header
from archiver.read.ledger import Ledger, read_ledger
from archiver.read.reader import SegmentInfo, list_objects, merge
from heliograph.store.base import ObjectStore
from schemas.errors import ArchiveBroken, NotFound


@dataclass(frozen=True, slots=True)
class Link:
    """One segment of a chain. `compacted`: index of its file in the ledger, None if it is not compacted. `tail`: True for
    the last of its chain, which is never removed."""

    source: Source
    partition: int
    compacted: int | None
    tail: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """A topic's segments, each partition in the order of its chain, and the ledger that they were read with."""

    ledger: Ledger
    links: tuple[Link, ...]


def survey(store: ObjectStore, topic: str) -> Survey:
    """Reads every segment that is an object, and compares its sha256 with the link in the next one.

    Raises ArchiveBroken, which names the key, for a damaged segment or a broken chain, StoreError.
    """
    objects = [info for _, found in list_objects(store, topic) for info in found]
    ledger = read_ledger(store, topic)
    infos = sorted(merge(store, objects, ledger), key=lambda info: info.key.encode())
    links: list[Link] = []
    for _, found in groupby(infos, key=lambda info: info.partition):
        chain = list(found)
        links += (_link(store, info, tail=info is chain[-1]) for info in chain)
    for one, two in pairwise(links):
        if one.partition == two.partition and two.source.header.previous_sha256 != one.source.object_sha256:
            raise ArchiveBroken(
                f"{two.source.key}: does not link to {one.source.key}; run `heliograph archive verify`"
            )
    return Survey(ledger, tuple(links))


def find_topics(store: ObjectStore, topic: str | None) -> list[str]:
    """Returns the archived topics that match a name, a `*` pattern or None (all). Raises NotFound if none does."""
    found = [name for name, _ in list_objects(store, topic)]
    if topic and not found:
        raise NotFound(f"topic {topic}: nothing of it is archived")
    return found


def _link(store: ObjectStore, info: SegmentInfo, *, tail: bool) -> Link:
    if info.covered:
        return Link(info.covered.source, info.partition, info.covered.file, tail)
    body = store.get(info.key)
    header = read_segment_header(info.key, body)
    return Link(Source(info.key, len(body), object_sha256(body), header), info.partition, None, tail)
