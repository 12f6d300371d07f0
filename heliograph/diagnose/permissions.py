"""The least privileges of the roles on each store and on Kafka, as documents to paste.

S3, SQS: IAM policy language 2012-10-17, which MinIO takes as well. OSS and Log Service: RAM policy language, version 1,
with the actions of the role AliyunServiceRoleForECSArchiving (ECS user manual, manage the service-linked role for
Operation Content and Result Delivery). Kafka: the body of `acls:batch` of Confluent's REST API, version 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from heliograph.diagnose.kafka_plan import Acl
from schemas.errors import InputError
from sinks.objects.executions import COMMANDS, FILES

Document = dict[str, object]


class Use(StrEnum):
    """The uses of a bucket."""

    RESULTS = "results"
    OBJECTS = "objects"
    ARCHIVE = "archive"


_NOTHING_READ = ("PutObject",)
_REPEATS_READ = ("PutObject", "GetObject")
_CHAIN = ("PutObject", "GetObject", "DeleteObject")
ACTIONS = {Use.RESULTS: _NOTHING_READ, Use.OBJECTS: _REPEATS_READ, Use.ARCHIVE: _CHAIN}
"""The actions on objects, by their names in both policy languages. The archive lists its prefix as well."""

_LOG_PROJECT = ("GetProject",)
_LOG_STORE = ("GetLogStore", "CreateLogStore", "PostLogStoreLogs", "GetIndex", "CreateIndex")

_QUEUE = re.compile(r"(?:arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:)?[A-Za-z0-9_-]{1,80}(?:\.fifo)?")


def bucket_and_prefix(place: str) -> tuple[str, str]:
    """Reads `bucket/prefix`, or a URL `s3://bucket/prefix?…`. Raises InputError."""
    plain = place.removeprefix("s3://").partition("?")[0]
    bucket, _, prefix = plain.partition("/")
    if not bucket or any(sign in plain for sign in "*{}$: "):
        raise InputError(f"{place!r}: expected bucket/prefix, as in audit/records")
    return bucket, prefix.strip("/")


def s3_policy(use: Use, bucket: str, prefix: str = "") -> Document:
    """Returns the policy of an access key of S3 or MinIO."""
    arn = f"arn:aws:s3:::{bucket}"
    statements = [
        _allow([f"s3:{action}" for action in ACTIONS[use]], [f"{arn}/{key}" for key in _keys(use, prefix)])
    ]
    if use is Use.ARCHIVE:
        listed = {"StringLike": {"s3:prefix": _below(prefix)}}
        statements.append({**_allow(["s3:ListBucket"], [arn]), "Condition": listed})
    return {"Version": "2012-10-17", "Statement": statements}


def oss_policy(use: Use, bucket: str, prefix: str = "") -> Document:
    """Returns the policy of a RAM user or role for a bucket of OSS."""
    arn = f"acs:oss:*:*:{bucket}"
    statements = [
        _allow([f"oss:{action}" for action in ACTIONS[use]], [f"{arn}/{key}" for key in _keys(use, prefix)]),
        _allow(["oss:GetBucketInfo"], [arn]),
    ]
    if use is Use.ARCHIVE:
        listed = {"StringLike": {"oss:Prefix": _below(prefix)}}
        statements.append({**_allow(["oss:ListObjects"], [arn]), "Condition": listed})
    return {"Version": "1", "Statement": statements}


def sls_policy(place: str) -> Document:
    """Returns the policy of a RAM user or role for `project/logstore` of Log Service. Raises InputError."""
    project, _, logstore = place.partition("/")
    if not project or not logstore or any(sign in place for sign in "*:$ "):
        raise InputError(f"{place!r}: expected project/logstore, as in operations/executions")
    arn = f"acs:log:*:*:project/{project}"
    return {
        "Version": "1",
        "Statement": [
            _allow([f"log:{action}" for action in _LOG_PROJECT], [arn]),
            _allow([f"log:{action}" for action in _LOG_STORE], [f"{arn}/logstore/{logstore}"]),
        ],
    }


def sqs_policy(queue: str) -> Document:
    """Returns the policy of a sender to a queue of SQS, by its name or ARN. Raises InputError.

    `SendMessage` allows batches too (Amazon SQS API permissions: actions and resource reference).
    """
    if not _QUEUE.fullmatch(queue):
        raise InputError(
            f"{queue!r}: expected a queue, as in events or arn:aws:sqs:eu-central-1:123456789012:events"
        )
    arn = queue if queue.startswith("arn:") else f"arn:aws:sqs:*:*:{queue}"
    return {"Version": "2012-10-17", "Statement": [_allow(["sqs:SendMessage"], [arn])]}


def kafka_acls(acls: Iterable[Acl]) -> Document:
    """Returns ACLs whose principals are the names of the roles."""
    data = [
        {
            "resource_type": acl.resource.upper(),
            "resource_name": acl.name or "*",
            "pattern_type": "PREFIXED" if acl.prefixed and acl.name else "LITERAL",
            "principal": f"User:{acl.role}",
            "host": "*",
            "operation": _UPPER[operation],
            "permission": "ALLOW",
        }
        for acl in acls
        for operation in acl.operations
    ]
    return {"data": data}


_UPPER = {
    "Read": "READ",
    "Write": "WRITE",
    "Describe": "DESCRIBE",
    "Delete": "DELETE",
    "DescribeConfigs": "DESCRIBE_CONFIGS",
}


def _keys(use: Use, prefix: str) -> Sequence[str]:
    base = f"{prefix}/" if prefix else ""
    if use is Use.RESULTS:
        return [f"{base}{COMMANDS}/*", f"{base}{FILES}/*"]
    return [f"{base}*"]


def _below(prefix: str) -> Sequence[str]:
    return [f"{prefix}/*"] if prefix else ["*"]


def _allow(actions: Sequence[str], resources: Sequence[str]) -> Document:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
