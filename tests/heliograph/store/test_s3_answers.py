"""`S3Store` with answers that are late, lost or wrong: a proxy between the store and a real server injects faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heliograph.store.base import ObjectStore
from heliograph.store.s3 import S3Store, client, store
from heliograph.store.s3.location import parse_location
from schemas.errors import StoreRefused, StoreUnavailable
from tests.conformance.store import keys_of
from tests.services.faulty_proxy import Fault, Proxy, run_proxy
from tests.services.minio import minio
from tests.services.s3 import ENVIRONMENT, Service
from tests.services.seaweedfs import seaweedfs

__all__ = ["minio", "seaweedfs"]

PART = 5 * 2**20
UNCLEAR = [Fault.FAIL_AFTER, Fault.CUT_AFTER, Fault.HANG_AFTER]
NOT_DONE = [Fault.FAIL_BEFORE, Fault.CUT_BEFORE, Fault.HANG_BEFORE, Fault.CONFLICT, Fault.SLOW_DOWN]


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
    with run_proxy(service.endpoint) as found:
        yield found


@pytest.fixture
def bucket(service: Service) -> str:
    return service.bucket()


@pytest.fixture
def through_proxy(service: Service, proxy: Proxy, bucket: str) -> Iterator[S3Store]:
    found = S3Store(parse_location(service.url(bucket, endpoint=proxy.endpoint)), part_size=PART)
    yield found
    found.close()


@pytest.fixture
def direct(service: Service, bucket: str) -> Iterator[ObjectStore]:
    found = S3Store(parse_location(service.url(bucket)))
    yield found
    found.close()


@pytest.mark.parametrize("fault", [*UNCLEAR, *NOT_DONE])
def test_a_write_that_fails_once_is_retried(
    through_proxy: S3Store, proxy: Proxy, direct: ObjectStore, fault: Fault
) -> None:
    proxy.faults = [fault]
    assert through_proxy.put_new("a", b"mine")
    assert not proxy.faults
    assert proxy.count("PUT") == 2
    assert direct.get("a") == b"mine"


@pytest.mark.parametrize("fault", [Fault.FAIL_AFTER, Fault.CUT_BEFORE, Fault.CONFLICT])
def test_a_taken_key_stays_taken_after_a_lost_answer(
    through_proxy: S3Store, proxy: Proxy, direct: ObjectStore, fault: Fault
) -> None:
    """The existing object has the same bytes, but another writer stored it."""
    direct.put_new("a", b"the same")
    proxy.faults = [fault]
    assert not through_proxy.put_new("a", b"the same")


@pytest.mark.parametrize("fault", [Fault.FAIL_AFTER, Fault.CUT_AFTER])
def test_a_write_without_any_answer_raises_store_unavailable(
    through_proxy: S3Store, proxy: Proxy, direct: ObjectStore, fault: Fault
) -> None:
    proxy.faults = [fault] * 3
    with pytest.raises(StoreUnavailable, match="retried later"):
        through_proxy.put_new("a", b"mine")
    assert direct.get("a") == b"mine"


def test_a_write_whose_answer_and_owner_stay_unknown_raises_store_unavailable(
    through_proxy: S3Store, proxy: Proxy, direct: ObjectStore
) -> None:
    """The write is done, its answer is lost, and reading the object's id fails, too."""
    proxy.wanted = lambda asked: asked.method in {"PUT", "HEAD"}
    proxy.faults = [Fault.FAIL_AFTER]
    original = proxy.take_fault
    proxy.take_fault = lambda asked: Fault.CUT_BEFORE if asked.method == "HEAD" else original(asked)  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        through_proxy.put_new("a", b"mine")
    assert direct.get("a") == b"mine"


