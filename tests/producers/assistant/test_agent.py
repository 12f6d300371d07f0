"""The agent: requests, runs and records, with real processes and a manual clock."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pytest

from producers.assistant.policy import ACCEPT_WITHIN, Policy
from producers.assistant.requests import File, encode
from producers.assistant.signing import SIGNATURE, WINDOW
from producers.assistant.task import Task
from schemas.execution import CommandRecord, RecordState
from schemas.execution_errors import ErrorCode
from schemas.record import NewRecord
from schemas.topics import COMMANDS, REJECTS
from tests.acceptance.product import until
from tests.producers.assistant.fleet import Fleet, all_records, command

EVENTS = "events.ecs.instance"
MANUAL = {
    "RegionId": "cn-hangzhou", "InstanceId": "i-1", "InvokeId": "t-hz01x7rtjfy", "CommandId": "c-hz01x7cn5aj",
    "CommandName": "cmd-hostname", "CommandType": "RunShellScript", "CommandContent": "hostname",
    "ResourceOwnerUid": 160998252992, "CallerUid": 160998252992, "CallerType": "customer", "Timeout": 60,
    "Frequency": "", "Parameters": "{}", "Username": "", "RepeatMode": "Once", "Repeats": 1,
    "InvocationStatus": "Success", "Dropped": 0, "Output": "i\n", "ExitCode": 0,
    "CreationTime": "2021-09-26T05:47:20Z", "StartTime": "2021-09-26T05:47:20Z",
    "UpdateTime": "2021-09-26T05:47:20Z", "FinishedTime": "2021-09-26T05:47:20Z", "StopTime": "",
}  # fmt: skip
"""The example of the user manual without its masked digits."""


# One run.


def test_the_record_of_hostname_matches_the_example_of_the_manual(fleet: Fleet) -> None:
    fleet.start()
    fleet.ask("hostname")
    fleet.step()
    found = json.loads(fleet.command_record().encode())
    assert list(found) == list(MANUAL)
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in MANUAL.items()
    }
    assert (found["ExitCode"], found["Repeats"], found["CallerUid"]) == (0, 1, 7)


def test_an_event_announces_a_final_record(fleet: Fleet) -> None:
    fleet.start()
    asked = fleet.ask("exit 3")
    fleet.step()
    (event,) = (json.loads(record.value) for record in all_records(fleet.bus, EVENTS))
    assert event["name"] == "Instance:CloudAssistant.TaskCompleted"
    assert event["level"] == "WARN"
    assert event["resourceId"] == "acs:ecs:cn-hangzhou:9:instance/i-1"
    assert event["content"] | {"startTime": "", "finishTime": "", "errorDesc": ""} == {
        "instanceId": "i-1", "invokeId": asked.invoke_id, "invocationStatus": "Failed", "startTime": "",
        "finishTime": "", "ownerId": "9", "playerUid": "7", "errorCode": "ExitCodeNonzero", "errorDesc": "",
        "commandId": "c-1", "commandName": "greet", "exitCode": "3", "repeatMode": "Once", "repeats": "1",
    }  # fmt: skip


def test_parameters_are_recorded_and_secrets_are_masked(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    fleet.start(secrets={"pw": "env:PASSWORD"})
    fleet.ask("echo {{word}} {{secret:pw}}; test {{secret:pw}} = hunter''2", word="x")
    fleet.step()
    record = fleet.command_record()
    assert record.output == "x ***\n"
    assert record.invocation_status is RecordState.SUCCESS
    assert json.loads(record.parameters) == {"word": "x"}
    everything = [one.value for topic in fleet.bus.topics() for one in all_records(fleet.bus, topic)]
    assert not any(b"hunter2" in value for value in everything)
    assert b"hunter2" not in (fleet.folder / "i-1" / "journal.db").read_bytes()


UNREADABLE = f"/{'é' * 199}"
"""A path that is too long for the host's file systems."""


