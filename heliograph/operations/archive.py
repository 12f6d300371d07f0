"""The archive of a deployment: reads, verifies, queries, compacts, retires and erases it, and begins new epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from archiver.maintain import compaction, epochs, erasure, retention
from archiver.maintain.compaction import CompactedDay, CompactionPolicy
from archiver.maintain.erasure import Erasure, select_resource, select_user
from archiver.maintain.removal import Removed, remove
from archiver.maintain.retention import Retirement
from archiver.read import query as sql_query
from archiver.read import reader, survey, verify
from archiver.read.query import QueryResult
from archiver.read.reader import SegmentInfo
from heliograph.app.deployment import Deployment
from schemas.errors import InputError
from schemas.record import Record


class Head(NamedTuple):
    """The last object of a chain of segments or manifests, and the SHA-256 of its bytes in hex."""

    key: str
    sha256: str


def list_segments(deployment: Deployment, topic: str | None = None) -> Iterator[SegmentInfo]:
    """Yields the segments of a topic, or of all topics, with their headers. Raises StoreError, ArchiveBroken."""
    return reader.list_segments(deployment.archive, topic)


def read_records(
    deployment: Deployment, topic: str | None = None, *, since: int | None = None, until: int | None = None
) -> Iterator[Record]:
    """Yields the archived records of a topic, or of all topics, each partition in order of its offsets.

    `since` (inclusive) and `until` (exclusive): milliseconds since the epoch. Raises StoreError, ArchiveBroken.
    """
    return reader.read_records(deployment.archive, [topic] if topic else None, since=since, until=until)


def verify_archive(
    deployment: Deployment, topic: str | None = None, heads: Mapping[str, str] | None = None
) -> verify.Verification:
    """Checks every segment and chain of a topic, or of all topics.

    `heads`: SHA-256 in hex by key, as `read_heads` returned them earlier; a head that the archive no longer has is a problem.
    """
    return verify.verify(deployment.archive, topic, expect_head=dict(heads or {}))


def read_heads(deployment: Deployment) -> Iterator[Head]:
    """Yields the head of every chain of segments, and of every chain of manifests. Raises StoreError, ArchiveBroken."""
    for tail in verify.find_heads(deployment.archive):
        yield Head(tail.key, tail.object_sha256)
    for key, sha256 in verify.find_manifest_heads(deployment.archive):
        yield Head(key, sha256)


def begin_epoch(deployment: Deployment, topic: str) -> Sequence[str]:
    """Begins a new epoch for each partition of a topic whose records on the bus differ from the archived ones.

    Returns the keys of the segments that begin the epochs. Raises NotFound if nothing of the topic is archived, BusError,
    StoreError, ArchiveBroken.
    """
    return epochs.begin_epoch(deployment.archive, deployment.bus, topic)


def query(deployment: Deployment, sql: str) -> QueryResult:
    """Answers one SQL statement over archive and log store. Raises InputError, StoreError, ArchiveBroken."""
    config = deployment.config
    return sql_query.query(
        deployment.archive,
        sql,
        cache=config.home / "cache" / "query",
        logs=config.logs_folder,
        bus=lambda: deployment.bus,
    )


def find_topics(deployment: Deployment, topic: str | None) -> list[str]:
    """Lists the archived topics that match a name, a `*` pattern, or None (all). Raises NotFound if none matches."""
    return survey.find_topics(deployment.archive, topic)


def compact(deployment: Deployment, topic: str, closed_after: int) -> list[CompactedDay]:
    """Merges the segments of a topic's closed days into Parquet files; returns the days that it merged.

    `closed_after`: milliseconds between the end of a day (UTC) and its closing. Raises StoreError, ArchiveBroken.
    """
    policy = CompactionPolicy(closed_after=closed_after)
    return list(compaction.compact(deployment.archive, deployment.clock, topic, policy))


def retire(deployment: Deployment, topic: str, before: int, *, dry_run: bool) -> Retirement:
    """Removes from the beginnings of a topic's chains the segments whose records are all older; returns their number.

    `before`: milliseconds since the epoch. `dry_run`: only counts them. Raises StoreError, ArchiveBroken.
    """
    if dry_run:
        return retention.plan_retirement(deployment.archive, topic, before)
    return retention.retire(deployment.archive, deployment.clock, topic, before)


def erase(
    deployment: Deployment,
    topics: Iterable[str],
    *,
    resource: str = "",
    user: str = "",
    reason: str = "",
    dry_run: bool,
) -> list[Erasure]:
    """Erases the contents of the compacted records that name a resource (its ARN) or a user; returns the counts by topic.

    `reason`: the archive keeps it. `dry_run`: only counts. Raises InputError unless exactly one of `resource` and `user` is
    given, and unless there is a reason or `dry_run`; StoreError, ArchiveBroken.
    """
    if bool(resource) == bool(user):
        raise InputError("resource, user: give either the ARN of a resource or the id of a user")
    if not dry_run and not reason:
        raise InputError(
            "reason: is missing; give the reason without personal data, because the archive keeps it for ever"
        )
    matches = select_resource(resource) if resource else select_user(user)
    archive = deployment.archive
    return [
        erasure.plan_erasure(archive, topic, matches)
        if dry_run
        else erasure.erase(archive, deployment.clock, topic, matches, reason=reason)
        for topic in topics
    ]


def remove_unneeded(deployment: Deployment, topics: Iterable[str], grace: int) -> Removed:
    """Removes the objects that were compacted, retired or replaced at least `grace` milliseconds ago; returns the counts."""
    now = deployment.clock.now()
    return sum((remove(deployment.archive, topic, now, grace) for topic in topics), Removed())
