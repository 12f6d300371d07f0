"""Faults of processes: full disk, pause, kill, and a clock that jumps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.chaos.driver import ROOM_BYTES
from heliograph.chaos.member import JumpingClock
from heliograph.chaos.processes import Processes
from heliograph.chaos.receiver import FaultyReceiver
from heliograph.chaos.scratch import ScratchDeployment, Services, read_subscriptions, scratch_deployment
from heliograph.operations.subscriptions import apply
from producers.edge import Edge
from producers.stream import generate
from schemas.clock import SystemClock
from sinks.kinds import KINDS
from tests.acceptance.product import until


class Begun(NamedTuple):
    """A scratch deployment with subscriptions and 50 events, before any process is started."""

    scratch: ScratchDeployment
    deployment: Deployment
    processes: Processes

    def routed(self) -> int:
        return sum(extent.end for extent in self.deployment.bus.extents("deliveries").values())


@pytest.fixture
def begun() -> Iterator[Begun]:
    with ExitStack() as opened:
        scratch = opened.enter_context(scratch_deployment(Services()))
        receiver = opened.enter_context(FaultyReceiver())
        deployment = opened.enter_context(Deployment(load(scratch.environment)))
        apply(deployment.bus, read_subscriptions(receiver.url), KINDS)
        Edge(deployment.bus).submit(generate(1, 50, 1_700_000_000_000))
        processes = Processes(scratch.folder, scratch.environment)
        opened.callback(processes.kill_all)
        yield Begun(scratch, deployment, processes)


def test_a_process_with_a_full_disk_loses_nothing(begun: Begun) -> None:
    begun.processes.start("router", ROOM_BYTES)
    until(lambda: "free some space" in begun.processes.log_file.read_text())
    assert begun.routed() == 0
    begun.processes.kill("router")
    begun.processes.start("router")
    until(lambda: begun.routed() == 300)


def test_a_paused_process_does_nothing_until_it_is_resumed(begun: Begun) -> None:
    begun.processes.start("router")
    begun.processes.signal("router", signal.SIGSTOP)
    _, status = os.waitpid(begun.processes.pid("router"), os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert begun.routed() == 0
    begun.processes.signal("router", signal.SIGCONT)
    until(lambda: begun.routed() == 300)


def test_ended_lists_only_processes_that_ended_without_kill(begun: Begun) -> None:
    for name in ("router", "deliverer"):
        begun.processes.start(name)
    begun.processes.kill("deliverer")
    assert begun.processes.ended() == set()
    os.kill(begun.processes.pid("router"), signal.SIGKILL)
    until(lambda: begun.processes.ended() == {"router"})


def test_a_process_ends_with_its_parent(begun: Begun) -> None:
    command = [sys.executable, "-P", "-m", "heliograph.chaos.member", "router", "--clock", "none"]
    with subprocess.Popen(
        command, env=begun.scratch.environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 1


def test_a_clock_jumps_by_the_seconds_in_its_file(tmp_path: Path) -> None:
    clock, file, right = JumpingClock(tmp_path / "clock"), tmp_path / "clock", SystemClock()
    for jump in (0, -3_600_500, 3_600_000):
        if jump:
            file.write_text(str(jump / 1000))
        before, shown, after = right.now(), clock.now(), right.now()
        assert before <= shown - jump <= after
        earliest, monotonic, latest = right.monotonic(), clock.monotonic(), right.monotonic()
        assert earliest <= monotonic <= latest
