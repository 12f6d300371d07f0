"""What a running process answers about itself."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from heliograph.app import health
from heliograph.app.health import serve
from heliograph.app.runner import Runner
from heliograph.bus.memory import MemoryBus
from schemas.clock import ManualClock
from schemas.errors import BusUnavailable, InputError


class Reporting(Runner):
    """A runner that says what it is told to."""

    said: dict[str, str]
    blind = False

    def unready(self) -> dict[str, str]:
        return self.said

    def observe(self) -> None:
        if self.blind:
            raise BusUnavailable("locked")


@pytest.fixture
def runner() -> Reporting:
    runner = Reporting(MemoryBus(ManualClock()), {})
    runner.said = {}
    return runner


@pytest.fixture
def url(runner: Reporting) -> Iterator[str]:
    server = serve("127.0.0.1:0", runner)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_ready_is_what_the_runner_says(url: str, runner: Reporting) -> None:
    assert got(f"{url}/readyz") == (200, "ok\n")
    runner.said = {"router": "starting", "archiver": "no such bucket"}
    assert got(f"{url}/readyz?verbose") == (503, "router: starting\narchiver: no such bucket\n")
    assert got(f"{url}/healthz") == (200, "ok\n")


def test_metrics_are_served_even_when_the_log_does_not_answer(url: str, runner: Reporting) -> None:
    runner.blind = True
    status, text = got(f"{url}/metrics")
    assert status == 200
    assert "# TYPE heliograph_lag gauge" in text
    assert got(url)[0] == 404


def test_addresses_that_cannot_be_used(runner: Reporting, url: str) -> None:
    taken = url.rpartition(":")[2]
    for address in ("here", "localhost:", "127.0.0.1:99999", f"127.0.0.1:{taken}", "256.0.0.1:0"):
        with pytest.raises(InputError, match="--metrics"):
            serve(address, runner)


def test_a_client_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch, runner: Reporting) -> None:
    monkeypatch.setattr(health, "CLIENT_SECONDS", 0.05)
    server = serve("127.0.0.1:0", runner)
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as silent:
            assert silent.recv(1) == b""
    finally:
        server.shutdown()
        server.server_close()
