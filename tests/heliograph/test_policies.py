"""Policies allow what their use needs and nothing else: tried on MinIO, each with a user of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from heliograph.bus.kafka.settings import parse
from heliograph.diagnose.kafka_plan import plan
from heliograph.diagnose.permissions import (
    ACTIONS,
    Document,
    Use,
    bucket_and_prefix,
    kafka_acls,
    oss_policy,
    s3_policy,
    sls_policy,
    sqs_policy,
)
from heliograph.store.open import open_store, store_at
from schemas.delivery import Delivered, Outcome, Rejected, Retry
from schemas.errors import InputError, StoreRefused
from schemas.record import Position
from sinks.objects.events import put_event
from sinks.objects.executions import Results, ResultsSettings, ResultsSink
from tests.archiver.querying import event as event_of
from tests.executions import command, file
from tests.services.minio import minio
from tests.services.s3 import ACCESS_KEY, SECRET_KEY, Service
from tests.sinks.test_results import delivery

__all__ = ["minio"]

USER_SECRET = "a-user-of-the-tests-0123"


class Users:
    """Users of a server who may do what a policy says."""

    def __init__(self, service: Service, environment: pytest.MonkeyPatch) -> None:
        self.service = service
        self._environment = environment
        address = urlsplit(service.endpoint).netloc
        self._admin = MinioAdmin(
            endpoint=address, credentials=StaticProvider(ACCESS_KEY, SECRET_KEY), secure=False
        )

    def url(self, bucket: str, prefix: str, policy: Document) -> str:
        """Creates a user with the policy and puts its secrets into the environment; returns the URL of its store."""
        name = f"user-{bucket}"
        self._admin.user_add(name, USER_SECRET)
        self._admin.policy_add(name, policy=policy)
        self._admin.attach_policy([name], user=name)
        self._environment.setenv("S3_TESTS_KEY", name)
        self._environment.setenv("S3_TESTS_SECRET", USER_SECRET)
        return self.service.url(bucket, prefix)


@pytest.fixture
def users(minio: Service, monkeypatch: pytest.MonkeyPatch) -> Users:
    return Users(minio, monkeypatch)


def without(policy: Document, action: str) -> Document:
    """Returns the policy without an action, and without a statement that has no other."""
    statements = cast("list[dict[str, Any]]", policy["Statement"])
    less = [
        {**one, "Action": [each for each in one["Action"] if each != f"s3:{action}"]} for one in statements
    ]
    return {**policy, "Statement": [one for one in less if one["Action"]]}


def deliver(url: str, prefix: str, *values: bytes) -> list[Outcome]:
    async def send() -> list[Outcome]:
        settings = ResultsSettings(url=url, prefix=prefix)
        sink = ResultsSink(Results(settings, store_at(settings.store_url)))
        try:
            return list(await sink.deliver([delivery(value, n) for n, value in enumerate(values)]))
        finally:
            await sink.close()

    return asyncio.run(send())


def test_records_are_delivered_with_permission_to_write_only(users: Users) -> None:
    bucket = users.service.bucket()
    url = users.url(bucket, "", s3_policy(Use.RESULTS, bucket, "audit"))
    first = deliver(url, "audit", command(), file(1))
    assert [type(outcome) for outcome in first] == [Delivered, Delivered]
    (repeat,) = deliver(url, "audit", command())
    assert isinstance(repeat, Delivered)
    assert repeat.receipt.endswith("exists already, and may not be read to compare it")
    stored = users.service.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert len(stored) == 4
    store = open_store(url)
    assert not store.put_new("audit/invocationResults/t-0/i-0/1.json", b"else"), "the key is taken"
    assert store.put_new("audit/invocationResults/t-0/i-0/2.json", b"free")
    for act in (lambda: store.get("audit/invocationResults/t-0/i-0/1.json"), lambda: list(store.list(""))):
        with pytest.raises(StoreRefused, match="AccessDenied"):
            act()
    store.close()


def test_records_are_refused_outside_the_prefix_of_the_policy(users: Users) -> None:
    bucket = users.service.bucket()
    url = users.url(bucket, "", s3_policy(Use.RESULTS, bucket, "audit"))
    (outcome,) = deliver(url, "elsewhere", command())
    assert isinstance(outcome, Retry)
    assert "not permitted" in outcome.reason.detail


def test_records_without_permission_fail_with_the_reason(users: Users) -> None:
    bucket = users.service.bucket()
    nothing = {"Effect": "Allow", "Action": ["s3:GetBucketLocation"], "Resource": [f"arn:aws:s3:::{bucket}"]}
    url = users.url(bucket, "", {"Version": "2012-10-17", "Statement": [nothing]})
    (outcome,) = deliver(url, "", command())
    assert isinstance(outcome, Retry)
    assert (
        "not permitted; give this access key the permissions that `heliograph policy s3` prints"
        in outcome.reason.detail
    )


@pytest.mark.parametrize("missing", ["", *ACTIONS[Use.OBJECTS]])
def test_object_targets_need_every_action_of_their_policy(users: Users, missing: str) -> None:
    bucket = users.service.bucket()
    policy = s3_policy(Use.OBJECTS, bucket, "events")
    store = open_store(users.url(bucket, "events", without(policy, missing) if missing else policy))
    event = msgspec.structs.replace(delivery(event_of(1)), source=Position("events.ecs.disk", 0, 0))
    outcomes = [put_event(store, "{delivery}.json", event) for _ in ("first", "repeat")]
    store.close()
    if not missing:
        assert outcomes == [Delivered(f"{event.id}.json")] * 2
        return
    refused = outcomes[-1]
    assert isinstance(refused, Rejected)
    assert (
        "not permitted; give this access key the permissions that `heliograph policy s3` prints"
        in refused.reason.detail
    )


def archive(url: str, home: Path, runs: int) -> subprocess.CompletedProcess[str]:
    """Runs the archiver `runs` times, each time with a new event; the first run begins a chain, later ones extend it."""
    environment = {
        **os.environ,
        "HELIOGRAPH_HOME": str(home),
        "HELIOGRAPH_BUS_RESERVE_MB": "0",
        "HELIOGRAPH_ARCHIVE_URL": url,
        "HELIOGRAPH_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-P", "-m", "heliograph"]
    emit = [*command, "emit", "Instance:StateChange", "--resource", "i-1", "--content", "state=Running"]
    run = [*command, "run", "archiver", "--until-idle"]
    done = subprocess.CompletedProcess[str](run, 0)
    for _ in range(runs):
        subprocess.run(emit, env=environment, check=True, capture_output=True, timeout=60)
        done = subprocess.run(run, env=environment, check=False, capture_output=True, text=True, timeout=60)
    return done


def test_the_archiver_works_under_its_policy(users: Users, tmp_path: Path) -> None:
    bucket = users.service.bucket()
    url = users.url(bucket, "events", s3_policy(Use.ARCHIVE, bucket, "events"))
    done = archive(url, tmp_path / "home", runs=2)
    assert done.returncode == 0, done.stderr
    keys = [one["Key"] for one in users.service.client().list_objects_v2(Bucket=bucket)["Contents"]]
    assert sum("/events.ecs.instance/" in key for key in keys) == 2
    assert not any("/probe/" in key for key in keys)


@pytest.mark.parametrize("action", [*ACTIONS[Use.ARCHIVE], "ListBucket"])
def test_the_archiver_fails_without_any_one_permission(users: Users, tmp_path: Path, action: str) -> None:
    bucket = users.service.bucket()
    url = users.url(bucket, "events", without(s3_policy(Use.ARCHIVE, bucket, "events"), action))
    done = archive(url, tmp_path / "home", runs=1)
    assert done.returncode == 1
    assert (
        "not permitted; give this access key the permissions that `heliograph policy s3` prints"
        in done.stderr
    )


def test_policies_of_oss_and_log_service_have_the_actions_of_the_manual() -> None:
    statements = cast("list[dict[str, Any]]", oss_policy(Use.RESULTS, "audit", "records")["Statement"])
    statements += cast("list[dict[str, Any]]", sls_policy("ops/runs")["Statement"])
    assert sorted(action for one in statements for action in one["Action"]) == [
        "log:CreateIndex",
        "log:CreateLogStore",
        "log:GetIndex",
        "log:GetLogStore",
        "log:GetProject",
        "log:PostLogStoreLogs",
        "oss:GetBucketInfo",
        "oss:PutObject",
    ]
    assert statements[0]["Resource"] == [
        "acs:oss:*:*:audit/records/invocationResults/*",
        "acs:oss:*:*:audit/records/sendFileResults/*",
    ]


def test_the_archive_may_list_its_own_prefix_only() -> None:
    for policy, key in ((s3_policy, "s3:prefix"), (oss_policy, "oss:Prefix")):
        *_, listing = cast("list[dict[str, Any]]", policy(Use.ARCHIVE, "audit", "events")["Statement"])
        assert listing["Condition"] == {"StringLike": {key: ["events/*"]}}


@pytest.mark.parametrize("place", ["", "/prefix", "a*", "arn:aws:s3:::a"])
def test_an_invalid_bucket_or_prefix_is_refused(place: str) -> None:
    with pytest.raises(InputError, match="expected bucket/prefix"):
        bucket_and_prefix(place)
    with pytest.raises(InputError, match="expected project/logstore"):
        sls_policy(place)


def test_bucket_and_prefix_are_read_from_paths_and_urls() -> None:
    assert bucket_and_prefix("s3://audit/a/b?endpoint=https://x") == ("audit", "a/b")
    assert bucket_and_prefix("audit") == ("audit", "")


@pytest.mark.parametrize(
    ("queue", "resource"),
    [
        ("events.fifo", "arn:aws:sqs:*:*:events.fifo"),
        ("arn:aws:sqs:eu-central-1:123456789012:events", "arn:aws:sqs:eu-central-1:123456789012:events"),
    ],
)
def test_a_queue_policy_allows_sending_only(queue: str, resource: str) -> None:
    (statement,) = cast("list[dict[str, Any]]", sqs_policy(queue)["Statement"])
    assert statement == {"Effect": "Allow", "Action": ["sqs:SendMessage"], "Resource": [resource]}


@pytest.mark.parametrize("queue", ["", "*", "a b", "events.queue", "arn:aws:sqs:*:*:events", "x" * 81])
def test_an_invalid_queue_is_refused(queue: str) -> None:
    with pytest.raises(InputError, match="expected a queue"):
        sqs_policy(queue)


def test_acls_match_the_plan() -> None:
    acls = plan(parse("kafka://host:9092"), 12, None).acls
    data = cast("list[dict[str, str]]", kafka_acls(acls)["data"])
    assert len(data) == sum(len(acl.operations) for acl in acls)
    allowed = {
        (one["principal"], one["resource_name"], one["pattern_type"], one["operation"]) for one in data
    }
    assert ("User:router", "heliograph.executions", "LITERAL", "READ") in allowed
    assert ("User:archiver", "heliograph.events.", "PREFIXED", "READ") in allowed
    assert not any(role == "User:archiver" and operation == "WRITE" for role, _, _, operation in allowed)
