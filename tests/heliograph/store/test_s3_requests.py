"""Requests of `S3Store`, recorded by a server with prepared answers."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from heliograph.store.base import ObjectStore
from heliograph.store.open import open_store
from heliograph.store.s3 import S3Store, store
from heliograph.store.s3.location import parse_location
from schemas.errors import StoreRefused, StoreUnavailable
from tests.services.faulty_proxy import Answer, Asked, recording
from tests.services.s3 import ENVIRONMENT

KEYS = "&access_key=env:S3_TESTS_KEY&secret_key=env:S3_TESTS_SECRET"
PART = 5 * 2**20
TAKEN = Answer(409, {}, b"<Error><Code>FileAlreadyExists</Code></Error>")
STORED = Answer(200, {"ETag": '"e"'})


@pytest.fixture(autouse=True)
def sink_context(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(store, "PAUSES", (0.0, 0.0))
    original = socket.getaddrinfo

    def everything_here(host: str, *arguments: Any, **more: Any) -> Any:
        return original("127.0.0.1" if host.endswith(".localhost") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", everything_here)


def opened(endpoint: str, more: str = "", prefix: str = "p") -> ObjectStore:
    return open_store(f"s3://bucket/{prefix}?endpoint={endpoint}{KEYS}{more}")


def oss(endpoint: str) -> ObjectStore:
    return opened(endpoint.replace("127.0.0.1", "localhost"), "&flavor=oss&region=cn-hangzhou")


def lower(asked: Asked) -> dict[str, str]:
    return {name.lower(): value for name, value in asked.headers.items()}


def multipart(asked: Asked) -> Answer:
    """Answers as a store that accepts uploads in parts."""
    if asked.method == "GET" and "uploads" in asked.path:
        return Answer(200, {}, b"<ListMultipartUploadsResult/>")
    if asked.method == "POST" and "uploads" in asked.path:
        return Answer(200, {}, b"<R><UploadId>u1</UploadId></R>")
    if asked.method == "POST":
        return Answer(
            200, {}, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
        )
    return STORED


def test_a_new_object_on_s3_is_written_under_the_condition() -> None:
    with recording(lambda _: STORED) as (endpoint, seen):
        assert opened(endpoint).put_new("a/b", b"body")
    (asked,) = seen
    headers = lower(asked)
    assert (asked.method, asked.path, asked.body) == ("PUT", "/bucket/p/a/b", b"body")
    assert headers["if-none-match"] == "*"
    assert headers["content-length"] == "4"
    assert headers["x-amz-content-sha256"] == sha256(b"body").hexdigest()
    assert "if-none-match" in headers["authorization"]
    assert not {"x-amz-server-side-encryption", "x-amz-storage-class", "transfer-encoding"} & set(headers)


def test_put_sends_no_condition() -> None:
    with recording(lambda _: STORED) as (endpoint, seen):
        opened(endpoint).put("a", b"")
        oss(endpoint).put("a", b"")
    for asked in seen:
        assert not {"if-none-match", "x-oss-forbid-overwrite"} & set(lower(asked))


@pytest.mark.parametrize("size", [10, PART + 1])
def test_encryption_and_storage_class_are_sent_with_a_write(size: int) -> None:
    settings = "&sse=aws:kms&kms_key=k1&storage_class=STANDARD_IA"
    with recording(multipart) as (endpoint, seen):
        found = S3Store(parse_location(f"s3://bucket?endpoint={endpoint}{KEYS}{settings}"), part_size=PART)
        assert found.put_new("a", b"x" * size)
    first = next(asked for asked in seen if asked.method in {"PUT", "POST"})
    headers = lower(first)
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "k1"
    assert headers["x-amz-storage-class"] == "STANDARD_IA"


def test_only_the_completion_of_an_upload_carries_the_condition() -> None:
    with recording(multipart) as (endpoint, seen):
        found = S3Store(parse_location(f"s3://bucket?endpoint={endpoint}{KEYS}"), part_size=PART)
        assert found.put_new("a", b"x" * (PART + 1))
    assert [(asked.method, "if-none-match" in lower(asked)) for asked in seen] == [
        ("GET", False),
        ("POST", False),
        ("PUT", False),
        ("PUT", False),
        ("POST", True),
    ]
    assert [len(asked.body) for asked in seen[2:4]] == [PART, 1]
    assert not any("aws-chunked" in lower(asked).get("content-encoding", "") for asked in seen)


def test_a_new_object_on_oss_is_written_under_its_own_condition() -> None:
    with recording(lambda _: STORED) as (endpoint, seen):
        assert oss(endpoint).put_new("a/b", b"body")
    (asked,) = seen
    headers = lower(asked)
    assert (asked.path, asked.body) == ("/p/a/b", b"body")
    assert headers["host"].startswith("bucket.localhost:")
    assert headers["x-oss-forbid-overwrite"] == "true"
    assert "x-oss-forbid-overwrite" in headers["authorization"]
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256")
    assert headers["x-amz-content-sha256"] == sha256(b"body").hexdigest()
    assert "if-none-match" not in headers
    assert "transfer-encoding" not in headers
    assert "aws-chunked" not in headers.get("content-encoding", "")


def test_an_upload_on_oss_completes_under_its_own_condition() -> None:
    location = "s3://bucket?flavor=oss&endpoint={}" + KEYS
    with recording(multipart) as (endpoint, seen):
        found = S3Store(
            parse_location(location.format(endpoint.replace("127.0.0.1", "localhost"))), part_size=PART
        )
        assert found.put_new("a", b"x" * (PART + 1))
    assert lower(seen[-1])["x-oss-forbid-overwrite"] == "true"
    assert not any("aws-chunked" in lower(asked).get("content-encoding", "") for asked in seen)
    assert not any("if-none-match" in lower(asked) for asked in seen)


def test_a_taken_key_on_oss_gives_false() -> None:
    there = Answer(200, {"Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"})
    with recording(lambda asked: there if asked.method == "HEAD" else TAKEN) as (endpoint, _):
        assert not oss(endpoint).put_new("a", b"")


@pytest.mark.parametrize("header", ["x-oss-version-id", "x-amz-version-id"])
def test_a_versioned_bucket_on_oss_is_refused(header: str) -> None:
    with recording(lambda _: Answer(200, {"ETag": '"e"', header: "null"})) as (endpoint, _):
        with pytest.raises(StoreRefused, match="versioned bucket"):
            oss(endpoint).put_new("a", b"")
        assert opened(endpoint).put_new("a", b"")


def test_a_taken_key_without_an_object_raises_store_unavailable() -> None:
    """The object was deleted meanwhile, or the key is a folder that the store does not list."""
    answers = {"PUT": Answer(412), "HEAD": Answer(404)}
    with (
        recording(lambda asked: answers[asked.method]) as (endpoint, _),
        pytest.raises(StoreUnavailable, match="a moment later none has"),
    ):
        opened(endpoint).put_new("a", b"")


def test_a_store_without_the_condition_is_refused() -> None:
    with (
        recording(lambda _: Answer(501, {}, b"<Error><Code>NotImplemented</Code></Error>")) as (endpoint, _),
        pytest.raises(StoreRefused, match=r"not fit for an archive.*NotImplemented"),
    ):
        opened(endpoint).put_new("a", b"")


def listing(*keys: str) -> Answer:
    one = "<Contents><Key>{}</Key><Size>1</Size><LastModified>2026-11-23T10:00:00Z</LastModified></Contents>"
    return Answer(200, {}, f"<R>{''.join(map(one.format, keys))}</R>".encode())


def test_a_listing_out_of_order_is_refused() -> None:
    with (
        recording(lambda _: listing("p/a/b", "p/a-b")) as (endpoint, _),
        pytest.raises(StoreRefused, match="lists a-b out of order"),
    ):
        list(opened(endpoint).list(""))


def test_listed_keys_that_break_our_rules_are_skipped() -> None:
    with recording(lambda _: listing("p/", "p/a", "p/b/", "p/c//d", "p/e")) as (endpoint, _):
        assert [info.key for info in opened(endpoint).list("")] == ["a", "e"]


def test_uploads_left_by_crashes_are_aborted_once_old() -> None:
    young, old = (datetime.now(UTC) - timedelta(hours=hours) for hours in (1, 25))
    uploads = "".join(
        f"<Upload><Key>p/k</Key><UploadId>{name}</UploadId><Initiated>{when.isoformat()}</Initiated></Upload>"
        for name, when in (("young", young), ("old", old))
    )

    def respond(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer(200, {}, f"<R>{uploads}</R>".encode())
        return multipart(asked)

    with recording(respond) as (endpoint, seen):
        found = S3Store(parse_location(f"s3://bucket/p?endpoint={endpoint}{KEYS}"), part_size=PART)
        found.put("a", b"x" * (PART + 1))
        found.put("b", b"x" * (PART + 1))
    assert "prefix=p%2F" in seen[0].path
    assert [asked.path for asked in seen if asked.method == "DELETE"] == ["/bucket/p/k?uploadId=old"]
    assert sum(asked.method == "GET" for asked in seen) == 1


def test_a_write_succeeds_if_the_store_refuses_to_list_uploads() -> None:
    def respond(asked: Asked) -> Answer:
        return (
            Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
            if asked.method == "GET"
            else multipart(asked)
        )

    with recording(respond) as (endpoint, _):
        S3Store(parse_location(f"s3://bucket/p?endpoint={endpoint}{KEYS}"), part_size=PART).put(
            "a", b"x" * (PART + 1)
        )
