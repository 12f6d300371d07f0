"""Errors of boto3 and of the stores become store errors with one line of text."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from urllib3 import exceptions as urllib3

from heliograph.store.s3.errors import CODES, FAILURES, Foreign, KeyTaken, translated
from schemas.errors import ObjectMissing, StoreError, StoreRefused, StoreUnavailable


def answer(code: str, status: int, **more: str) -> ClientError:
    error = {"Code": code, "Message": "said\nso", **more}
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


def subclasses(root: type[Exception]) -> set[type[Exception]]:
    found = {root}
    for each in root.__subclasses__():
        found |= subclasses(each)
    return found


def kinds() -> list[type[Exception]]:
    found = subclasses(BotoCoreError) | subclasses(urllib3.HTTPError) | {OSError, TimeoutError}
    return sorted(found, key=lambda each: each.__name__)


@pytest.mark.parametrize("code", CODES)
def test_each_code_gives_a_message_of_one_line(code: str) -> None:
    error = translated(answer(code, 400), "s3://b: put k")
    assert isinstance(error, CODES[code].raises)
    assert str(error).startswith("s3://b: put k: ")
    assert str(error).endswith(f"({code})")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("code", "raised", "remedy"),
    [
        ("NoSuchBucket", StoreRefused, "create it"),
        ("AccessDenied", StoreRefused, "give this access key"),
        ("SignatureDoesNotMatch", StoreRefused, "correct secret_key"),
        ("InvalidAccessKeyId", StoreRefused, "correct access_key"),
        ("RequestTimeTooSkewed", StoreUnavailable, "synchronise the clock"),
        ("PermanentRedirect", StoreRefused, "set region="),
        ("AuthorizationHeaderMalformed", StoreRefused, "set region="),
        ("SlowDown", StoreUnavailable, "fewer requests"),
        ("InternalError", StoreUnavailable, "retried later"),
        ("NoSuchKey", ObjectMissing, "no such object"),
        ("PreconditionFailed", KeyTaken, "an object has this key"),
        ("FileAlreadyExists", KeyTaken, "an object has this key"),
    ],
)
def test_common_codes_name_their_remedy(code: str, raised: type[StoreError], remedy: str) -> None:
    error = translated(answer(code, 403), "x")
    assert type(error) is raised
    assert remedy in str(error)


def test_the_message_names_the_region_if_the_answer_does() -> None:
    error = translated(answer("AuthorizationHeaderMalformed", 400, Region="eu-west-3"), "x")
    assert "it is eu-west-3" in str(error)


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (500, StoreUnavailable),
        (503, StoreUnavailable),
        (599, StoreUnavailable),
        (400, StoreRefused),
        (418, StoreRefused),
    ],
)
def test_the_status_decides_about_an_unknown_code(status: int, raised: type[StoreError]) -> None:
    error = translated(answer("Whatever", status), "x")
    assert type(error) is raised
    assert f"({status} Whatever: said so)" in str(error)


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (403, StoreRefused),
        (404, ObjectMissing),
        (412, KeyTaken),
        (429, StoreUnavailable),
        (301, StoreRefused),
    ],
)
def test_the_status_decides_about_an_answer_without_a_body(status: int, raised: type[StoreError]) -> None:
    assert type(translated(answer(str(status), status), "x")) is raised


@pytest.mark.parametrize("kind", kinds())
def test_each_exception_of_the_libraries_gives_a_message_of_one_line(kind: type[Exception]) -> None:
    assert issubclass(kind, Foreign)
    new: Any = kind.__new__
    error: Exception = new(kind)
    Exception.__init__(error, "two\nlines")
    found = translated(error, "x")
    assert type(found) in {StoreUnavailable, StoreRefused}
    assert "\n" not in str(found)


def test_every_entry_of_the_table_belongs_to_an_exception() -> None:
    known = {each for _, each in inspect.getmembers(boto, inspect.isclass)}
    for kind in FAILURES:
        assert issubclass(kind, Foreign)
        assert kind in known or not kind.__module__.startswith("botocore")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (boto.EndpointConnectionError(endpoint_url="http://h"), StoreUnavailable),
        (boto.ReadTimeoutError(endpoint_url="http://h"), StoreUnavailable),
        (boto.ConnectionClosedError(endpoint_url="http://h"), StoreUnavailable),
        (boto.SSLError(endpoint_url="http://h", error="bad"), StoreRefused),
        (boto.NoCredentialsError(), StoreRefused),
        (ConnectionResetError(), StoreUnavailable),
    ],
)
def test_failures_without_an_answer_become_store_errors(error: Exception, raised: type[StoreError]) -> None:
    assert type(translated(error, "x")) is raised