def test_a_burst_of_slow_down_is_retried(through_proxy: S3Store, proxy: Proxy, direct: ObjectStore) -> None:
    proxy.faults = [Fault.SLOW_DOWN] * 2
    assert through_proxy.put_new("a", b"1")
    proxy.faults = [Fault.SLOW_DOWN] * 3
    with pytest.raises(StoreUnavailable, match=r"fewer requests.*SlowDown"):
        through_proxy.put_new("b", b"2")
    assert keys_of(direct) == ["a"]


@pytest.mark.parametrize("fault", [Fault.HALF, Fault.FAIL_BEFORE, Fault.CUT_BEFORE, Fault.HANG_BEFORE])
def test_failed_reads_are_retried(through_proxy: S3Store, proxy: Proxy, fault: Fault) -> None:
    through_proxy.put("a", b"x" * 100_000)
    proxy.wanted = lambda asked: asked.method == "GET"
    proxy.faults = [fault]
    assert through_proxy.get("a") == b"x" * 100_000
    proxy.faults = [fault]
    assert keys_of(through_proxy) == ["a"]


@pytest.mark.parametrize("fault", [Fault.FAIL_AFTER, Fault.CUT_AFTER])
@pytest.mark.parametrize("write", ["put", "put_new"])
def test_an_upload_whose_last_answer_was_lost_is_recognised_as_done(
    through_proxy: S3Store, proxy: Proxy, direct: ObjectStore, fault: Fault, write: str
) -> None:
    body = b"x" * (PART + 1)
    proxy.wanted = lambda asked: asked.method == "POST" and "uploadId=" in asked.path
    proxy.faults = [fault]
    assert getattr(through_proxy, write)("a", body) in {True, None}
    assert not proxy.faults
    assert direct.get("a") == body
    assert not through_proxy.put_new("a", body)


def test_a_failed_upload_leaves_no_parts(
    service: Service, through_proxy: S3Store, proxy: Proxy, bucket: str
) -> None:
    proxy.wanted = lambda asked: "partNumber=2" in asked.path
    proxy.faults = [Fault.FAIL_BEFORE] * 3
    with pytest.raises(StoreUnavailable, match="part 2 of a"):
        through_proxy.put_new("a", b"x" * (PART + 1))
    assert not service.client().list_multipart_uploads(Bucket=bucket, Prefix="a").get("Uploads")
    assert through_proxy.put_new("a", b"x" * (PART + 1))


def test_a_part_that_fails_once_is_retried(through_proxy: S3Store, proxy: Proxy) -> None:
    proxy.wanted = lambda asked: "partNumber=" in asked.path
    proxy.faults = [Fault.CUT_AFTER, Fault.SLOW_DOWN]
    body = bytes(range(256)) * 30_000
    assert through_proxy.put_new("a", body)
    assert through_proxy.get("a") == body


def test_a_refusal_because_of_the_clock_says_to_synchronise_it(through_proxy: S3Store, proxy: Proxy) -> None:
    proxy.faults = [Fault.SKEW] * 3
    with pytest.raises(StoreUnavailable, match=r"synchronise the clock.*RequestTimeTooSkewed"):
        through_proxy.put_new("a", b"")


def test_a_bucket_in_another_region_is_refused_with_its_region(through_proxy: S3Store, proxy: Proxy) -> None:
    proxy.faults = [Fault.REGION] * 2
    with pytest.raises(StoreRefused, match=r"another region; set region=.*PermanentRedirect"):
        through_proxy.put_new("a", b"")


def test_a_store_that_is_down_raises_store_unavailable(through_proxy: S3Store, proxy: Proxy) -> None:
    proxy.down = True
    with pytest.raises(StoreUnavailable, match="connection broke off"):
        through_proxy.get("a")
    assert len(proxy.asked) == 3


def test_an_endpoint_without_a_server_raises_store_unavailable(service: Service) -> None:
    found = S3Store(parse_location(service.url("bucket", endpoint="http://127.0.0.1:9")))
    with pytest.raises(
        StoreUnavailable, match=r"cannot be reached; check the endpoint.*EndpointConnectionError"
    ):
        found.put_new("a", b"")
    found.close()
