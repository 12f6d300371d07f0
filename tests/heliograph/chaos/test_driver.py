"""The driver of chaos: it makes faults and undoes them, and stops when a process ends by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.chaos.driver import EVENTS_A_TURN, Driver, Stuck
from heliograph.chaos.faults import Fault, PlannedFault
from heliograph.chaos.processes import Processes
from heliograph.chaos.receiver import FaultyReceiver
from heliograph.chaos.scratch import Services, scratch_deployment
from tests.acceptance.product import until


class Recorded(Processes):
    """Real processes, with a record of the signals and clock steps."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder, environment)
        self.done: list[str] = []

    def signal(self, name: str, number: signal.Signals) -> None:
        self.done.append(f"{number.name} {name}")
        super().signal(name, number)

    def step_clock(self, name: str, seconds: float) -> None:
        self.done.append(f"clock {seconds} {name}")
        super().step_clock(name, seconds)


@pytest.fixture
def begun() -> Iterator[tuple[Driver, Recorded]]:
    """A router at work, nothing subscribed, and a process in place of a broker."""
    with ExitStack() as opened:
        scratch = opened.enter_context(scratch_deployment(Services()))
        receiver = opened.enter_context(FaultyReceiver())
        deployment = opened.enter_context(Deployment(load(scratch.environment)))
        processes = Recorded(scratch.folder, scratch.environment)
        opened.callback(processes.kill_all)
        processes.start("router")
        broker = opened.enter_context(subprocess.Popen(["/bin/sleep", "600"]))
        opened.callback(broker.kill)
        yield Driver(deployment, processes, receiver, seed=1, targets=0, broker_pid=broker.pid), processes


def planned(fault: Fault, seconds: float, step: float = 0.0) -> PlannedFault:
    return PlannedFault(
        fault=fault, component="router", seconds=seconds, step=step, share=0.5, role="router", wait=0.0
    )


def test_what_lasts_is_undone_when_its_time_is_over_or_another_strikes_the_same_place(
    begun: tuple[Driver, Recorded],
) -> None:
    driver, processes = begun
    driver.run_turn(planned(Fault.CLOCK_STEP, 3600, 5.0))
    driver.run_turn(planned(Fault.CLOCK_STEP, 0, -5.0))
    driver.run_turn(planned(Fault.PAUSE, 0))
    assert processes.done == [
        "clock 5.0 router",
        "clock 0.0 router",
        "clock -5.0 router",
        "clock 0.0 router",
        "SIGSTOP router",
        "SIGCONT router",
    ]
    assert driver.faults == {Fault.CLOCK_STEP: 2, Fault.PAUSE: 1}
    assert len(driver.accepted) == len(set(driver.accepted)) == 3 * EVENTS_A_TURN


def test_what_is_paused_goes_on_though_we_are_interrupted(
    begun: tuple[Driver, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, processes = begun

    def interrupted(seconds: float) -> None:
        if seconds:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        driver.run_turn(planned(Fault.PAUSE, 1.0))
    assert processes.done == ["SIGSTOP router", "SIGCONT router"]


def test_a_process_that_ends_by_itself_ends_the_round(begun: tuple[Driver, Recorded]) -> None:
    driver, processes = begun
    os.kill(processes.pid("router"), signal.SIGKILL)
    until(lambda: processes.ended() == {"router"})
    with pytest.raises(Stuck, match="router ended by itself"):
        driver.run_turn(planned(Fault.STALL, 1.0)._replace(component="receiver"))


def test_what_ended_while_the_broker_did_not_answer_is_started_again(
    begun: tuple[Driver, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, processes = begun
    first = processes.pid("router")

    def end_router(seconds: float) -> None:
        if seconds:
            os.kill(first, signal.SIGTERM)
            monkeypatch.undo()
            until(lambda: processes.ended() == {"router"})

    monkeypatch.setattr(time, "sleep", end_router)
    driver.run_turn(planned(Fault.BROKER_PAUSE, 1.0)._replace(component="broker"))
    assert processes.pid("router") != first
    assert processes.ended() == set()
