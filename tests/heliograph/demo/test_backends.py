"""The temporary backends of the demo and of chaos."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from heliograph.demo.backends import temporary_backends
from heliograph.store.open import open_store
from schemas.errors import InvalidConfiguration


def test_without_urls_no_service_is_used() -> None:
    with temporary_backends("demo", "", "") as backends:
        assert (backends.name, backends.bus.url, backends.archive.url, backends.objects) == ("", "", "", "")


def test_a_store_is_used_under_a_temporary_name_and_left_as_it_was(tmp_path: Path) -> None:
    with closing(open_store(tmp_path.as_uri())) as store:
        store.put("others/object", b"1")
        with temporary_backends("demo", "", tmp_path.as_uri()) as backends:
            assert backends.archive.url == f"{tmp_path.as_uri()}/{backends.name}/archive"
            for url in (backends.archive.url, backends.objects):
                with closing(open_store(url)) as used:
                    used.put("a/b", b"2")
            assert len(list(store.list(backends.name))) == 2
        assert [info.key for info in store.list("")] == ["others/object"]


@pytest.mark.parametrize(
    ("bus", "archive", "says"),
    [
        ("sqlite:///tmp/bus.db", "", "--bus"),
        ("kafka://a:1?namespace=production", "", "bus.namespace"),
        ("", "memory://", "--archive"),
    ],
)
def test_services_without_temporary_names_are_refused(bus: str, archive: str, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says), temporary_backends("demo", bus, archive):
        pytest.fail("begun")
