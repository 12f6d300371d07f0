"""`S3Store` passes the conformance suite on real S3 servers, and a second client reads its objects."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from urllib.parse import urlsplit

import pytest
from minio import Minio

from heliograph.store.base import ObjectStore
from heliograph.store.open import open_store
from heliograph.store.probe import probe
from heliograph.store.s3 import S3Store
from heliograph.store.s3.location import parse_location
from heliograph.store.s3.upload import PART_SIZE
from schemas.errors import ObjectMissing, StoreRefused, StoreUnavailable
from tests.conformance.store import SharedStoreConformance, keys_of, write_and_delete
from tests.services.minio import minio
from tests.services.minio import run as run_minio
from tests.services.obtain import Unavailable, unavailable
from tests.services.s3 import ACCESS_KEY, ENVIRONMENT, READER_KEY, SECRET_KEY, Service
from tests.services.seaweedfs import seaweedfs

__all__ = ["minio", "seaweedfs"]

SERVICES = ["seaweedfs", "minio"]
PART = 5 * 2**20


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Service)
    return found


def opened(service: Service) -> Iterator[ObjectStore]:
    store = open_store(service.url(service.bucket()))
    yield store
    store.close()


class TestSeaweedFS(SharedStoreConformance):
    @pytest.fixture
    def store(self, seaweedfs: Service) -> Iterator[ObjectStore]:
        yield from opened(seaweedfs)

    @pytest.mark.xfail(
        raises=StoreUnavailable, reason="keeps an emptied folder for a minute, and takes its key for taken"
    )
    def test_delete_frees_the_folders_of_the_key(self, store: ObjectStore) -> None:
        super().test_delete_frees_the_folders_of_the_key(store)


class TestMinIO(SharedStoreConformance):
    @pytest.fixture
    def store(self, minio: Service) -> Iterator[ObjectStore]:
        yield from opened(minio)

    def test_concurrent_writes_and_deletes_in_one_folder_succeed(self, store: ObjectStore) -> None:
        """Keeps one object: MinIO answers AccessDenied to a write while the last object of its folder is being deleted."""
        store.put("deep/er/stays", b"")
        write_and_delete(store)
        assert keys_of(store) == ["deep/er/stays"]


@pytest.fixture
def second(service: Service) -> Minio:
    """Another client library, as a second opinion."""
    return Minio(urlsplit(service.endpoint).netloc, ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1")


def read_by_minio(client: Minio, bucket: str, key: str) -> bytes:
    answer = client.get_object(bucket, key)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def test_another_client_reads_our_objects(service: Service, second: Minio) -> None:
    bucket = service.bucket()
    store = open_store(service.url(bucket, "deep/er"))
    bodies = {"a/é ü+%.avro": b"body", "empty": b"", "large": bytes(range(256)) * 2**17}
    for key, body in bodies.items():
        assert store.put_new(key, body)
    store.close()
    found = {each.object_name: each.size for each in second.list_objects(bucket, recursive=True)}
    assert found == {f"deep/er/{key}": len(body) for key, body in bodies.items()}
    for key, body in bodies.items():
        assert sha256(read_by_minio(second, bucket, f"deep/er/{key}")).digest() == sha256(body).digest()


def test_stores_of_different_prefixes_share_no_objects(service: Service, second: Minio) -> None:
    bucket = service.bucket()
    outer, inner, beside = (open_store(service.url(bucket, prefix)) for prefix in ("", "a", "a-b"))
    inner.put("x", b"1")
    beside.put("y", b"2")
    second.put_object(bucket, "a/folder/", BytesIO(), 0)
    assert keys_of(inner) == ["x"]
    assert keys_of(beside) == ["y"]
    assert keys_of(outer) == ["a-b/y", "a/x"]
    assert outer.get("a/x") == b"1"
    with pytest.raises(StoreRefused, match="1024 bytes"):
        inner.put("/".join(["x" * 255] * 4), b"")
    for store in (outer, inner, beside):
        store.close()


@pytest.mark.parametrize("size", [0, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1])
def test_objects_as_large_as_whole_parts_and_a_byte_less_or_more(service: Service, size: int) -> None:
    store = S3Store(parse_location(service.url(service.bucket())), part_size=PART)
    body, other = b"a" * size, b"b" * size + b"!"
    assert store.put_new("x", body)
    assert not store.put_new("x", other)
    assert store.get("x") == body
    store.put("x", other)
    assert store.get("x") == other
    assert keys_of(store) == ["x"]
    store.close()


def test_a_writer_that_loses_a_race_leaves_no_parts(service: Service) -> None:
    bucket = service.bucket()
    store = S3Store(parse_location(service.url(bucket)), part_size=PART)
    body = b"a" * (PART + 1)
    assert store.put_new("x", body)
    assert not store.put_new("x", body)
    assert not service.client().list_multipart_uploads(Bucket=bucket, Prefix="x").get("Uploads")
    store.close()


def test_the_default_part_size_is_one_that_s3_accepts() -> None:
    assert PART_SIZE >= 5 * 2**20


def test_a_listing_of_several_pages_is_complete_and_ordered(service: Service) -> None:
    store = open_store(service.url(service.bucket(), "p"))
    wanted = [f"a/{number:05}" for number in range(1100)]
    for key in wanted:
        store.put(key, b"")
    assert keys_of(store, "a/") == wanted
    assert keys_of(store, "a/", after="a/00049") == wanted[50:]
    store.close()


def test_the_probe_leaves_no_object(service: Service) -> None:
    store = open_store(service.url(service.bucket()))
    probe(store)
    assert keys_of(store) == []
    store.close()


def test_a_missing_bucket_is_refused_with_the_remedy(service: Service) -> None:
    store = open_store(service.url("no-such-bucket"))
    for act in (lambda: store.put_new("a", b""), lambda: store.get("a"), lambda: list(store.list(""))):
        with pytest.raises(
            StoreRefused, match=r"^s3://no-such-bucket: .* the bucket does not exist; create it.*NoSuchBucket"
        ):
            act()
    store.close()


def test_wrong_access_keys_are_refused_with_the_remedy(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = service.bucket()
    monkeypatch.setenv("S3_TESTS_SECRET", "wrong-secret")
    store = open_store(service.url(bucket))
    with pytest.raises(StoreRefused, match=r"secret_key.*SignatureDoesNotMatch") as caught:
        store.put_new("a", b"")
    assert "wrong-secret" not in str(caught.value)
    store.close()
    monkeypatch.setenv("S3_TESTS_KEY", "nobody")
    store = open_store(service.url(bucket))
    with pytest.raises(StoreRefused, match=r"access_key.*InvalidAccessKeyId"):
        store.get("a")
    store.close()


def test_a_missing_object_is_named_with_its_store(service: Service) -> None:
    bucket = service.bucket()
    store = open_store(service.url(bucket, "p"))
    with pytest.raises(ObjectMissing, match=rf"s3://{bucket}/p: get a/b: no such object"):
        store.get("a/b")
    store.close()


def test_an_access_key_that_may_only_read_is_refused_at_a_write(
    seaweedfs: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = seaweedfs.bucket()
    owner = open_store(seaweedfs.url(bucket))
    owner.put("a", b"1")
    monkeypatch.setenv("S3_TESTS_KEY", READER_KEY)
    reader = open_store(seaweedfs.url(bucket))
    assert reader.get("a") == b"1"
    for act in (lambda: reader.put_new("b", b""), lambda: reader.put("a", b""), lambda: reader.delete("a")):
        with pytest.raises(
            StoreRefused,
            match=r"not permitted; give this access key the permissions that `heliograph policy s3` prints.*AccessDenied",
        ):
            act()
    assert keys_of(owner) == ["a"]
    owner.close()
    reader.close()


def test_a_clock_that_is_an_hour_off_is_reported(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(service.url(service.bucket()))
    monkeypatch.setattr("botocore.auth.get_current_datetime", _an_hour_ago)
    with pytest.raises(StoreUnavailable, match=r"synchronise the clock \(NTP\) \(RequestTimeTooSkewed\)"):
        store.put_new("a", b"")
    store.close()


def _an_hour_ago(*_: object, **__: object) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)


@pytest.fixture
def elsewhere() -> Iterator[Service]:
    """Starts a server whose buckets are in another region."""
    try:
        found = run_minio(MINIO_SITE_REGION="eu-west-3")
    except Unavailable as error:
        unavailable(error)
        raise
    yield found
    found.stop()


def test_a_region_that_the_store_names_is_followed(elsewhere: Service) -> None:
    name = "elsewhere"
    Minio(
        urlsplit(elsewhere.endpoint).netloc, ACCESS_KEY, SECRET_KEY, secure=False, region="eu-west-3"
    ).make_bucket(name)
    right, wrong = (open_store(elsewhere.url(name, region=region)) for region in ("eu-west-3", "us-west-2"))
    assert right.put_new("a", b"1")
    assert wrong.put_new("b", b"2")
    assert not wrong.put_new("a", b"2")
    assert keys_of(right) == ["a", "b"]
    right.close()
    wrong.close()
