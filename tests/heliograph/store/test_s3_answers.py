"""`S3Store` with answers that are late, lost or wrong: a proxy between the store and a real server lies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heliograph.store.base import ObjectStore
from heliograph.store.s3 import S3Store, client, store
from heliograph.store.s3.location import parse_location
from schemas.errors import StoreRefused, StoreUnavailable
from tests.conformance.store import keys_of
from tests.services.lying_proxy import Lie, Proxy, lying
from tests.services.minio import minio
from tests.services.s3 import ENVIRONMENT, Service
from tests.services.seaweedfs import seaweedfs

__all__ = ["minio", "seaweedfs"]

PART = 5 * 2**20
UNCLEAR = [Lie.FAIL_AFTER, Lie.CUT_AFTER, Lie.HANG_AFTER]
NOT_DONE = [Lie.FAIL_BEFORE, Lie.CUT_BEFORE, Lie.HANG_BEFORE, Lie.CONFLICT, Lie.SLOW_DOWN]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(store, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(client, "READ_SECONDS", 3.0)


@pytest.fixture(params=["seaweedfs", "minio"])
def service(request: pytest.FixtureRequest) -> Service:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Service)
    return found


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    with lying(service.endpoint) as found:
        yield found


@pytest.fixture
def bucket(service: Service) -> str:
    return service.bucket()


@pytest.fixture
def lied_to(service: Service, proxy: Proxy, bucket: str) -> Iterator[S3Store]:
    found = S3Store(parse_location(service.url(bucket, endpoint=proxy.endpoint)), part_size=PART)
    yield found
    found.close()


@pytest.fixture
def honest(service: Service, bucket: str) -> Iterator[ObjectStore]:
    found = S3Store(parse_location(service.url(bucket)))
    yield found
    found.close()


@pytest.mark.parametrize("lie", [*UNCLEAR, *NOT_DONE])
def test_a_write_that_fails_once_is_retried(
    lied_to: S3Store, proxy: Proxy, honest: ObjectStore, lie: Lie
) -> None:
    proxy.lies = [lie]
    assert lied_to.put_new("a", b"mine")
    assert not proxy.lies
    assert proxy.count("PUT") == 2
    assert honest.get("a") == b"mine"


@pytest.mark.parametrize("lie", [Lie.FAIL_AFTER, Lie.CUT_BEFORE, Lie.CONFLICT])
def test_a_taken_key_stays_taken_after_a_lost_answer(
    lied_to: S3Store, proxy: Proxy, honest: ObjectStore, lie: Lie
) -> None:
    """The existing object has the same bytes, but another writer stored it."""
    honest.put_new("a", b"the same")
    proxy.lies = [lie]
    assert not lied_to.put_new("a", b"the same")


@pytest.mark.parametrize("lie", [Lie.FAIL_AFTER, Lie.CUT_AFTER])
def test_a_write_without_any_answer_raises_store_unavailable(
    lied_to: S3Store, proxy: Proxy, honest: ObjectStore, lie: Lie
) -> None:
    proxy.lies = [lie] * 3
    with pytest.raises(StoreUnavailable, match="retried later"):
        lied_to.put_new("a", b"mine")
    assert honest.get("a") == b"mine"


def test_a_write_whose_answer_and_owner_stay_unknown_raises_store_unavailable(
    lied_to: S3Store, proxy: Proxy, honest: ObjectStore
) -> None:
    """The write is done, its answer is lost, and reading the object's id fails, too."""
    proxy.wanted = lambda asked: asked.method in {"PUT", "HEAD"}
    proxy.lies = [Lie.FAIL_AFTER]
    original = proxy.lie_to
    proxy.lie_to = lambda asked: Lie.CUT_BEFORE if asked.method == "HEAD" else original(asked)  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        lied_to.put_new("a", b"mine")
    assert honest.get("a") == b"mine"


