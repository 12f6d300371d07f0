"""Recurring commands: schedules and starts of the agent, with a manual clock."""

from __future__ import annotations

import pytest

from producers.assistant.policy import Policy
from schemas.execution import RecordState, RepeatMode
from schemas.execution_errors import ErrorCode
from tests.producers.assistant.fleet import Fleet, command


def test_a_schedule_has_one_final_record_for_each_time(fleet: Fleet) -> None:
    fleet.start()
    fleet.schedule("echo again")
    fleet.step()
    assert [one.invocation_status for one in fleet.records()] == [RecordState.SCHEDULED]
    for _ in range(3):
        fleet.clock.advance(60)
        fleet.step()
    finals = fleet.final()
    assert [one.key.repeats for one in finals] == [1, 2, 3]
    assert fleet.records()[-1].invocation_status is RecordState.SCHEDULED


def test_missed_times_are_skipped_and_counted(fleet: Fleet) -> None:
    fleet.start()
    asked = fleet.schedule("echo again")
    fleet.step()
    fleet.crash()
    fleet.clock.advance(3 * 60 + 30)
    agent = fleet.start()
    fleet.step()
    assert fleet.final() == []
    found = agent.journal.execution(asked.invoke_id)
    assert found is not None
    assert found.missed == 3
    fleet.clock.advance(30)
    fleet.step()
    assert [one.key.repeats for one in fleet.final()] == [1]


def test_with_catch_up_one_run_makes_up_for_missed_times(fleet: Fleet) -> None:
    fleet.start()
    fleet.schedule("echo again")
    fleet.step()
    fleet.crash()
    fleet.clock.advance(3 * 60 + 30)
    fleet.start(policy=Policy(catch_up=True))
    fleet.step()
    fleet.step()
    assert [one.key.repeats for one in fleet.final()] == [1]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_schedule_continues_after_a_clock_that_was_ahead_is_corrected(
    fleet: Fleet, restarted: bool
) -> None:
    fleet.start()
    fleet.schedule("echo again")
    fleet.step()
    fleet.clock.advance(3 * 86_400 + 30)
    fleet.step()
    if restarted:
        fleet.crash()
    fleet.clock.advance(-3 * 86_400)
    if restarted:
        fleet.start()
    for seconds in (0, 30, 60):
        fleet.clock.advance(seconds)
        fleet.step()
    assert [one.key.repeats for one in fleet.final()] == [1, 2]


def test_no_time_runs_twice_after_a_small_clock_correction(fleet: Fleet) -> None:
    fleet.start()
    fleet.schedule("echo again")
    fleet.step()
    for seconds in (60, -30, 30, 30):
        fleet.clock.advance(seconds)
        fleet.step()
    assert [one.key.repeats for one in fleet.final()] == [1]


def test_a_missed_single_time_is_recorded_as_aborted(fleet: Fleet) -> None:
    fleet.start()
    fleet.schedule("echo", "at(2025-10-09 09:00:00)")
    fleet.step()
    fleet.crash()
    fleet.clock.advance(86_400)
    fleet.start()
    fleet.step()
    assert fleet.outcome()[:2] == (RecordState.ABORTED, ErrorCode.CLIENT_NOT_RUNNING)
    assert "missed times, the last included: 1" in fleet.outcome()[2]


@pytest.mark.parametrize(("mode", "runs"), [(RepeatMode.NEXT_REBOOT_ONLY, 1), (RepeatMode.EVERY_REBOOT, 3)])
def test_reboot_modes_run_at_starts_of_the_agent(fleet: Fleet, mode: RepeatMode, runs: int) -> None:
    fleet.start()
    fleet.caller.run(command("echo up"), ("i-1",), parameters={}, mode=mode)
    fleet.step()
    assert fleet.final() == []
    for _ in range(3):
        fleet.crash()
        fleet.start()
        fleet.step()
    assert [one.key.repeats for one in fleet.final()] == list(range(1, runs + 1))
