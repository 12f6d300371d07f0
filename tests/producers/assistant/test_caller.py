"""The caller's side: requests, quotas, kept commands, and states of executions."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from heliograph.bus.memory import MemoryBus
from producers.assistant import library
from producers.assistant.caller import Caller, find_invocation, read_requests, stopped_instances
from producers.assistant.follower import Follower, cursors_since, end_cursors
from producers.assistant.policy import ACCEPT_WITHIN
from producers.assistant.requests import Command, KeepCommand, Stop
from producers.assistant.signing import Keys
from schemas.clock import ManualClock
from schemas.errors import InputError, NotFound
from schemas.execution import ExecutionState, RecordState, RepeatMode
from schemas.record import NewRecord
from schemas.topics import COMMANDS, EXECUTIONS
from tests.producers.assistant.fleet import KEY, NOW, QUOTAS, REGION, Fleet, command


def test_more_than_fifty_instances_are_split_into_several_requests(fleet: Fleet) -> None:
    instances = [f"i-{number}" for number in range(120)]
    asked = fleet.caller.run(command(), [*instances, "i-0"], parameters={})
    assert [len(one.instances) for one in asked] == [50, 50, 20]
    assert [instance for one in asked for instance in one.instances] == instances
    assert len({one.invoke_id for one in asked}) == 3
    assert list(read_requests(fleet.bus, fleet.keys)) == list(asked)


def test_no_request_is_appended_if_one_is_invalid(fleet: Fleet) -> None:
    for instances, says in (([], "name at least one"), (["i-1", "no good"], "'no good'")):
        with pytest.raises(InputError, match=says):
            fleet.caller.run(command(), instances, parameters={})
    assert list(read_requests(fleet.bus, fleet.keys)) == []


def test_the_daily_quota_counts_runs_of_one_region(fleet: Fleet) -> None:
    caller = dataclasses.replace(fleet.caller, quotas=dataclasses.replace(QUOTAS, daily_runs=3))
    elsewhere = dataclasses.replace(caller, region="cn-beijing")
    for _ in range(3):
        caller.run(command(), ("i-1",), parameters={})
    with pytest.raises(InputError, match="3 runs were requested today in cn-hangzhou"):
        caller.run(command(), ("i-1",), parameters={})
    elsewhere.run(command(), ("i-1",), parameters={})
    fleet.clock.advance(86_400)
    caller.run(command(), ("i-1",), parameters={})


def test_a_repeated_request_is_read_once(fleet: Fleet) -> None:
    """Anyone who may write to the topic can append a copy of a request, even without a key."""
    caller = dataclasses.replace(fleet.caller, quotas=dataclasses.replace(QUOTAS, daily_runs=2))
    (asked,) = caller.run(command(), ("i-1",), parameters={})
    fleet.bus.append([fleet.keys.sign(asked)] * 5)
    assert list(read_requests(fleet.bus, fleet.keys)) == [asked]
    caller.run(command(), ("i-1",), parameters={})


def test_only_signed_requests_are_read(fleet: Fleet) -> None:
    (asked,) = fleet.caller.run(command(), ("i-1",), parameters={})
    fleet.bus.append([NewRecord(COMMANDS, b"junk"), NewRecord(COMMANDS, fleet.keys.sign(asked).value)])
    assert list(read_requests(fleet.bus, fleet.keys)) == [asked]
    assert find_invocation(fleet.bus, fleet.keys, asked.invoke_id) == asked
    with pytest.raises(NotFound, match="'t-none': no such execution"):
        find_invocation(fleet.bus, fleet.keys, "t-none")


def test_a_stop_for_an_instance_outside_the_execution_is_refused(fleet: Fleet) -> None:
    (asked,) = fleet.caller.run(command(), ("i-1", "i-2"), parameters={})
    with pytest.raises(InputError, match=r"'i-3': t-.* does not run on it"):
        fleet.caller.stop(asked, ["i-3"])
    fleet.caller.stop(asked, ["i-2"])
    assert stopped_instances(read_requests(fleet.bus, fleet.keys)) == {asked.invoke_id: {"i-2"}}
    fleet.caller.stop(asked)
    assert stopped_instances(read_requests(fleet.bus, fleet.keys)) == {asked.invoke_id: {"i-1", "i-2"}}
    unknown = Stop(id="r-9", time=NOW, region=REGION, caller=7, invoke_id="t-other")
    assert stopped_instances([unknown]) == {"t-other": frozenset()}


# States of executions.


def test_an_execution_is_followed_to_its_end(fleet: Fleet) -> None:
    for instance in ("i-1", "i-2"):
        fleet.start(instance)
    (asked,) = fleet.caller.run(command("test $HOME"), ("i-1", "i-2"), parameters={})
    follower = Follower(fleet.bus, [asked], end_cursors(fleet.bus))
    assert not follower.answered()
    fleet.step("i-1")
    assert follower.read()[-1].invocation_status is RecordState.SUCCESS
    assert not follower.answered()
    assert follower.state(asked.invoke_id, fleet.clock.now()) is ExecutionState.RUNNING
    fleet.step("i-2")
    follower.read()
    assert follower.answered()
    assert follower.state(asked.invoke_id, fleet.clock.now()) is ExecutionState.FINISHED
    assert follower.read() == []


def test_records_from_before_the_request_are_not_read(fleet: Fleet) -> None:
    fleet.start()
    fleet.ask("echo before")
    fleet.step()
    fleet.clock.advance(86_400)
    asked = fleet.ask("echo now")
    fleet.step()
    cursors = cursors_since(fleet.bus, asked.time)
    (partition,) = (one for one, extent in fleet.bus.extents(EXECUTIONS).items() if extent.end)
    assert 0 < cursors[partition] < fleet.bus.extents(EXECUTIONS)[partition].end
    follower = Follower(fleet.bus, [asked], cursors)
    follower.read()
    assert follower.answered()


def test_the_state_of_instances_without_a_record_depends_on_time_and_stops(fleet: Fleet) -> None:
    (once,) = fleet.caller.run(command(), ("i-1",), parameters={})
    (recurring,) = fleet.caller.run(
        command(), ("i-1",), parameters={}, mode=RepeatMode.PERIOD, frequency="rate(5m)"
    )
    follower = Follower(fleet.bus, [once, recurring], cursors_since(fleet.bus, NOW))
    later = NOW + ACCEPT_WITHIN + 1
    assert follower.state(once.invoke_id, NOW) is ExecutionState.RUNNING
    assert follower.state(once.invoke_id, later) is ExecutionState.FAILED
    assert follower.state(recurring.invoke_id, later) is ExecutionState.RUNNING
    assert follower.state(recurring.invoke_id, later, {"i-1"}) is ExecutionState.STOPPED


@pytest.mark.parametrize(
    ("mode", "frequency"),
    [
        (RepeatMode.PERIOD, "rate(5m)"),
        (RepeatMode.NEXT_REBOOT_ONLY, ""),
        (RepeatMode.EVERY_REBOOT, ""),
    ],
)
def test_a_scheduled_run_is_answered_by_its_first_record(
    fleet: Fleet, mode: RepeatMode, frequency: str
) -> None:
    fleet.start()
    (asked,) = fleet.caller.run(command(), ("i-1",), parameters={}, mode=mode, frequency=frequency)
    follower = Follower(fleet.bus, [asked], {})
    assert not follower.answered()
    fleet.step()
    fleet.bus.append([NewRecord(EXECUTIONS, b"junk"), NewRecord(EXECUTIONS, b'{"InvokeId": "t-1"}')])
    assert [one.invocation_status for one in follower.read()] == [RecordState.SCHEDULED]
    assert follower.answered()
    assert follower.newest(asked.invoke_id)["i-1"].key.repeats == 1


# Kept commands.


def test_a_quota_of_kept_commands_counts_versions(fleet: Fleet) -> None:
    caller = dataclasses.replace(fleet.caller, quotas=dataclasses.replace(QUOTAS, kept_commands=2))
    library.keep_command(caller, command())
    library.keep_command(caller, command("echo again"))
    with pytest.raises(InputError, match="2 commands and versions are kept in cn-hangzhou"):
        library.keep_command(caller, command("echo more"))
    library.delete_commands(caller, ["c-1"])
    library.keep_command(caller, command())


def test_a_command_is_found_by_its_id_and_by_a_unique_name(fleet: Fleet) -> None:
    first, second = command(name="a"), msgspec.structs.replace(command(name="b"), command_id="c-2")
    for one in (first, second, msgspec.structs.replace(first, content="echo 2")):
        library.keep_command(fleet.caller, one)
    found = library.read_library(fleet.bus, fleet.keys, REGION)
    assert library.find_version(found, "a").command.content == "echo 2"
    assert library.find_version(found, "c-1", 1).command == first
    with pytest.raises(NotFound, match="no version 3; the latest is 2"):
        library.find_version(found, "a", 3)
    with pytest.raises(NotFound, match="'z': no such command"):
        library.find_version(found, "z")
    library.modify_command(fleet.caller, "c-2", name="a")
    with pytest.raises(InputError, match="several commands have this name; give one of their ids: c-1, c-2"):
        library.find_version(library.read_library(fleet.bus, fleet.keys, REGION), "a")
    assert library.read_library(fleet.bus, fleet.keys, "cn-beijing") == {}


def test_a_repeated_request_adds_no_version(fleet: Fleet) -> None:
    request = KeepCommand(id="r-1", time=NOW, region=REGION, caller=7, command=command())
    fleet.bus.append([fleet.keys.sign(request)] * 2)
    assert [one.number for one in library.read_library(fleet.bus, fleet.keys, REGION)["c-1"]] == [1]


class Library(RuleBasedStateMachine):
    """Compares the library of kept commands with a dictionary after random requests."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        clock = ManualClock(NOW)
        bus = MemoryBus(clock)
        bus.create(COMMANDS)
        self.caller = Caller(
            bus=bus, keys=Keys((KEY,), bus.log_id), clock=clock, region=REGION, uid=7, quotas=QUOTAS
        )
        self.model: dict[str, list[Command]] = {}

    @rule(target=ids, number=st.integers(1, 10**6), content=st.sampled_from("xyz"))
    def create(self, number: int, content: str) -> str:
        made = msgspec.structs.replace(command(content), command_id=f"c-{number}")
        library.keep_command(self.caller, made)
        self.model.setdefault(made.command_id, []).append(made)
        return made.command_id

    @rule(command_id=ids, content=st.sampled_from("xyz"))
    def clone(self, command_id: str, content: str) -> None:
        if command_id in self.model:
            made = msgspec.structs.replace(self.model[command_id][-1], content=content)
            library.keep_command(self.caller, made)
            self.model[command_id].append(made)

    @rule(command_id=ids, name=st.none() | st.sampled_from("ab"), timeout=st.none() | st.integers(10, 99))
    def modify(self, command_id: str, name: str | None, timeout: int | None) -> None:
        library.modify_command(self.caller, command_id, name=name, timeout=timeout)
        if versions := self.model.get(command_id):
            given = {"name": name, "timeout": timeout}
            changes = {field: value for field, value in given.items() if value is not None}
            versions[-1] = msgspec.structs.replace(versions[-1], **changes)

    @rule(command_id=consumes(ids))
    def delete(self, command_id: str) -> None:
        library.delete_commands(self.caller, [command_id])
        self.model.pop(command_id, None)

    @invariant()
    def holds(self) -> None:
        found = library.read_library(self.caller.bus, self.caller.keys, REGION)
        assert {key: [one.command for one in versions] for key, versions in found.items()} == self.model
        for versions in found.values():
            assert [one.number for one in versions] == list(range(1, len(versions) + 1))


TestLibrary = Library.TestCase
TestLibrary.settings = settings(max_examples=30, stateful_step_count=15)