def test_a_burst_of_slow_down_is_retried(lied_to: S3Store, proxy: Proxy, honest: ObjectStore) -> None:
    proxy.lies = [Lie.SLOW_DOWN] * 2
    assert lied_to.put_new("a", b"1")
    proxy.lies = [Lie.SLOW_DOWN] * 3
    with pytest.raises(StoreUnavailable, match=r"fewer requests.*SlowDown"):
        lied_to.put_new("b", b"2")
    assert keys_of(honest) == ["a"]


@pytest.mark.parametrize("lie", [Lie.HALF, Lie.FAIL_BEFORE, Lie.CUT_BEFORE, Lie.HANG_BEFORE])
def test_failed_reads_are_retried(lied_to: S3Store, proxy: Proxy, lie: Lie) -> None:
    lied_to.put("a", b"x" * 100_000)
    proxy.wanted = lambda asked: asked.method == "GET"
    proxy.lies = [lie]
    assert lied_to.get("a") == b"x" * 100_000
    proxy.lies = [lie]
    assert keys_of(lied_to) == ["a"]


@pytest.mark.parametrize("lie", [Lie.FAIL_AFTER, Lie.CUT_AFTER])
@pytest.mark.parametrize("write", ["put", "put_new"])
def test_an_upload_whose_last_answer_was_lost_is_recognised_as_done(
    lied_to: S3Store, proxy: Proxy, honest: ObjectStore, lie: Lie, write: str
) -> None:
    body = b"x" * (PART + 1)
    proxy.wanted = lambda asked: asked.method == "POST" and "uploadId=" in asked.path
    proxy.lies = [lie]
    assert getattr(lied_to, write)("a", body) in {True, None}
    assert not proxy.lies
    assert honest.get("a") == body
    assert not lied_to.put_new("a", body)


def test_a_failed_upload_leaves_no_parts(
    service: Service, lied_to: S3Store, proxy: Proxy, bucket: str
) -> None:
    proxy.wanted = lambda asked: "partNumber=2" in asked.path
    proxy.lies = [Lie.FAIL_BEFORE] * 3
    with pytest.raises(StoreUnavailable, match="part 2 of a"):
        lied_to.put_new("a", b"x" * (PART + 1))
    assert not service.client().list_multipart_uploads(Bucket=bucket, Prefix="a").get("Uploads")
    assert lied_to.put_new("a", b"x" * (PART + 1))


def test_a_part_that_fails_once_is_retried(lied_to: S3Store, proxy: Proxy) -> None:
    proxy.wanted = lambda asked: "partNumber=" in asked.path
    proxy.lies = [Lie.CUT_AFTER, Lie.SLOW_DOWN]
    body = bytes(range(256)) * 30_000
    assert lied_to.put_new("a", body)
    assert lied_to.get("a") == body


def test_a_refusal_because_of_the_clock_says_to_synchronise_it(lied_to: S3Store, proxy: Proxy) -> None:
    proxy.lies = [Lie.SKEW] * 3
    with pytest.raises(StoreUnavailable, match=r"synchronise the clock.*RequestTimeTooSkewed"):
        lied_to.put_new("a", b"")


def test_a_bucket_in_another_region_is_refused_with_its_region(lied_to: S3Store, proxy: Proxy) -> None:
    proxy.lies = [Lie.REGION] * 2
    with pytest.raises(StoreRefused, match=r"another region; set region=.*PermanentRedirect"):
        lied_to.put_new("a", b"")


def test_a_store_that_is_down_raises_store_unavailable(lied_to: S3Store, proxy: Proxy) -> None:
    proxy.down = True
    with pytest.raises(StoreUnavailable, match="connection broke off"):
        lied_to.get("a")
    assert len(proxy.asked) == 3


def test_an_endpoint_without_a_server_raises_store_unavailable(service: Service) -> None:
    found = S3Store(parse_location(service.url("bucket", endpoint="http://127.0.0.1:9")))
    with pytest.raises(
        StoreUnavailable, match=r"cannot be reached; check the endpoint.*EndpointConnectionError"
    ):
        found.put_new("a", b"")
    found.close()
