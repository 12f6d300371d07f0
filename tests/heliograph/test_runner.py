"""The runner of roles: restarts failed ones, recognises idleness, and stops within a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY

from heliograph.app import runner as module
from heliograph.app.runner import Runner, unfinished
from heliograph.bus.memory import MemoryBus
from schemas.clock import ManualClock
from schemas.errors import BusUnavailable, StoreRefused
from schemas.record import NewRecord
from schemas.role import Role

EVENT = NewRecord("events.other", b"{}", b"key")


class Fake:
    """A role that finishes the records that it reads, unless a test makes it fail, hang, keep them or be busy."""

    topics: tuple[str, ...] = ("events.*",)

    def __init__(self, bus: MemoryBus, name: str = "router") -> None:
        self.name = name
        self.fails: Exception | None = None
        self.keeps_until_flushed = False
        self.hangs_in_step = self.hangs_in_close = False
        self.underway = False
        self.released = threading.Event()
        self.flushes = 0
        self.closes = 0
        self._consumer = bus.consumer(self.topics, name)
        self._held = list(self._consumer.poll(0).records)

    def step(self, timeout: float) -> None:
        if self.hangs_in_step:
            self.released.wait()
        if self.fails is not None:
            raise self.fails
        self._held += self._consumer.poll(10, min(timeout, 0.01)).records
        if self._held and not (self.keeps_until_flushed and not self.flushes):
            self._consumer.done([record.position for record in self._held])
            self._held = []

    def busy(self) -> bool:
        return self.underway

    def flush(self) -> None:
        self.flushes += 1

    def wake(self) -> None:
        self._consumer.wake()

    def close(self) -> None:
        if self.hangs_in_close:
            self.released.wait()
        self._consumer.close()
        self.closes += 1


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(ManualClock(), partitions=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.005)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


@contextmanager
def running(bus: MemoryBus, **builds: Callable[[], Role]) -> Generator[Runner]:
    runner = Runner(bus, builds)
    runner.start()
    try:
        yield runner
    finally:
        assert runner.join()


def until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < deadline, "condition not met within 20 s"
        time.sleep(0.002)


def idle(runner: Runner) -> threading.Event:
    """Returns an event that is set when `wait_until_idle` returns."""
    found = threading.Event()

    def wait() -> None:
        runner.wait_until_idle()
        found.set()

    threading.Thread(target=wait, daemon=True).start()
    return found


def test_a_failed_role_is_built_again_while_the_others_run_on(bus: MemoryBus) -> None:
    built: list[Fake] = []
    looked = threading.Event()

    def build() -> Fake:
        if len(built) == 2:
            looked.wait(20)
        role = Fake(bus)
        role.fails = StoreRefused("no such bucket") if len(built) < 3 else None
        built.append(role)
        return role

    other = Fake(bus, "other")
    with running(bus, router=build, other=lambda: other) as runner:
        until(lambda: len(built) == 2)
        assert runner.failures() == {"router": "no such bucket"}
        assert runner.unready()["router"] == "no such bucket"
        looked.set()
        until(lambda: len(built) == 4)
        until(lambda: not runner.unready())
        assert runner.failures() == {}
    assert [role.closes for role in built] == [1] * 4
    assert other.closes == 1


def test_the_pause_before_a_restart_doubles_up_to_a_bound(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 4.0)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 1.0)
    pauses: list[float] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            if len(pauses) == 5:
                self.set()
            return self.is_set()

    def build() -> Role:
        raise ValueError

    module.RoleThread("router", build, Stopping()).run()
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_a_role_that_cannot_be_built_is_reported_as_failed(bus: MemoryBus) -> None:
    def build() -> Role:
        raise BusUnavailable("locked")

    with running(bus, router=build) as runner:
        until(runner.failures)
        assert runner.failures() == {"router": "locked"}
        runner.wait_until_idle()


def test_a_stuck_loop_is_reported_as_failed(bus: MemoryBus, monkeypatch: pytest.MonkeyPatch) -> None:
    role = Fake(bus)
    role.hangs_in_step = True
    with running(bus, router=lambda: role) as runner:
        assert runner.unready() == {"router": "starting"}
        monkeypatch.setattr(module, "STUCK_SECONDS", 0.0)
        until(runner.failures)
        assert "has not turned for" in runner.failures()["router"]
        role.released.set()


def test_join_waits_no_longer_than_its_limit_for_a_hanging_role(bus: MemoryBus) -> None:
    role, other = Fake(bus), Fake(bus, "other")
    role.hangs_in_close = True
    runner = Runner(bus, {"router": lambda: role, "other": lambda: other})
    runner.start()
    until(lambda: not runner.unready())
    assert not runner.join(0.05)
    until(lambda: other.closes == 1)
    role.released.set()
    assert runner.join()


def test_stop_ends_the_wait(bus: MemoryBus) -> None:
    with running(bus, router=lambda: Fake(bus)) as runner:
        threading.Timer(0.02, runner.stop).start()
        runner.wait()


def test_the_runner_is_idle_once_nothing_is_unread_and_no_role_is_busy(bus: MemoryBus) -> None:
    role = Fake(bus)
    role.keeps_until_flushed = role.underway = True
    bus.append([EVENT])
    with running(bus, router=lambda: role) as runner:
        found = idle(runner)
        assert not found.wait(0.1), "a record is unread"
        role.keeps_until_flushed = False
        until(lambda: unfinished(bus, "router", role.topics)[0] == 0)
        assert not found.wait(0.1), "the role is busy"
        role.underway = False
        assert found.wait(20)
    assert role.flushes == 0


def test_the_archiver_is_flushed_only_once_all_others_are_done(bus: MemoryBus) -> None:
    router, archiver = Fake(bus), Fake(bus, "archiver")
    router.keeps_until_flushed = archiver.keeps_until_flushed = True
    bus.append([EVENT])
    with running(bus, router=lambda: router, archiver=lambda: archiver) as runner:
        found = idle(runner)
        assert not found.wait(0.1)
        assert archiver.flushes == 0
        router.keeps_until_flushed = False
        assert found.wait(20)
    assert archiver.flushes > 0
    assert unfinished(bus, "archiver", archiver.topics)[0] == 0


def test_deliveries_on_the_wheel_do_not_count_as_unread(bus: MemoryBus) -> None:
    wheel = Fake(bus, "wheel")
    wheel.keeps_until_flushed = True
    bus.append([EVENT])
    with running(bus, wheel=lambda: wheel) as runner:
        assert idle(runner).wait(20)
    assert wheel.flushes == 0


def test_a_bus_that_does_not_answer_for_a_while_is_not_idle(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    lag = bus.lag

    def locked(group: str) -> object:
        asked.append(group)
        if len(asked) < 3:
            raise BusUnavailable("locked")
        return lag(group)

    monkeypatch.setattr(bus, "lag", locked)
    with running(bus, router=lambda: Fake(bus)) as runner:
        runner.wait_until_idle()
    assert len(asked) >= 4


def test_unfinished_records_count_from_the_cursor_or_the_first_record(bus: MemoryBus) -> None:
    bus.append([EVENT] * 3)
    assert unfinished(bus, "router", ("events.*",)) == (3, 3)
    consumer = bus.consumer(["events.*"], "router")
    records = consumer.poll(10).records
    consumer.done([records[0].position])
    assert unfinished(bus, "router", ("events.*",)) == (2, 3)
    assert unfinished(bus, "router", ("verdicts",)) == (0, 0)


def test_gauges_show_lag_and_loop_age_of_each_role(bus: MemoryBus) -> None:
    role = Fake(bus)
    role.keeps_until_flushed = True
    bus.append([EVENT] * 2)
    with running(bus, router=lambda: role) as runner:
        until(lambda: not runner.unready())
        runner.observe()
    assert REGISTRY.get_sample_value("heliograph_lag", {"role": "router"}) == 2
    assert REGISTRY.get_sample_value("heliograph_loop_age_seconds", {"role": "router"}) is not None
