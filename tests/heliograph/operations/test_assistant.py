"""Asking instances for runs and files: the fields of a request, the library of commands, the states of executions."""

from __future__ import annotations

import pytest

from heliograph.app.deployment import Deployment
from heliograph.operations.assistant import (
    CommandFields,
    FileFields,
    change_command,
    choose_command,
    clone_command,
    create_command,
    find_command,
    list_commands,
    list_executions,
    make_signing_key,
    open_caller,
    remove_commands,
    run_command,
    send_file,
    stop_execution,
)
from producers.assistant.caller import Caller
from schemas.errors import InputError, NotFound
from schemas.execution import CommandType, ContentType, ExecutionState


@pytest.fixture
def caller(deployment: Deployment) -> Caller:
    make_signing_key(deployment)
    return open_caller(deployment, "cn-hangzhou", 9)


def test_a_caller_without_a_key_is_refused_with_the_command_that_makes_one(deployment: Deployment) -> None:
    with pytest.raises(InputError, match="`heliograph assistant key` creates a key"):
        open_caller(deployment, "cn-hangzhou", 9)


def test_the_signing_key_is_made_once(deployment: Deployment) -> None:
    path, made = make_signing_key(deployment)
    key = path.read_bytes()
    assert (made, make_signing_key(deployment)) == (True, (path, False))
    assert path.read_bytes() == key


def test_a_command_has_the_defaults_of_the_fields_that_are_not_given() -> None:
    command = CommandFields(content="echo 1\necho 2", timeout=1).build("c-1")
    assert (command.name, command.type, command.timeout) == ("echo 1", CommandType.SHELL, 10)
    assert CommandFields(content="x").build("c-1").timeout == 60


def test_a_command_without_content_is_refused() -> None:
    with pytest.raises(InputError, match="content: "):
        CommandFields(name="empty").build("c-1")


def test_a_clone_changes_only_the_fields_that_are_given(caller: Caller) -> None:
    create_command(caller, CommandFields(content="df", name="disks", description="free space", timeout=30))
    assert clone_command(caller, "disks", CommandFields(content="df -h")) == 2
    latest = find_command(caller, "disks").command
    assert (latest.content, latest.description, latest.timeout) == ("df -h", "free space", 30)
    assert find_command(caller, "disks", 1).command.content == "df"


def test_the_library_changes_and_removes_commands_by_name(caller: Caller) -> None:
    command_id = create_command(caller, CommandFields(content="df", name="disks"))
    change_command(caller, "disks", CommandFields(name="space"))
    assert [(one.command.command_id, one.command.name) for one in list_commands(caller)] == [
        (command_id, "space")
    ]
    with pytest.raises(NotFound):
        remove_commands(caller, ["space", "disks"])
    remove_commands(caller, ["space"])
    assert list_commands(caller) == []


def test_a_kept_command_brings_its_own_script(caller: Caller) -> None:
    create_command(caller, CommandFields(content="df", name="disks", timeout=30))
    chosen = choose_command(caller, CommandFields(timeout=90), "disks")
    assert (chosen.content, chosen.timeout) == ("df", 90)
    with pytest.raises(InputError, match="leave these fields out"):
        choose_command(caller, CommandFields(content="du"), "disks")


def test_instances_that_have_not_answered_are_among_the_results(caller: Caller) -> None:
    command = CommandFields(content="df").build("c-1")
    following = run_command(caller, command, ["i-1", "i-2"], parameters={})
    assert list(following.wait(0.0)) == []
    assert [(one.instance, one.record) for one in following.results()] == [("i-1", None), ("i-2", None)]
    assert not following.ended
    assert not following.succeeded()


def test_executions_are_listed_in_the_state_that_is_asked_for(caller: Caller) -> None:
    command = CommandFields(content="df").build("c-1")
    (run,) = run_command(caller, command, ["i-1"], parameters={}).invocations
    (running,) = list_executions(caller, 0, state=ExecutionState.RUNNING)
    assert (running.invocation.invoke_id, running.newest) == (run.invoke_id, {})
    stopping = stop_execution(caller, run.invoke_id)
    assert [one.instance for one in stopping.results()] == ["i-1"]
    assert not stopping.ended
    assert list(list_executions(caller, 0, state=ExecutionState.RUNNING)) == []
    assert list(list_executions(caller, 0, region="cn-beijing")) == []


def test_a_file_that_is_not_text_is_sent_in_base64(caller: Caller) -> None:
    (asked,) = send_file(
        caller, FileFields(name="f", data=b"\xff\x00", target_dir="/tmp"), ["i-1"]
    ).invocations
    assert getattr(asked, "file").content_type is ContentType.BASE64  # noqa: B009 - either kind of request


def test_stopping_an_unknown_execution_is_refused(caller: Caller) -> None:
    with pytest.raises(NotFound, match="execution 't-0': no such execution"):
        stop_execution(caller, "t-0")
