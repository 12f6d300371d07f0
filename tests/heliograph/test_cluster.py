"""Checks of `doctor` for a cluster that need no cluster; tests/acceptance/test_cluster.py has the others."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from heliograph.app.config import BusSection, Config
from heliograph.diagnose.kafka import servers, store_clock
from heliograph.store.memory import MemoryStore
from schemas.clock import ManualClock, SystemClock
from schemas.errors import StoreUnavailable


def test_doctor_reports_for_each_server_if_it_takes_connections(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = f"127.0.0.1:{listening.getsockname()[1]}"
        config = Config(home=tmp_path, bus=BusSection(url=f"kafka://{here},127.0.0.1:1"))
        found = list(servers(config))
    assert [(one.check, one.state) for one in found] == [
        (f"broker {here}", "ok"),
        ("broker 127.0.0.1:1", "failed"),
    ]
    assert "correct bus.url" in found[1].detail
    assert list(servers(Config(home=tmp_path, bus=BusSection(url="kafka://nonsense")))) == []


def test_doctor_compares_the_clock_of_a_store_and_leaves_no_object() -> None:
    store = MemoryStore()
    assert store_clock(store, SystemClock()).state == "ok"
    found = store_clock(store, ManualClock())
    assert found.state == "warning"
    assert "ahead of this machine's" in found.detail
    assert list(store.list("")) == []


def test_doctor_reports_a_store_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    def down(key: str, body: bytes) -> None:
        raise StoreUnavailable(f"{key[:5]}: down")

    monkeypatch.setattr(store, "put", down)
    found = store_clock(store, SystemClock())
    assert (found.state, found.detail) == ("failed", "probe: down")
