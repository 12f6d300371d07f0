"""`/metrics`, `/healthz` and `/readyz` of a running process."""

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
    """A runner whose unready roles are set by the test. `blind`: its bus does not answer."""

    reported: dict[str, str]
    blind = False

    def unready(self) -> dict[str, str]:
        return self.reported

    def observe(self) -> None:
        if self.blind:
            raise BusUnavailable("locked")


@pytest.fixture
def runner() -> Reporting:
    runner = Reporting(MemoryBus(ManualClock()), {})
    runner.reported = {}
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


def test_readyz_lists_the_roles_that_are_not_ready(url: str, runner: Reporting) -> None:
    assert got(f"{url}/readyz") == (200, "ok\n")
    runner.reported = {"router": "starting", "archiver": "no such bucket"}
    assert got(f"{url}/readyz?verbose") == (503, "router: starting\narchiver: no such bucket\n")
    assert got(f"{url}/healthz") == (200, "ok\n")


def test_metrics_are_served_while_the_bus_does_not_answer(url: str, runner: Reporting) -> None:
    runner.blind = True
    status, text = got(f"{url}/metrics")
    assert status == 200
    assert "# TYPE heliograph_lag gauge" in text
    assert got(url)[0] == 404


def test_an_unusable_address_is_refused(runner: Reporting, url: str) -> None:
    taken = url.rpartition(":")[2]
    for address in ("here", "localhost:", "127.0.0.1:99999", f"127.0.0.1:{taken}", "256.0.0.1:0"):
        with pytest.raises(InputError, match="--metrics"):
            serve(address, runner)


def test_a_silent_client_is_disconnected(monkeypatch: pytest.MonkeyPatch, runner: Reporting) -> None:
    monkeypatch.setattr(health, "CLIENT_SECONDS", 0.05)
    server = serve("127.0.0.1:0", runner)
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as silent:
            assert silent.recv(1) == b""
    finally:
        server.shutdown()
        server.server_close()
