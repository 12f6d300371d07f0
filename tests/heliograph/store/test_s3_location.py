from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.store.open import open_store
from heliograph.store.s3.location import Flavor, Location, Style, parse_location
from schemas.errors import InputError
from schemas.secrets import Secret

EVERYTHING = (
    "s3://bucket/a/b?endpoint=https://s3.example.com&region=eu-central-1&style=virtual&sse=aws:kms&kms_key=k1"
    "&storage_class=STANDARD_IA&flavor=s3&access_key=env:KEY&secret_key=file:/run/secret"
)


def test_a_url_sets_every_field() -> None:
    assert parse_location(EVERYTHING) == Location(
        bucket="bucket",
        prefix="a/b",
        endpoint="https://s3.example.com",
        region="eu-central-1",
        style=Style.VIRTUAL,
        flavor=Flavor.S3,
        sse="aws:kms",
        kms_key="k1",
        storage_class="STANDARD_IA",
        access_key=Secret("env:KEY"),
        secret_key=Secret("file:/run/secret"),
    )


@pytest.mark.parametrize(
    ("url", "style"),
    [
        ("s3://bucket", Style.VIRTUAL),
        ("s3://bucket?endpoint=http://127.0.0.1:9000", Style.PATH),
        ("s3://bucket?endpoint=http://127.0.0.1:9000&style=virtual", Style.VIRTUAL),
        ("s3://bucket?endpoint=https://s3.oss-cn-hangzhou.aliyuncs.com&flavor=oss", Style.VIRTUAL),
    ],
)
def test_the_default_style_depends_on_endpoint_and_flavor(url: str, style: Style) -> None:
    assert parse_location(url).style is style


@given(
    st.lists(st.text("aé %+&=?-", min_size=1, max_size=5), max_size=3).map("/".join),
    st.sampled_from(["", "AES256"]),
    st.sampled_from(["", "http://127.0.0.1:9000"]),
    st.sampled_from([None, Secret("env:A_KEY"), Secret("file:/a b/&c")]),
)
def test_the_url_of_a_location_parses_to_the_same_location(
    prefix: str, sse: str, endpoint: str, key: Secret | None
) -> None:
    query = f"sse={sse}&" * bool(sse) + f"endpoint={quote(endpoint)}&" * bool(endpoint)
    if key:
        query += f"access_key={quote(key.written)}&secret_key={quote(key.written)}"
    location = parse_location(f"s3://bucket/{quote(prefix)}?{query}")
    assert location.prefix == prefix
    assert parse_location(location.url) == location


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://", "write s3://bucket/prefix"),
        ("s3://user:hunter2@bucket/x", "write s3://bucket/prefix"),
        ("s3://bucket/a/../b", "prefix: must be relative"),
        ("s3://bucket/a#b", "%23"),
        ("s3://bucket?regoin=x", "'regoin' is unknown; known are endpoint, region"),
        ("s3://bucket?region=a&region=b", "region: is given twice"),
        ("s3://bucket?region=", "region: write"),
        ("s3://bucket?endpoint=localhost:9000", "endpoint: write http://host:port"),
        ("s3://bucket?endpoint=http://host:port", "endpoint: write http://host:port"),
        ("s3://bucket?endpoint=http://user:hunter2@host", "endpoint: write http://host:port"),
        ("s3://bucket?style=dns", "style: write path or virtual"),
        ("s3://bucket?flavor=gcs", "flavor: write s3 or oss"),
        ("s3://bucket?sse=yes", "sse: write AES256 or aws:kms"),
        ("s3://bucket?kms_key=k", "kms_key: needs sse=aws:kms"),
        ("s3://bucket?storage_class=a%20b", "storage_class: write"),
        ("s3://bucket?access_key=env:A", "give both, or none"),
        ("s3://bucket?access_key=env:A&secret_key=hunter2", "secret_key: write env:NAME or file:PATH"),
        ("s3://bucket?access_key=env:A&secret_key=env:", "secret_key: write env:NAME or file:PATH"),
        ("s3://bucket?flavor=oss", "endpoint: OSS needs it"),
        ("s3://bucket?flavor=oss&endpoint=https://h&style=path", "style: OSS supports virtual only"),
    ],
)
def test_problems_are_named_without_showing_values(url: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        open_store(url)
    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_problem_is_listed() -> None:
    with pytest.raises(InputError, match=r"s3://bucket: .*style.*; .*sse.*; .*both"):
        parse_location("s3://bucket?style=x&sse=y&access_key=env:A")


def test_a_reference_to_a_missing_secret_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(InputError, match="the environment has no variable NO_SUCH_KEY"):
        open_store(f"s3://bucket?access_key=env:NO_SUCH_KEY&secret_key=file:{tmp_path}")
