"""An agent that is killed before each of the things that it writes, one after the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.memory import MemoryBus
from producers.assistant.journal import Journal
from schemas.execution import RecordState
from schemas.record import NewRecord, Position
from tests.producers.assistant.assisted import Fleet


class _Killed(BaseException):
    """As SIGKILL, nothing in the agent catches it."""


class Killer:
    """Lets an agent write so many times, to its journal or to the log, and kills it once, before the next."""

    def __init__(self, fleet: Fleet, left: int) -> None:
        self.fleet = fleet
        self.left = left
        self.killed = False

    def do(self, act: Callable[[], object]) -> None:
        """Let the agent act; one that is killed is started again, and acts then."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "_execute", self._execute(Journal._execute))
            patch.setattr(MemoryBus, "append", self._append(MemoryBus.append))
            with suppress(_Killed):
                act()
                return
            self.fleet.crash()
        self.fleet.start()
        self.fleet.step()

    def _before_a_write(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.killed = True
            raise _Killed

    def _execute(self, real: Callable[..., sqlite3.Cursor]) -> Callable[..., sqlite3.Cursor]:
        def execute(journal: Journal, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement.startswith(("INSERT", "UPDATE", "DELETE", "COMMIT")):
                self._before_a_write()
            return real(journal, statement, *values)

        return execute

    def _append(self, real: Callable[..., Sequence[Position]]) -> Callable[..., Sequence[Position]]:
        def append(bus: MemoryBus, records: Sequence[NewRecord]) -> Sequence[Position]:
            self._before_a_write()
            return real(bus, records)

        return append


def live(fleet: Fleet, killer: Killer, runs: Path) -> None:
    """A run, and a schedule that is stopped after two of its times; each run writes down who it is."""
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


def test_whatever_it_was_about_to_write_no_run_begins_twice_and_each_has_one_end(tmp_path: Path) -> None:
    left = 0
    while True:
        fleet, runs = Fleet(tmp_path / str(left)), tmp_path / f"runs-{left}"
        killer = Killer(fleet, left)
        live(fleet, killer, runs)
        account(fleet, runs.read_text().splitlines())
        fleet.close()
        if not killer.killed:
            break
        left += 1
    assert left > 30


def account(fleet: Fleet, begun: list[str]) -> None:
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
