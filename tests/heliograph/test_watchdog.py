"""The watchdog: a poll that never returns shows in log lines, metrics and readiness, on any bus."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from heliograph.app import runner as module
from heliograph.app.health import serve
from heliograph.app.runner import Runner
from heliograph.bus.base import Bus, Consumer, Lag, PartitionsChanged, Polled
from heliograph.bus.kafka.client import Connection, Fetched, GroupClient
from heliograph.bus.kafka.consumer import KafkaConsumer
from heliograph.bus.memory import MemoryBus
from router.events import Router
from schemas.clock import SystemClock
from schemas.errors import BusUnavailable
from schemas.record import TopicPartition

STUCK = 0.2


class Hanging:
    """A client of a group whose poll does not return until `released` is set."""

    def __init__(self, released: threading.Event) -> None:
        self._released = released

    def poll(self, limit: int, timeout: float) -> Fetched:
        self._released.wait()
        return Fetched({}, {}, set())

    def close(self) -> None:
        """Nothing is open."""


class HangingBus(MemoryBus):
    """A bus whose consumers hang until `released` is set. `silent`: its `lag` hangs too."""

    def __init__(self, released: threading.Event, *, kafka: bool, silent: bool = False) -> None:
        super().__init__(SystemClock())
        self._released = released
        self._kafka = kafka
        self._silent = silent

    def consumer(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        topics: Sequence[str],
        group: str,
        *,
        gained: PartitionsChanged | None = None,
        lost: PartitionsChanged | None = None,
    ) -> Consumer:
        if self._kafka:
            client = cast("GroupClient", Hanging(self._released))
            nowhere = cast("Connection", None)
            return KafkaConsumer(
                nowhere,
                append=self.append,
                clock=SystemClock(),
                join=lambda _gain, _lose: client,
                name=group,
                gained=gained,
                lost=lost,
            )
        consumer = super().consumer(topics, group, gained=gained, lost=lost)

        def poll(limit: int = 5000, timeout: float = 0.0) -> Polled:
            self._released.wait()
            return Polled()

        consumer.poll = poll  # type: ignore[method-assign]
        return consumer

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        if self._silent:
            self._released.wait()
        return super().lag(group)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_SECONDS", STUCK)
    monkeypatch.setattr(module, "WATCHDOG_SECONDS", 0.02)
    monkeypatch.setattr(module, "OBSERVE_SECONDS", 0.1)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)


@contextmanager
def routing(bus: Bus, released: threading.Event) -> Generator[Runner]:
    runner = Runner(bus, {"router": lambda: Router(bus)})
    runner.start()
    try:
        yield runner
    finally:
        released.set()
        assert runner.join()


def until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < deadline, "condition not met within 20 s"
        time.sleep(0.01)


def got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("kafka", [False, True], ids=["memory", "kafka"])
def test_a_poll_that_never_returns_shows_in_readiness_metrics_and_log_lines(kafka: bool) -> None:
    released = threading.Event()
    bus = HangingBus(released, kafka=kafka)
    with capture_logs() as logged, routing(bus, released) as runner:
        server = serve("127.0.0.1:0", runner)
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            until(lambda: "has not turned for" in got(f"{url}/readyz")[1])
            status, text = got(f"{url}/readyz")
            assert status == 503
            assert text.startswith("router: its loop has not turned for")
            until(
                lambda: (
                    (REGISTRY.get_sample_value("heliograph_loop_age_seconds", {"role": "router"}) or 0)
                    > STUCK
                )
            )
            assert 'heliograph_loop_age_seconds{role="router"}' in got(f"{url}/metrics")[1]
            until(lambda: [each["role"] for each in logged if each["event"] == "loop stuck"] == ["router"])
            released.set()
            until(lambda: [each for each in logged if each["event"] == "loop turns again"])
        finally:
            server.shutdown()
            server.server_close()


def test_metrics_do_not_wait_for_a_bus_that_does_not_answer() -> None:
    released = threading.Event()
    bus = HangingBus(released, kafka=False, silent=True)
    with routing(bus, released) as runner:
        until(lambda: list(runner.failures()))
        for _ in range(2):
            with pytest.raises(BusUnavailable, match="has not answered"):
                runner.observe()


def test_stop_ends_the_wait_while_maintenance_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    released, entered = threading.Event(), threading.Event()
    bus = MemoryBus(SystemClock())

    def maintain() -> None:
        entered.set()
        released.wait()

    monkeypatch.setattr(bus, "maintain", maintain)
    runner = Runner(bus, {"router": lambda: Router(bus)})
    runner.start()
    threading.Timer(0.05, runner.stop).start()
    runner.wait()
    assert entered.wait(20)
    released.set()
    assert runner.join()
