"""Agents that are killed before each write to the journal or the bus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from heliograph.bus.memory import MemoryBus
from producers.assistant.journal import Journal
from schemas.execution import RecordState
from tests.producers.assistant.fleet import Fleet

WRITES = [
    (MemoryBus, "append"),
    *(
        (Journal, name)
        for name in ("move_cursor", "accept", "stop", "reschedule", "start", "end", "mark_reported")
    ),
]


class _Killed(BaseException):
    """Simulates SIGKILL: no code of the agent catches it."""


class Killer:
    """Kills an agent once, before its n-th write to the journal or the bus. A call that writes to the journal is one
    transaction, and counts once."""

    def __init__(self, fleet: Fleet, left: int) -> None:
        self.fleet = fleet
        self.left = left
        self.killed = False

    def do(self, act: Callable[[], object]) -> None:
        """Calls `act`. If this kills the agent, starts the agent again and repeats the call."""
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in WRITES:
                patch.setattr(owner, name, self._deadly(getattr(owner, name)))
            with suppress(_Killed):
                act()
                return
            self.fleet.crash()
        self.fleet.start()
        self.fleet.step()

    def _deadly(self, write: Callable[..., object]) -> Callable[..., object]:
        def written(*values: object) -> object:
            self.left -= 1
            if self.left == -1:
                self.killed = True
                raise _Killed
            return write(*values)

        return written


def live(fleet: Fleet, killer: Killer, runs: Path) -> str:
    """Requests a run, and a schedule, which it stops after two times. Each run writes its mark into the file `runs`.
    Returns the execution id of the schedule."""
    fleet.start()
    script = f"echo $HELIOGRAPH_RUN >> {runs}"
    fleet.ask(script)
    recurring = fleet.schedule(script)
    killer.do(fleet.step)
    for _ in range(2):
        fleet.clock.advance(60)
        killer.do(fleet.step)
    fleet.caller.stop(recurring)
    killer.do(fleet.step)
    return recurring.invoke_id


def test_no_run_starts_twice_and_each_has_one_result_wherever_the_agent_is_killed(tmp_path: Path) -> None:
    left = 0
    while True:
        fleet, runs = Fleet(tmp_path / str(left)), tmp_path / f"runs-{left}"
        killer = Killer(fleet, left)
        recurring = live(fleet, killer, runs)
        check_books(fleet, runs.read_text().splitlines())
        last = max((one for one in fleet.final() if one.invoke_id == recurring), key=lambda one: one.key)
        assert (
            last.invocation_status is RecordState.CANCELLED
        )  # the last run never began, so it was not interrupted
        fleet.close()
        if not killer.killed:
            break
        left += 1
    assert left > 20


def check_books(fleet: Fleet, begun: list[str]) -> None:
    assert len(set(begun)) == len(begun)
    finals = fleet.final()
    ends = {one.key: one for one in finals}
    assert len({one.encode() for one in finals}) == len(ends)
    for execution in {one.invoke_id for one in ends}:
        repeats = sorted(one.repeats for one in ends if one.invoke_id == execution)
        assert repeats == list(range(1, len(repeats) + 1))
    marks = {"/".join(run.split("/")[1:]) for run in begun}
    succeeded = {
        f"{key.invoke_id}/{key.repeats}"
        for key, one in ends.items()
        if one.invocation_status is RecordState.SUCCESS
    }
    assert succeeded <= marks
    assert marks <= {f"{key.invoke_id}/{key.repeats}" for key in ends}
    assert len({one.invoke_id for one in ends}) == 2