@pytest.mark.parametrize(
    ("content", "fields", "code", "says"),
    [
        ("exit 9", {}, ErrorCode.EXIT_CODE_NONZERO, "exit code"),
        ("echo {{secret:no}}", {}, ErrorCode.EXECUTION_EXCEPTION, "no secret no; start it with --secret"),
        ("#!/no/such\n", {}, ErrorCode.COMMAND_NOT_APPLICABLE, "/no/such"),
        ("x", {"username": "no-such-user"}, ErrorCode.ACCOUNT_NOT_EXISTS, "no-such-user"),
        ("x", {"working_dir": "/no/such"}, ErrorCode.DIRECTORY_NOT_EXISTS, "/no/such"),
        ("x", {"working_dir": UNREADABLE}, ErrorCode.DIRECTORY_NOT_EXISTS, "File name too long"),
    ],
)
def test_a_refused_run_has_its_reason_in_the_record(
    fleet: Fleet, content: str, fields: dict[str, str], code: ErrorCode, says: str
) -> None:
    fleet.start()
    asked = msgspec.structs.replace(command(content), working_dir=fields.get("working_dir", ""))
    fleet.caller.run(asked, ("i-1",), parameters={}, username=fields.get("username", ""))
    fleet.step()
    state, found, info = fleet.outcome()
    assert found is code
    assert says in info
    assert state in {RecordState.FAILED, RecordState.ERROR}


