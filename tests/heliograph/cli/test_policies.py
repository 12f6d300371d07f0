"""`heliograph policy`: the documents that it prints, and the arguments that it refuses."""

from __future__ import annotations

import json

import pytest

from tests.heliograph.cli.conftest import Commands


@pytest.mark.parametrize(
    ("words", "action"),
    [
        ("s3 results audit/records", "s3:PutObject"),
        ("s3 objects audit", "s3:GetObject"),
        ("s3 archive s3://audit/events?region=eu-central-1", "s3:ListBucket"),
        ("oss results audit/records", "oss:GetBucketInfo"),
        ("sls operations/executions", "log:PostLogStoreLogs"),
        ("sqs events", "sqs:SendMessage"),
    ],
)
def test_a_policy_is_printed_as_json(call: Commands, words: str, action: str) -> None:
    document = json.loads(call.done("policy", *words.split()).out)
    assert action in [one for statement in document["Statement"] for one in statement["Action"]]


def test_acls_are_those_of_the_configured_bus(call: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "bus.url: is not a Kafka URL" in call.refused("policy", "kafka")
    monkeypatch.setenv("HELIOGRAPH_BUS_URL", "kafka://127.0.0.1:1?namespace=site")
    data = json.loads(call.done("policy", "kafka", "router").out)["data"]
    assert {one["principal"] for one in data} == {"User:router"}
    assert "site.executions" in {one["resource_name"] for one in data if one["resource_type"] == "GROUP"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("mqs queue", "policy 'mqs': no such kind; expected kafka, oss, s3, sls, sqs"),
        ("s3 results", "policy s3: expected results, objects, archive, and BUCKET/PREFIX"),
        ("s3 everything audit", "policy s3: expected results, objects, archive, and BUCKET/PREFIX"),
        ("s3 results *", "'*': expected bucket/prefix"),
        ("sls", "policy sls: expected PROJECT/LOGSTORE"),
        ("sls operations", "'operations': expected project/logstore"),
        ("sqs", "policy sqs: expected QUEUE"),
        ("sqs arn:aws:sqs:*:*:events", "'arn:aws:sqs:*:*:events': expected a queue"),
        ("kafka king", "policy kafka: expected one role or none; known are producer, router"),
    ],
)
def test_invalid_arguments_are_refused(call: Commands, words: str, says: str) -> None:
    assert says in call.refused("policy", *words.split())
