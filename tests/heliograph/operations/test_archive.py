"""Keeping an archive: what is refused before anything changes, and that a dry run changes nothing."""

from __future__ import annotations

import pytest

from archiver.write.archiver import Archiver
from heliograph.app.deployment import Deployment
from heliograph.operations.archive import (
    compact,
    erase,
    find_topics,
    list_segments,
    query,
    read_heads,
    read_records,
    retire,
    verify_archive,
)
from heliograph.operations.publish import NotificationRequest, publish_built
from schemas.errors import InputError, NotFound

TOPIC = "events.ecs.instance"
DAY = 86_400_000


@pytest.fixture
def archived(deployment: Deployment) -> Deployment:
    """A deployment that has archived one event."""
    request = NotificationRequest(name="Instance:StateChange", resource="i-1", content={"state": "Running"})
    publish_built(deployment, request)
    archiver = Archiver(
        deployment.bus, deployment.archive, deployment.config.archive.policy, deployment.clock, holes_legal=()
    )
    while not list(list_segments(deployment, TOPIC)):
        archiver.step(0.0)
        archiver.flush()
    archiver.close()
    return deployment


def test_an_archive_is_read_verified_and_queried(archived: Deployment) -> None:
    (record,) = read_records(archived, TOPIC)
    assert b"Instance:StateChange" in record.value
    heads = dict(read_heads(archived))
    assert verify_archive(archived, heads=heads).sound
    assert list(query(archived, "select count(*) as events from events").rows()) == [{"events": 1}]


def test_a_head_that_is_gone_makes_the_archive_unsound(archived: Deployment) -> None:
    ((key, sha256),) = dict(read_heads(archived)).items()
    archived.archive.delete(key)
    assert not verify_archive(archived, heads={key: sha256}).sound


def test_a_topic_without_segments_is_refused(deployment: Deployment) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        find_topics(deployment, "nowhere")


def test_a_dry_run_retires_and_erases_nothing(archived: Deployment) -> None:
    later = archived.clock.now() + DAY
    before = list(read_records(archived, TOPIC))
    retire(archived, TOPIC, later, dry_run=True)
    erase(archived, [TOPIC], user="100000000000", dry_run=True)
    assert list(read_records(archived, TOPIC)) == before


def test_a_day_that_is_not_closed_is_not_compacted(archived: Deployment) -> None:
    assert compact(archived, TOPIC, closed_after=DAY) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "resource, user: "),
        ({"resource": "i-1", "user": "9"}, "resource, user: "),
        ({"user": "9"}, "reason: "),
    ],
    ids=["neither", "both", "no reason"],
)
def test_an_erasure_that_says_too_little_or_too_much_is_refused(
    archived: Deployment, names: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        erase(archived, [TOPIC], **names, dry_run=False)
