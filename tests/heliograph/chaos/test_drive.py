"""Faults are begun and undone, and what ends by itself is no fault of ours."""

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
from heliograph.chaos.drive import EVENTS_A_TURN, Drive, Stuck
from heliograph.chaos.faults import Fault, Stroke
from heliograph.chaos.processes import Processes
from heliograph.chaos.receiver import Misbehaving
from heliograph.chaos.scratch import Place, scratch
from tests.acceptance.product import until


class Recorded(Processes):
    """Real processes, and what was done to them."""

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
def begun() -> Iterator[tuple[Drive, Recorded]]:
    """A router at work, nothing subscribed, and a process in place of a broker."""
    with ExitStack() as opened:
        ground = opened.enter_context(scratch(Place()))
        receiver = opened.enter_context(Misbehaving())
        deployment = opened.enter_context(Deployment(load(ground.environment)))
        processes = Recorded(ground.folder, ground.environment)
        opened.callback(processes.kill_all)
        processes.start("router")
        broker = opened.enter_context(subprocess.Popen(["/bin/sleep", "600"]))
        opened.callback(broker.kill)
        yield Drive(deployment, processes, receiver, seed=1, targets=0, broker_pid=broker.pid), processes


def stroke(fault: Fault, seconds: float, step: float = 0.0) -> Stroke:
    return Stroke(fault, "router", seconds, step, 0.5, "router", 0.0)


def test_what_lasts_is_undone_when_its_time_is_over_or_another_strikes_the_same_place(
    begun: tuple[Drive, Recorded],
) -> None:
    drive, processes = begun
    drive.turn(stroke(Fault.CLOCK_STEP, 3600, 5.0))
    drive.turn(stroke(Fault.CLOCK_STEP, 0, -5.0))
    drive.turn(stroke(Fault.PAUSE, 0))
    assert processes.done == [
        "clock 5.0 router",
        "clock 0.0 router",
        "clock -5.0 router",
        "clock 0.0 router",
        "SIGSTOP router",
        "SIGCONT router",
    ]
    assert drive.made == {Fault.CLOCK_STEP: 2, Fault.PAUSE: 1}
    assert len(drive.accepted) == len(set(drive.accepted)) == 3 * EVENTS_A_TURN


def test_what_is_paused_goes_on_though_we_are_interrupted(
    begun: tuple[Drive, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    drive, processes = begun

    def interrupted(seconds: float) -> None:
        if seconds:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drive.turn(stroke(Fault.PAUSE, 1.0))
    assert processes.done == ["SIGSTOP router", "SIGCONT router"]


def test_a_process_that_ends_by_itself_ends_the_round(begun: tuple[Drive, Recorded]) -> None:
    drive, processes = begun
    os.kill(processes.pid("router"), signal.SIGKILL)
    until(lambda: processes.ended() == {"router"})
    with pytest.raises(Stuck, match="router ended by itself"):
        drive.turn(stroke(Fault.STALL, 1.0)._replace(place="receiver"))


def test_what_ended_while_the_broker_did_not_answer_is_started_again(
    begun: tuple[Drive, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    drive, processes = begun
    first = processes.pid("router")

    def end_router(seconds: float) -> None:
        if seconds:
            os.kill(first, signal.SIGTERM)
            monkeypatch.undo()
            until(lambda: processes.ended() == {"router"})

    monkeypatch.setattr(time, "sleep", end_router)
    drive.turn(stroke(Fault.BROKER_PAUSE, 1.0)._replace(place="broker"))
    assert processes.pid("router") != first
    assert processes.ended() == set()
