"""The agent's journal: state that survives crashes at each step."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from heliograph.bus.base import Polled
from heliograph.bus.memory import MemoryBus
from producers.assistant import files
from producers.assistant.agent import Agent
from producers.assistant.journal import Journal
from producers.assistant.requests import File
from schemas.errors import BusUnavailable, InputError, JournalUnusable
from schemas.execution import RecordState, RepeatMode
from schemas.execution_errors import ErrorCode
from schemas.record import Gap
from schemas.topics import COMMANDS
from tests.acceptance.product import until
from tests.producers.assistant.fleet import Fleet, all_records, command

EVENTS = "events.ecs.instance"


def test_a_second_agent_on_the_same_journal_is_refused(fleet: Fleet) -> None:
    agent = fleet.start()
    with pytest.raises(
        InputError, match="another agent uses this journal; end that agent, or give this one another"
    ):
        Journal(fleet.folder / "i-1" / "journal.db", "i-1", fleet.bus.log_id, 0)
    assert agent.journal.read_cursor() == 0


@pytest.mark.parametrize(
    ("instance", "log_id", "end", "says"),
    [
        ("i-2", "", 9, "belongs to instance i-1"),
        ("i-1", "other", 9, "not to i-1 on the bus other"),
        ("i-1", "", 0, "read up to offset 1, but the topic ends at 0"),
    ],
)
def test_a_journal_of_another_instance_or_bus_is_refused(
    fleet: Fleet, instance: str, log_id: str, end: int, says: str
) -> None:
    fleet.start()
    fleet.ask("echo")
    fleet.step()
    fleet.crash()
    with pytest.raises(InputError, match=says):
        Journal(fleet.folder / "i-1" / "journal.db", instance, log_id or fleet.bus.log_id, end)


def test_only_its_owner_can_read_a_journal(fleet: Fleet) -> None:
    fleet.start()
    for path in (fleet.folder / "i-1").iterdir():
        assert path.stat().st_mode & 0o77 == 0, path


def test_a_run_whose_agent_was_killed_is_interrupted_and_not_started_again(
    fleet: Fleet, tmp_path: Path
) -> None:
    agent = fleet.start()
    fleet.ask(f"echo >> {tmp_path}/begun; sleep 1000")
    agent.step(0)
    until((tmp_path / "begun").exists)
    fleet.crash()
    fleet.start()
    fleet.step()
    assert fleet.outcome()[:2] == (RecordState.ERROR, ErrorCode.EXECUTION_INTERRUPTED)
    assert (tmp_path / "begun").read_text() == "\n"
    fleet.crash()
    fleet.start()
    fleet.step()
    assert len(fleet.final()) == 1


def test_the_temporary_file_of_a_killed_agent_is_removed(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def does_not(*_: object, **__: object) -> None:
        """Does nothing, as if the agent were killed before."""

    there = tmp_path / "there"
    agent = fleet.start()
    fleet.caller.send(File(name="a", content="b", target_dir=str(there)), ("i-1",))
    with monkeypatch.context() as patch:
        patch.setattr(files, "_move", does_not)
        patch.setattr(Path, "unlink", does_not)
        agent.step(0)
        fleet.crash()
    assert len(list(there.iterdir())) == 1
    fleet.start()
    fleet.step()
    assert list(there.iterdir()) == []
    assert fleet.file_record().error_code is ErrorCode.FILE_CREATE_FAIL


def test_only_journalled_results_are_reported_after_a_crash(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(agent: Agent) -> None:
        if agent.journal.unreported():
            raise BusUnavailable("killed here")

    fleet.start()
    fleet.ask("echo done")
    with monkeypatch.context() as patch:
        patch.setattr(Agent, "_report", killed)
        with pytest.raises(BusUnavailable):
            fleet.step()
    assert fleet.final() == []
    fleet.crash()
    fleet.start()
    fleet.step()
    assert fleet.command_record().output == "done\n"
    assert len(all_records(fleet.bus, EVENTS)) == 1


@contextmanager
def failing(owner: type, method: str, error: Exception) -> Generator[None]:
    """Makes a method raise `error`, and expects that error."""

    def fail(*_: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, fail)
        with pytest.raises(type(error)):
            yield


def test_a_report_that_was_not_journalled_is_repeated_with_the_same_bytes(fleet: Fleet) -> None:
    fleet.start()
    fleet.ask("echo done")
    with failing(Journal, "mark_reported", BusUnavailable("killed here")):
        fleet.step()
    fleet.crash()
    fleet.start()
    fleet.step()
    for topic in ("executions", EVENTS):
        values = [
            record.value for record in all_records(fleet.bus, topic) if b'"Running"' not in record.value
        ]
        assert len(values) == 2
        assert len(set(values)) == 1


def test_closing_an_agent_ends_its_runs(fleet: Fleet, tmp_path: Path) -> None:
    agent = fleet.start()
    fleet.ask(f"echo > {tmp_path}/begun; sleep 1000")
    agent.step(0)
    until((tmp_path / "begun").exists)
    agent.close()
    assert fleet.outcome()[:2] == (RecordState.ERROR, ErrorCode.EXECUTION_INTERRUPTED)


def away(_bus: MemoryBus, *_: object) -> None:
    raise BusUnavailable("away")


def test_an_unreachable_bus_delays_no_schedule(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = fleet.start()
    fleet.schedule("echo again")
    fleet.step()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBus, "append", away)
        patch.setattr(MemoryBus, "read", away)
        for _ in range(3):
            fleet.clock.advance(60)
            with pytest.raises(BusUnavailable):
                agent.step(0)
            until(lambda: ended(agent))
    fleet.step()
    assert [one.key.repeats for one in fleet.final()] == [1, 2, 3]


def ended(agent: Agent) -> bool:
    with suppress(BusUnavailable):
        agent.step(0.05)
    return agent.running() == 0


def test_a_schedule_is_recorded_as_accepted_once_the_bus_is_back(fleet: Fleet) -> None:
    agent = fleet.start()
    fleet.schedule("echo again")
    with failing(MemoryBus, "append", BusUnavailable("away")):
        agent.step(0)
    assert fleet.records() == []
    fleet.step()
    assert [one.invocation_status for one in fleet.records()] == [RecordState.SCHEDULED]


def test_a_result_that_cannot_be_journalled_is_journalled_later(fleet: Fleet) -> None:
    fleet.start()
    fleet.ask("echo done")
    with failing(Journal, "end", JournalUnusable("disk full")):
        fleet.step()
    fleet.step()
    assert fleet.command_record().output == "done\n"


def test_a_stop_between_two_crashes_takes_effect(fleet: Fleet) -> None:
    agent = fleet.start()
    (asked,) = fleet.caller.run(command(), ("i-1",), parameters={}, mode=RepeatMode.EVERY_REBOOT)
    fleet.step()
    fleet.caller.stop(asked)
    with failing(Journal, "end", JournalUnusable("killed here")):
        agent.step(0)
    fleet.crash()
    fleet.start()
    fleet.step()
    assert fleet.command_record().invocation_status is RecordState.CANCELLED


def test_a_stop_read_before_a_crash_takes_effect_after_it(fleet: Fleet, tmp_path: Path) -> None:
    agent = fleet.start()
    asked = fleet.schedule(f"echo > {tmp_path}/ran; trap '' TERM; sleep 1000")
    agent.step(0)
    fleet.clock.advance(60)
    agent.step(0)
    until((tmp_path / "ran").exists)
    fleet.caller.stop(asked)
    agent.step(0)
    fleet.crash()
    fleet.start()
    fleet.clock.advance(600)
    fleet.step()
    record = fleet.command_record()
    assert (record.invocation_status, bool(record.stop_time)) == (RecordState.ERROR, True)


def test_only_the_id_of_an_ended_execution_is_kept_for_a_limited_time(fleet: Fleet) -> None:
    journal = fleet.start().journal
    asked = fleet.ask("echo {{word}}", word="x" * 10_000)
    fleet.step()
    with sqlite3.connect(fleet.folder / "i-1" / "journal.db") as kept:
        assert kept.execute("SELECT invoke_id, request FROM executions").fetchall() == [
            (asked.invoke_id, None)
        ]
    fleet.clock.advance(29 * 86_400)
    assert not journal.accept(asked, 0, fleet.clock.now())
    fleet.clock.advance(2 * 86_400)
    assert journal.accept(asked, None, fleet.clock.now())


def test_requests_lost_from_the_topic_are_skipped_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_bus: MemoryBus, *_: object) -> Polled:
        return Polled(gaps=[Gap(COMMANDS, 0, 0, 5)])

    agent = fleet.start()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBus, "read", lost)
        agent.step(0)
    assert agent.journal.read_cursor() == 5
