"""What the demo borrows has a name of its own, and is given back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from heliograph.demo.parts import borrowed
from heliograph.store.open import open_store
from schemas.errors import InvalidConfiguration


def test_nothing_is_borrowed_unless_it_is_named() -> None:
    with borrowed("demo", "", "") as parts:
        assert (parts.name, parts.bus.url, parts.archive.url, parts.objects) == ("", "", "", "")


def test_a_store_is_used_below_a_name_and_left_as_it_was(tmp_path: Path) -> None:
    with closing(open_store(tmp_path.as_uri())) as store:
        store.put("others/object", b"1")
        with borrowed("demo", "", tmp_path.as_uri()) as parts:
            assert parts.archive.url == f"{tmp_path.as_uri()}/{parts.name}/archive"
            for url in (parts.archive.url, parts.objects):
                with closing(open_store(url)) as used:
                    used.put("a/b", b"2")
            assert len(list(store.list(parts.name))) == 2
        assert [info.key for info in store.list("")] == ["others/object"]


@pytest.mark.parametrize(
    ("bus", "archive", "says"),
    [
        ("sqlite:///tmp/bus.db", "", "--bus"),
        ("kafka://a:1?namespace=production", "", "bus.namespace"),
        ("", "memory://", "--archive"),
    ],
)
def test_where_no_name_of_its_own_is_possible_it_does_not_begin(bus: str, archive: str, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says), borrowed("demo", bus, archive):
        pytest.fail("begun")
