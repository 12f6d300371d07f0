"""Execution records: validation, states and error codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InvalidExecution
from schemas.execution import (
    CommandRecord,
    CommandType,
    ExecutionState,
    FileRecord,
    InstanceState,
    Key,
    RecordState,
    check_execution,
    execution_record,
    execution_state,
    instance_state,
)
from schemas.execution_errors import ERRORS, ErrorCode
from schemas.topics import EVENT_LIMIT
from tests.executions import COMMAND, FAILED, FILE, encoded


def refused(value: bytes) -> str:
    with pytest.raises(InvalidExecution) as error:
        check_execution(value)
    return str(error.value)


@pytest.mark.parametrize("example", [COMMAND, FILE, {**COMMAND, **FAILED}])
def test_the_examples_of_the_manual_are_valid_and_keep_keys_and_types(example: dict[str, Any]) -> None:
    record = check_execution(encoded(example))
    written = json.loads(record.encode())
    assert written == example
    assert {name: type(value) for name, value in written.items()} == {
        name: type(value) for name, value in example.items()
    }


def test_fields_are_encoded_in_the_order_of_the_manual() -> None:
    assert list(json.loads(check_execution(encoded(COMMAND)).encode())) == list(COMMAND)
    assert list(json.loads(check_execution(encoded(FILE)).encode())) == list(FILE)
    assert (len(CommandRecord.model_fields), len(FileRecord.model_fields)) == (25 + 2, 23)


def test_a_record_has_its_instance_as_key_and_is_marked_as_checked() -> None:
    record = check_execution(encoded(COMMAND))
    made = execution_record(record)
    assert (made.topic, made.key) == ("executions", b"i-bp1hd5ztmab9cgc0****")
    assert check_execution(made.value) == record
    assert record.key == Key("t-hz01x7rtjfy****", "i-bp1hd5ztmab9cgc0****", 1)


@pytest.mark.parametrize("name", [name for name in COMMAND if name not in {"CommandId", "ExitCode"}])
def test_every_field_of_a_command_record_is_required(name: str) -> None:
    assert refused(encoded(COMMAND, **{name: None})) == f"{name}: is missing"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"FinishTime": "2021-09-26T05:47:20Z"}, "FinishTime: is not a field of this record, did you mean"),
        ({"region_id": "cn-hangzhou"}, "region_id: is not a field of this record"),
        ({"Repeats": "1"}, "Repeats: must be a valid integer"),
        ({"Repeats": 0}, "Repeats: must be greater than or equal to 1"),
        ({"Timeout": True}, "Timeout: must be a valid integer"),
        ({"CallerUid": "160998252992"}, "CallerUid: must be a valid integer"),
        ({"InvokeId": "t-1/../../x"}, "InvokeId: is not an id"),
        ({"InstanceId": ""}, "InstanceId: is not an id"),
        ({"CreationTime": ""}, "CreationTime: is not a time"),
        ({"StopTime": "2021-09-26T05:47Z"}, "StopTime: is not a time; write it as 2021-09-26T05:47:20Z"),
        ({"InvocationStatus": "Done"}, "InvocationStatus: must be 'Pending'"),
        ({"RepeatMode": "DryRun"}, "RepeatMode: must be 'Once'"),
        ({"Parameters": "[]"}, "Parameters: is not JSON text of an object; write {} for none"),
        ({"Parameters": {}}, "Parameters: must be a valid string"),
        ({**FAILED, "ErrorInfo": None}, "ErrorInfo: is missing; write both ErrorCode and ErrorInfo"),
        ({**FAILED, "ErrorCode": None}, "ErrorCode: is missing; write both ErrorCode and ErrorInfo"),
        ({**FAILED, "ErrorCode": "FileCreateFail"}, "ErrorCode: FileCreateFail is for files only"),
        ({**FAILED, "ErrorCode": "Unheard"}, "ErrorCode: must be 'InstanceNotExists'"),
        ({**FAILED, "InvocationStatus": "Success"}, "ErrorCode: contradicts InvocationStatus Success"),
        ({"ExitCode": 1}, "ExitCode: must be 0, since InvocationStatus is Success"),
        ({"FileName": "a.txt"}, "record: has both CommandId and FileName"),
        ({"CommandId": None}, "record: has neither CommandId nor FileName"),
    ],
)
def test_a_wrong_command_record_is_refused_with_the_field(changes: dict[str, Any], reason: str) -> None:
    assert refused(encoded(COMMAND, **changes)).startswith(reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"FinishedTime": ""}, "FinishedTime: is not a field of this record, did you mean FinishTime?"),
        ({"FileContent": "not base64!"}, "FileContent: is not Base64, as ContentType says"),
        ({"ErrorCode": "ExitCodeNonzero"}, "ErrorCode: ExitCodeNonzero is for commands only"),
        ({"Overwrite": "true"}, "Overwrite: must be a valid boolean"),
        ({"FileName": ""}, "FileName: must have at least 1 character"),
    ],
)
def test_a_wrong_file_record_is_refused_with_the_field(changes: dict[str, Any], reason: str) -> None:
    assert refused(encoded(FILE, **changes)).startswith(reason)


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"CommandId":' + b"[" * 100_000]
)
def test_bytes_that_are_not_a_json_object_are_refused(value: bytes) -> None:
    assert refused(value).startswith("record: is not a JSON object: ")


def test_a_record_above_the_size_limit_of_events_is_refused() -> None:
    assert refused(encoded(COMMAND, Output="x" * EVENT_LIMIT)).endswith("bytes; at most 262144 are accepted")


@given(st.sampled_from([COMMAND, FILE]), st.data())
def test_any_changed_value_is_either_valid_or_refused_with_a_field(
    example: dict[str, Any], data: st.DataObject
) -> None:
    """A valid record is the same after encoding and reading; a refusal names a field of the record."""
    name = data.draw(st.sampled_from(sorted(example)))
    value = data.draw(
        st.one_of(
            st.integers(),
            st.text(),
            st.booleans(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.just([]),
            st.just({}),
        )
    )
    try:
        record = check_execution(encoded(example, **{name: value}))
    except InvalidExecution as error:
        assert error.field in {*example, "ExitCode"}  # noqa: PT017 - both ways are right
        return
    assert check_execution(record.encode()) == record


def test_both_spellings_of_powershell_are_read() -> None:
    record = check_execution(encoded(COMMAND, CommandType="RunPowershellScript"))
    assert isinstance(record, CommandRecord)
    assert record.command_type is CommandType.POWER_SHELL


def test_the_content_of_a_file_record_is_the_sent_bytes() -> None:
    record = check_execution(encoded(FILE))
    assert isinstance(record, FileRecord)
    assert record.content == b"send file test"
    plain = check_execution(encoded(FILE, ContentType="PlainText", FileContent="日"))
    assert isinstance(plain, FileRecord)
    assert plain.content == "日".encode()


def test_content_that_was_refused_as_invalid_base64_is_kept_as_sent() -> None:
    change = {"FileContent": "not base64!", "ErrorCode": "FileContentInvalid"}
    assert json.loads(check_execution(encoded(FILE, **change)).encode())["FileContent"] == "not base64!"


PRIORITIES: list[tuple[str, Callable[[set[str]], bool]]] = [
    ("Running", lambda found: "Running" in found),
    ("Stopping", lambda found: "Stopping" in found),
    ("Stopped", lambda found: found == {"Stopped"}),
    ("Failed", lambda found: found in ({"Failed"}, {"Failed", "Stopped"})),
    ("Finished", lambda found: found in ({"Finished"}, {"Finished", "Stopped"})),
    ("PartialFailed", lambda found: {"Failed", "Finished"} <= found),
]
"""The table of the manual: states of an execution by priority, each with its condition on the instances' states."""


