from pathlib import Path

import pytest

from heliograph.store.open import open_store
from schemas.errors import InputError


def test_a_file_url_opens_a_folder(tmp_path: Path) -> None:
    store = open_store((tmp_path / "with space").as_uri())
    store.put("a", b"1")
    assert (tmp_path / "with space/a").read_bytes() == b"1"
    assert store.url == (tmp_path / "with space").as_uri()


def test_the_memory_url_opens_a_store_in_memory() -> None:
    store = open_store("memory://")
    assert store.url == "memory://"
    assert open_store("memory://") is not store


@pytest.mark.parametrize("url", ["", "file", "ftp://host/x", "/some/path"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(InputError, match=r"file://, memory://, s3://"):
        open_store(url)


@pytest.mark.parametrize("url", ["file://relative/path", "file://", "file:///a?b=c", "memory://named"])
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="write"):
        open_store(url)


def test_an_s3_url_opens_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "shown-nowhere")
    store = open_store("s3://bucket/prefix?access_key=env:A_KEY&secret_key=env:A_KEY")
    assert store.url == "s3://bucket/prefix?style=virtual&flavor=s3&access_key=env:A_KEY&secret_key=env:A_KEY"
    store.close()


def test_a_refused_url_is_not_shown_because_it_may_hold_a_secret() -> None:
    with pytest.raises(InputError, match="'s4'…: unknown kind") as caught:
        open_store("s4://user:hunter2@bucket?secret_key=hunter2")
    assert "hunter2" not in str(caught.value)
