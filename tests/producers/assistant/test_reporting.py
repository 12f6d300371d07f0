"""Execution records and events built by agents."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.assistant.output import NOTHING, OUTPUT_LIMIT, OutputTail
from producers.assistant.reporting import Error, Instance, Progress, build_event, build_record
from producers.assistant.requests import COMMAND_LIMIT, File, Invocation, Run, SendFile, check
from schemas.errors import InputError
from schemas.execution import ID, RecordState, check_execution
from schemas.execution_errors import ERRORS, ErrorCode
from schemas.notification import check as check_notification
from tests.producers.assistant.fleet import NOW, REGION, command

RUN = Run("r-1", NOW, REGION, 7, invoke_id="t-1", instances=("i-1",), command=command())
FILE = SendFile("r-1", NOW, REGION, 7, invoke_id="f-1", instances=("i-1",), file=File(name="a", content="b"))
IDS = st.from_regex(ID, fullmatch=True)


def check_records_and_events(asked: Invocation, kept: OutputTail = NOTHING, instance: str = "i-1") -> None:
    """Builds a scheduled and a failed record, and an event for each, and checks them as the edge does."""
    told = Instance(instance, REGION, 9)
    code = ErrorCode.ACCOUNT_NOT_EXISTS
    error = Error(
        code, f"{ERRORS[code].info}: {asked.username if isinstance(asked, Run) else asked.file.owner}"
    )
    for progress in (
        Progress(RecordState.SCHEDULED, NOW),
        Progress(RecordState.ERROR, NOW, output=kept, error=error),
    ):
        made = build_record(asked, told, 1, progress)
        assert check_execution(made.encode()) == made
        check_notification(build_event(made, told, NOW))


def with_text(field: str, text: str) -> Invocation:
    if field in {"owner", "group", "target_dir", "file_name"}:
        changed = {field.removeprefix("file_"): f"/{text}" if field == "target_dir" else text}
        return msgspec.structs.replace(FILE, file=msgspec.structs.replace(FILE.file, **changed))
    if field == "username":
        return msgspec.structs.replace(RUN, username=text)
    value = f"/{text}" if field == "working_dir" else text
    return msgspec.structs.replace(RUN, command=msgspec.structs.replace(RUN.command, **{field: value}))


@pytest.mark.parametrize(
    "field",
    ["name", "description", "working_dir", "username", "owner", "group", "target_dir", "file_name"],
)
def test_every_allowed_text_fits_into_its_record(field: str) -> None:
    taken = 0
    for size in range(1, 600):
        asked = with_text(field, "語" * size)
        try:
            check(asked)
        except InputError:
            break
        check_records_and_events(asked)
        taken = size
    assert 0 < taken < 599


def test_the_largest_possible_record_is_valid() -> None:
    script = command("\x01" * (COMMAND_LIMIT // 4 * 3))
    asked = msgspec.structs.replace(RUN, command=script)
    check(asked)
    check_records_and_events(asked, OutputTail("\x01" * OUTPUT_LIMIT, 2**62))


@given(IDS, IDS)
def test_every_valid_id_gives_valid_records_and_events(invoke_id: str, instance: str) -> None:
    asked = msgspec.structs.replace(RUN, invoke_id=invoke_id, instances=(instance,))
    check(asked)
    check_records_and_events(asked, instance=instance)
