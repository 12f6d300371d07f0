"""Opening a bus by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.bus.memory import MemoryBus
from heliograph.bus.open import OPENERS, open_bus
from schemas.errors import InvalidConfiguration


def test_the_memory_url_opens_a_bus_in_memory() -> None:
    bus = open_bus("memory://", partitions=3)
    assert isinstance(bus, MemoryBus)
    bus.create("t")
    assert bus.topics() == {"t": 3}


def test_a_sqlite_url_opens_the_file_of_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "bus.db"
    path.parent.mkdir()
    url = f"sqlite://{str(path).replace(' ', '%20')}"
    bus = open_bus(url, partitions=3, reserve=0)
    bus.create("t")
    assert bus.topics() == {"t": 3}
    log_id = bus.log_id
    bus.close()
    again = open_bus(url, reserve=0)
    assert again.log_id == log_id
    again.close()
    assert path.exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost", "sqlite://, memory://, kafka://"),
        ("bus.db", "sqlite://, memory://, kafka://"),
        ("", "sqlite://, memory://, kafka://"),
        ("sqlite", "sqlite:///absolute/path"),
        ("memory", "nothing after it"),
        ("sqlite://bus.db", "sqlite:///absolute/path"),
        ("sqlite:///", "sqlite:///absolute/path"),
        ("sqlite:///bus.db?mode=ro", "sqlite:///absolute/path"),
        ("memory://somewhere", "nothing after it"),
        ("kafka://user:password@localhost:9092", "write host:port"),
        ("http://[::1", "sqlite://, memory://, kafka://"),
    ],
)
def test_a_wrong_bus_url_is_refused_with_the_right_form(url: str, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says) as caught:
        open_bus(url)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith("bus.url")


def test_an_unknown_bus_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        open_bus("nothing://")
    assert all(f"{scheme}://" in str(caught.value) for scheme in OPENERS)


def test_a_refused_bus_url_is_not_shown_whole() -> None:
    with pytest.raises(InvalidConfiguration, match="begin with one of") as refused:
        open_bus("kafkas://user:hunter2@host:9092?password=hunter3")
    assert "hunter" not in str(refused.value)
