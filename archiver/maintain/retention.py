"""Retention: removes whole old segments and compacted files from the beginnings of chains.

A manifest names the last segment removed from each chain, with its sha256 and the offset after it, so that `archive
verify` knows where chains begin. The objects are removed after a grace period (`archiver.maintain.removal`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, takewhile

from archiver.format.manifest import Retired, RetiredChain
from archiver.read.ledger import commit
from archiver.read.survey import Link, Survey, survey
from archiver.write.chain import tail_after
from heliograph.store.base import ObjectStore
from schemas.clock import Clock
from schemas.errors import ObjectMissing


@dataclass(frozen=True, slots=True)
class Retirement:
    """The counts of a removal in one topic, done or planned. `chains`: number of chains that lose segments."""

    topic: str
    chains: int = 0
    segments: int = 0
    records: int = 0


def plan_retirement(store: ObjectStore, topic: str, before: int) -> Retirement:
    """Counts what `retire` would remove, without changing anything. Raises as `retire` does."""
    return _count(topic, _prefixes(survey(store, topic), before))


def retire(store: ObjectStore, clock: Clock, topic: str, before: int) -> Retirement:
    """Removes from the beginnings of a topic's chains the segments whose records are all older than `before` (milliseconds).

    The last segment of each chain stays, and so does a compacted file while any of its segments has to stay. Raises
    ArchiveBroken for a broken chain, before it changes anything, and StoreError.
    """
    while True:
        try:
            found = survey(store, topic)
        except ObjectMissing:
            continue  # compacted and removed meanwhile
        prefixes = _prefixes(found, before)
        done = _count(topic, prefixes)
        if not done.segments:
            return done
        manifest = Retired(
            topic=topic,
            made_at=clock.now(),
            previous_sha256=found.ledger.sha256,
            before=before,
            segments=done.segments,
            records=done.records,
            chains=tuple(_retired(prefix[-1]) for prefix in prefixes if prefix),
        )
        if commit(store, found.ledger, manifest):
            return done


def _prefixes(found: Survey, before: int) -> list[list[Link]]:
    """Returns the segments to remove from each chain. If a file has to stay, chains keep all segments from it on."""
    chains = [list(links) for _, links in groupby(found.links, key=lambda link: link.partition)]
    old = [list(takewhile(lambda link: _is_old(link, before), links)) for links in chains]
    while True:
        going = {link.source.key for prefix in old for link in prefix}
        kept = {link.compacted for link in found.links if link.source.key not in going} - {None}
        shorter = [
            list(takewhile(lambda link: link.compacted not in kept, prefix))  # noqa: B023 - used at once
            for prefix in old
        ]
        if shorter == old:
            return old
        old = shorter


def _is_old(link: Link, before: int) -> bool:
    latest = link.source.header.latest_timestamp
    return not link.tail and (latest is None or latest < before)


def _retired(link: Link) -> RetiredChain:
    tail = tail_after(link.source.key, link.source.header, link.source.object_sha256)
    return RetiredChain(
        partition=tail.partition,
        log_id=tail.log_id,
        epoch=tail.epoch,
        next_offset=tail.expected_offset,
        key=tail.key,
        object_sha256=tail.object_sha256,
    )


def _count(topic: str, prefixes: list[list[Link]]) -> Retirement:
    gone = [link for prefix in prefixes for link in prefix]
    records = sum(link.source.header.count for link in gone)
    return Retirement(topic, sum(map(bool, prefixes)), len(gone), records)
