"""The archive of a deployment: read it, prove it, query it, keep it small and lawful, begin it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from archiver.maintain import compaction, erasure, retention
from archiver.maintain.compaction import CompactedDay, CompactionPolicy
from archiver.maintain.epochs import begin_epoch
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
    """Yields the segments of a topic, or of all, with their headers. Raises StoreError, ArchiveBroken."""
    return reader.list_segments(deployment.archive, topic)


def read_records(
    deployment: Deployment, topic: str | None = None, *, since: int | None = None, until: int | None = None
) -> Iterator[Record]:
    """Yields archived records, each partition in order. `since`, `until`: milliseconds since the epoch.

    Raises StoreError, ArchiveBroken.
    """
    return reader.read_records(deployment.archive, [topic] if topic else None, since=since, until=until)


def verify_archive(
    deployment: Deployment, topic: str | None = None, heads: Mapping[str, str] | None = None
) -> verify.Verification:
    """Checks every segment and chain, and that `heads` (key to SHA-256), noted earlier, are still there."""
    return verify.verify(deployment.archive, topic, expect_head=dict(heads or {}))


def read_heads(deployment: Deployment) -> Iterator[Head]:
    """Yields the head of every chain of segments, and of every chain of manifests. Raises StoreError, ArchiveBroken."""
    for tail in verify.find_heads(deployment.archive):
        yield Head(tail.key, tail.object_sha256)
    for key, sha256 in verify.find_manifest_heads(deployment.archive):
        yield Head(key, sha256)


def begin_epochs(deployment: Deployment, topic: str) -> Iterator[str]:
    """Begins new chains for a topic, or a `*` pattern, whose records are no longer those that were archived.

    Yields the keys of the segments that say so. Raises NotFound if nothing of the topic is archived.
    """
    topics = survey.find_topics(deployment.archive, topic) if "*" in topic else [topic]
    for one in topics:
        yield from begin_epoch(deployment.archive, deployment.bus, one)


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
    """Lists the archived topics of a name, a `*` pattern or None for all. Raises NotFound if there is none."""
    return survey.find_topics(deployment.archive, topic)


def compact(deployment: Deployment, topics: Iterable[str], closed_after: int) -> Iterator[CompactedDay]:
    """Merges the segments of closed days into Parquet; yields each day when it is done.

    `closed_after`: milliseconds from its end (UTC) after which a day is closed. Raises StoreError, ArchiveBroken.
    """
    policy = CompactionPolicy(closed_after=closed_after)
    for topic in topics:
        yield from compaction.compact(deployment.archive, deployment.clock, topic, policy)


def retire(
    deployment: Deployment, topics: Iterable[str], before: int, *, dry_run: bool
) -> Iterator[Retirement]:
    """Retires from the beginnings of chains the segments that are wholly older; yields how many, topic by topic.

    `before`: milliseconds since the epoch. Raises StoreError, ArchiveBroken.
    """
    for topic in topics:
        if dry_run:
            yield retention.plan_retirement(deployment.archive, topic, before)
        else:
            yield retention.retire(deployment.archive, deployment.clock, topic, before)


def erase(
    deployment: Deployment,
    topics: Iterable[str],
    *,
    resource: str = "",
    user: str = "",
    reason: str = "",
    dry_run: bool,
) -> list[Erasure]:
    """Erases the contents of compacted records that name a resource (its ARN) or a user; returns how many by topic.

    Raises InputError without exactly one of both, or without the reason that the archive keeps; StoreError,
    ArchiveBroken.
    """
    if bool(resource) == bool(user):
        raise InputError("resource, user: name one of them, an ARN or the id of a user, and not both")
    if not dry_run and not reason:
        raise InputError(
            "reason: is missing; say why, in words that name nobody, because the archive keeps it"
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
    """Removes the objects that were compacted, retired or replaced at least `grace` milliseconds ago; counts them."""
    now = deployment.clock.now()
    return sum((remove(deployment.archive, topic, now, grace) for topic in topics), Removed())