def test_a_command_runs_in_its_working_directory(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start()
    fleet.caller.run(
        msgspec.structs.replace(command("pwd"), working_dir=str(tmp_path)), ("i-1",), parameters={}
    )
    fleet.step()
    assert fleet.command_record().output == f"{tmp_path}\n"


def test_long_output_is_cut_and_the_dropped_bytes_are_counted(fleet: Fleet) -> None:
    fleet.start()
    fleet.ask("i=0; while [ $i -lt 8193 ]; do printf 語; i=$((i+1)); done")
    fleet.step()
    record = fleet.command_record()
    assert (record.output, record.dropped) == ("語" * 8192, 3)


def test_an_exception_in_the_agent_ends_the_run_with_an_error(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Task) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(Task, "execute", fails)
    fleet.start()
    fleet.ask("x")
    fleet.step()
    assert fleet.outcome()[:2] == (RecordState.ERROR, ErrorCode.EXECUTION_EXCEPTION)


def test_a_sent_file_is_written_and_recorded(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start()
    fleet.caller.send(File(name="a", content="b", target_dir=str(tmp_path / "sent")), ("i-1",))
    fleet.step()
    assert fleet.file_record().invocation_status is RecordState.SUCCESS
    assert (tmp_path / "sent" / "a").read_text() == "b"
    (event,) = (json.loads(record.value) for record in all_records(fleet.bus, EVENTS))
    assert (event["level"], event["content"]["fileName"], event["content"]["errorCode"]) == ("INFO", "a", "0")


def test_output_is_reported_while_a_command_runs(fleet: Fleet) -> None:
    agent = fleet.start()
    fleet.ask("echo begun; sleep 1000")
    agent.step(0)

    def has_printed() -> bool:
        agent.step(0.05)
        fleet.clock.advance(1)
        return "begun\n" in outputs(fleet)

    until(has_printed)
    running = fleet.records()[-1]
    assert running.invocation_status is RecordState.RUNNING
    assert running.ended_at == ""
    agent.close()


def outputs(fleet: Fleet) -> list[str]:
    return [one.output for one in fleet.records() if isinstance(one, CommandRecord)]


# Addressees and authorisation.


def test_each_agent_runs_only_requests_for_its_instance(fleet: Fleet) -> None:
    for instance in ("i-1", "i-2", "i-3"):
        fleet.start(instance)
    fleet.ask("echo", "i-1", "i-3")
    for instance in ("i-1", "i-2", "i-3"):
        fleet.step(instance)
    assert sorted(one.instance_id for one in fleet.final()) == ["i-1", "i-3"]


def test_an_unsigned_request_is_rejected_and_not_run(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start()
    signed = fleet.keys.sign(fleet.ask(f"echo > {tmp_path}/done-1"))
    fleet.step()
    assert (tmp_path / "done-1").exists()
    changed = signed.value.replace(b"done-1", b"done-2").replace(b'"t-', b'"x-')
    fleet.bus.append([NewRecord(COMMANDS, changed, None, signed.headers), NewRecord(COMMANDS, changed)])
    fleet.bus.append([NewRecord(COMMANDS, b"junk"), NewRecord(COMMANDS, changed.replace(b"i-1", b"i-9"))])
    fleet.step()
    assert not (tmp_path / "done-2").exists()
    assert len(fleet.final()) == 1
    reasons = {record.header("reason") for record in all_records(fleet.bus, REJECTS)}
    assert reasons == {
        b"the request is not signed; send it with `heliograph assistant`",
        b"the request is not signed with a key of this deployment, or was changed; compare assistant.keys of "
        b"caller and agent",
    }
    assert {record.header("where") for record in all_records(fleet.bus, REJECTS)} == {b"agent of i-1"}


def test_a_repeated_request_is_not_run_again(fleet: Fleet) -> None:
    fleet.start()
    signed = fleet.keys.sign(fleet.ask("echo"))
    fleet.bus.append([signed])
    fleet.step()
    fleet.bus.append([signed])
    fleet.step()
    fleet.clock.advance(WINDOW / 1000 + 1)
    fleet.bus.append([signed])
    fleet.step()
    assert len(fleet.final()) == 1
    (rejected,) = all_records(fleet.bus, REJECTS)
    assert b"it is a copy" in (rejected.header("reason") or b"")


def test_a_request_signed_for_another_bus_is_not_run(fleet: Fleet, tmp_path: Path) -> None:
    other = Fleet(tmp_path / "other")
    fleet.start()
    fleet.bus.append([other.keys.sign(other.ask("echo"))])
    fleet.step()
    assert fleet.records() == []


def test_a_signed_request_beyond_a_limit_is_not_run(fleet: Fleet) -> None:
    fleet.start()
    asked = fleet.ask("echo", "i-2")
    value = encode(msgspec.structs.replace(asked, instances=("i-1",), command=command("x" * 20_000)))
    fleet.bus.append([NewRecord(COMMANDS, value, None, ((SIGNATURE, fleet.keys.signature(value)),))])
    fleet.step()
    (rejected,) = all_records(fleet.bus, REJECTS)
    assert b"at most 16384" in (rejected.header("reason") or b"")


def test_a_command_off_the_allow_list_is_recorded_as_invalid(fleet: Fleet) -> None:
    fleet.start(policy=Policy(frozenset({"other"})))
    fleet.ask("echo")
    fleet.step()
    assert fleet.outcome()[:2] == (RecordState.INVALID, ErrorCode.COMMAND_NOT_APPLICABLE)


def test_a_new_agent_ignores_requests_older_than_its_journal(fleet: Fleet) -> None:
    fleet.ask("echo before")
    fleet.start()
    fleet.ask("echo after")
    fleet.step()
    assert fleet.command_record().output == "after\n"


def test_a_request_that_is_too_old_is_recorded_and_not_run(fleet: Fleet) -> None:
    fleet.start()
    fleet.crash()
    fleet.ask("echo")
    fleet.clock.advance(ACCEPT_WITHIN / 1000 + 1)
    fleet.start()
    fleet.step()
    assert fleet.outcome()[:2] == (RecordState.ABORTED, ErrorCode.DELIVERY_TIMEOUT)


# Stops and concurrency.


def test_a_run_is_stopped_while_it_runs(fleet: Fleet, tmp_path: Path) -> None:
    agent = fleet.start()
    asked = fleet.ask(f"echo begun | tee {tmp_path}/begun; sleep 1000")
    agent.step(0)
    until((tmp_path / "begun").exists)
    fleet.clock.advance(5)
    fleet.caller.stop(asked)
    fleet.step()
    record = fleet.command_record()
    assert (record.invocation_status, record.output) == (RecordState.TERMINATED, "begun\n")
    assert record.stop_time > record.start_time
    assert record.exit_code is None


def test_stopping_one_instance_leaves_the_other_running(fleet: Fleet, tmp_path: Path) -> None:
    agents = [fleet.start(instance) for instance in ("i-1", "i-2")]
    asked = fleet.ask(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done", "i-1", "i-2")
    for agent in agents:
        agent.step(0)
    fleet.caller.stop(asked, ["i-2"])
    fleet.step("i-2")
    (tmp_path / "go").touch()
    fleet.step("i-1")
    states = {one.instance_id: one.invocation_status for one in fleet.final()}
    assert states == {"i-1": RecordState.SUCCESS, "i-2": RecordState.TERMINATED}


def test_a_waiting_run_that_is_stopped_is_cancelled_and_never_starts(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start()
    asked = fleet.schedule(f"echo > {tmp_path}/ran")
    fleet.step()
    fleet.caller.stop(asked)
    fleet.step()
    fleet.clock.advance(600)
    fleet.step()
    assert fleet.command_record().invocation_status is RecordState.CANCELLED
    assert not (tmp_path / "ran").exists()


def test_runs_at_the_same_time_are_limited_by_concurrency(fleet: Fleet) -> None:
    agent = fleet.start(policy=Policy(concurrency=3))
    for _ in range(8):
        fleet.ask("sleep 0.1")
    most, deadline = 0, time.monotonic() + 60
    while len(fleet.final()) < 8 and time.monotonic() < deadline:
        agent.step(0.02)
        most = max(most, agent.running())
    assert (len(fleet.final()), most) == (8, 3)