@pytest.mark.parametrize(
    "found", [set(some) for size in range(1, 6) for some in combinations(InstanceState, size)]
)
def test_the_execution_state_follows_the_table_of_the_manual(found: set[InstanceState]) -> None:
    expected = next(state for state, holds in PRIORITIES if holds({str(one) for one in found}))
    assert execution_state(found) == expected
    assert execution_state([*found, *found]) is ExecutionState(expected)


def test_an_execution_without_instances_has_no_state() -> None:
    with pytest.raises(ValueError, match="at least one"):
        execution_state([])


def test_every_record_state_has_an_instance_state() -> None:
    states = {state: instance_state(state) for state in RecordState}
    assert states[RecordState.FAILED] is InstanceState.FINISHED
    assert states[RecordState.TIMEOUT] is InstanceState.FAILED
    assert {state for state in RecordState if not state.final} == {
        "Pending",
        "Scheduled",
        "Running",
        "Stopping",
    }


def test_failed_means_failed_for_a_file_and_finished_for_a_command() -> None:
    assert check_execution(encoded(FILE)).instance_state is InstanceState.FAILED
    assert check_execution(encoded(COMMAND, **FAILED)).instance_state is InstanceState.FINISHED


def test_every_error_code_has_info_meaning_and_remedy() -> None:
    assert set(ERRORS) == set(ErrorCode)
    for error in ERRORS.values():
        assert error.info
        assert error.meaning.endswith(".")
        assert error.remedy.endswith(".")
        assert error.commands or error.files
    assert (len(ERRORS), sum(error.commands for error in ERRORS.values())) == (25, 19)
    assert sum(error.files for error in ERRORS.values()) == 15
