"""Execution records: the result of one command run, or of one file sent, on one instance.

Fields, names, types and order are those of the objects that Cloud Assistant's "Operation Content and Result Delivery"
stores (ECS user manual, parameters contained in O&M task execution records). A record is one JSON object, the value of
a record of the topic `executions`. The key is `InstanceId`, so the records of an instance stay in order. An object with
`CommandId` is the record of a command, one with `FileName` that of a file. Each (InvokeId, InstanceId, Repeats) has one
final record; records before it report progress. Bytes are never re-serialised.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_pascal
from pydantic_core import ErrorDetails, PydanticCustomError

from schemas.errors import InvalidExecution
from schemas.execution_errors import ERRORS, ErrorCode
from schemas.problems import suggestion
from schemas.record import CHECKED, FORMAT, FORMAT_VERSION, NewRecord
from schemas.times import is_content_time
from schemas.topics import EVENT_LIMIT, EXECUTIONS

WHOLE = "record"
"""Field name in errors about the input as a whole."""


class RecordState(StrEnum):
    """`InvocationStatus`: the state of one run on one instance."""

    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    RUNNING = "Running"
    STOPPING = "Stopping"
    SUCCESS = "Success"
    FAILED = "Failed"  # a command ended with an exit code other than 0; a file was not written
    TIMEOUT = "Timeout"
    ERROR = "Error"  # the run could not start, or was interrupted
    ABORTED = "Aborted"  # the request did not reach the instance
    INVALID = "Invalid"  # the instance cannot do what the request says
    CANCELLED = "Cancelled"  # stopped before it started
    TERMINATED = "Terminated"  # stopped while it ran

    @property
    def final(self) -> bool:
        """True if no further record of the run follows."""
        return _INSTANCE_STATES[self] not in {InstanceState.RUNNING, InstanceState.STOPPING}


class InstanceState(StrEnum):
    """State of an execution on one instance. `Finished`: the command ended, with any exit code."""

    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FINISHED = "Finished"
    FAILED = "Failed"


class ExecutionState(StrEnum):
    """State of an execution over all its instances."""

    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    FINISHED = "Finished"
    PARTIAL_FAILED = "PartialFailed"


_INSTANCE_STATES = {
    RecordState.PENDING: InstanceState.RUNNING,
    RecordState.SCHEDULED: InstanceState.RUNNING,
    RecordState.RUNNING: InstanceState.RUNNING,
    RecordState.STOPPING: InstanceState.STOPPING,
    RecordState.SUCCESS: InstanceState.FINISHED,
    RecordState.FAILED: InstanceState.FINISHED,
    RecordState.TIMEOUT: InstanceState.FAILED,
    RecordState.ERROR: InstanceState.FAILED,
    RecordState.ABORTED: InstanceState.FAILED,
    RecordState.INVALID: InstanceState.FAILED,
    RecordState.CANCELLED: InstanceState.STOPPED,
    RecordState.TERMINATED: InstanceState.STOPPED,
}


def instance_state(record: RecordState) -> InstanceState:
    """Returns the state on an instance of a command that runs once. A recurring command is `Running` until stopped."""
    return _INSTANCE_STATES[record]


def execution_state(instances: Collection[InstanceState]) -> ExecutionState:
    """Combines the states on all instances by the manual's priorities. Raises ValueError if there are no instances.

    Stopped instances count only if all are stopped. So `Failed`, `Finished` and `Stopped` together, for which the
    manual names no state, are `PartialFailed`.
    """
    found = set(instances)
    if not found:
        raise ValueError("an execution has at least one instance")
    for state in (InstanceState.RUNNING, InstanceState.STOPPING):
        if state in found:
            return ExecutionState(state)
    ended = found - {InstanceState.STOPPED} or found
    return ExecutionState(ended.pop()) if len(ended) == 1 else ExecutionState.PARTIAL_FAILED


class CommandType(StrEnum):
    """`CommandType`, read without regard to case, since both spellings of PowerShell occur."""

    SHELL = "RunShellScript"
    BAT = "RunBatScript"
    POWER_SHELL = "RunPowerShellScript"

    @classmethod
    def _missing_(cls, value: object) -> CommandType | None:
        return next((kind for kind in cls if kind.casefold() == str(value).casefold()), None)


class RepeatMode(StrEnum):
    """`RepeatMode`: the times at which a command runs."""

    ONCE = "Once"
    PERIOD = "Period"
    NEXT_REBOOT_ONLY = "NextRebootOnly"
    EVERY_REBOOT = "EveryReboot"


class ContentType(StrEnum):
    """`ContentType`: the encoding of `FileContent`."""

    PLAIN_TEXT = "PlainText"
    BASE64 = "Base64"


ID = r"[A-Za-z0-9][A-Za-z0-9._*-]{0,127}"
"""Pattern of ids. Ids are parts of object names; published ones are masked with `*`."""
_is_id = re.compile(ID).fullmatch


def _checked_id(text: str) -> str:
    if not _is_id(text):
        raise PydanticCustomError(
            "form",
            "is not an id; write 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit",
        )
    return text


def _checked_time(text: str) -> str:
    if not (is_content_time(text) and len(text) == len("2021-09-26T05:47:20Z")):
        raise PydanticCustomError("form", "is not a time; write it as 2021-09-26T05:47:20Z")
    return text


def _checked_time_or_none(text: str) -> str:
    return text and _checked_time(text)


def _checked_parameters(text: str) -> str:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise PydanticCustomError("form", "is not JSON text of an object; write {} for none")
    return text


Id = Annotated[str, AfterValidator(_checked_id)]
Time = Annotated[str, AfterValidator(_checked_time)]
TimeOrNone = Annotated[str, AfterValidator(_checked_time_or_none)]
"""A time, or an empty text if the time has not come yet."""
Name = Annotated[str, StringConstraints(max_length=512)]
Uid = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Key(NamedTuple):
    """The run that a record reports: execution, instance and number of the run."""

    invoke_id: str
    instance_id: str
    repeats: int


class _Record(BaseModel):
    """Base of the records of commands and of files."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_pascal, validate_by_name=True
    )

    def encode(self) -> bytes:
        """Returns the record's JSON object, in the order of the fields and without those that are None."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class CommandRecord(_Record):
    """One run of a command on one instance.

    `command_content`: the script as plain text; `timeout`: seconds; `frequency`: the schedule, empty for none;
    `parameters`: JSON text of an object; `repeats`: number of the run on this instance, from 1; `dropped`: bytes of
    output that were cut; `exit_code`: absent if no process of the command ended. `error_code` and `error_info` give the
    reason why the command was not sent or did not run, and are absent otherwise. A time is empty until it happens.
    """

    region_id: Id
    instance_id: Id
    invoke_id: Id
    command_id: Id
    command_name: Name
    command_type: CommandType
    command_content: str
    resource_owner_uid: Uid
    caller_uid: Uid
    caller_type: Name
    timeout: Count
    frequency: Name
    parameters: Annotated[str, AfterValidator(_checked_parameters)]
    username: Name
    repeat_mode: RepeatMode
    repeats: Annotated[int, Field(ge=1, lt=2**63)]
    invocation_status: RecordState
    error_code: ErrorCode | None = None
    error_info: str | None = None
    dropped: Count
    output: str
    exit_code: Annotated[int, Field(ge=-(2**31), lt=2**32)] | None = None
    creation_time: Time
    start_time: TimeOrNone
    update_time: Time
    finished_time: TimeOrNone
    stop_time: TimeOrNone

    @property
    def key(self) -> Key:
        """The run that the record reports."""
        return Key(self.invoke_id, self.instance_id, self.repeats)

    @property
    def instance_state(self) -> InstanceState:
        """The state on the instance, for a command that runs once."""
        return instance_state(self.invocation_status)

    @property
    def ended_at(self) -> str:
        """Time at which the run ended; empty while it runs."""
        return self.finished_time

    @model_validator(mode="after")
    def _agrees_with_its_state(self) -> Self:
        _check_error(self.invocation_status, self.error_code, self.error_info)
        if self.error_code and not ERRORS[self.error_code].commands:
            raise _wrong("ErrorCode", f"{self.error_code} is for files only; write an error code of commands")
        if self.invocation_status is RecordState.SUCCESS and self.exit_code != 0:
            raise _wrong("ExitCode", "must be 0, since InvocationStatus is Success")
        return self


class FileRecord(_Record):
    """One file sent to one instance.

    `file_content`: the content as sent, in the encoding that `content_type` names; `timeout`: seconds. `error_code` and
    `error_info` give the reason why the file was not sent, and are absent otherwise. A time is empty until it happens.
    """

    region_id: Id
    instance_id: Id
    invoke_id: Id
    file_name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    content_type: ContentType
    description: Name
    file_content: str
    file_group: Name
    file_mode: Name
    file_owner: Name
    resource_owner_uid: Uid
    caller_uid: Uid
    caller_type: Name
    overwrite: bool
    target_dir: Name
    timeout: Count
    invocation_status: RecordState
    error_code: ErrorCode | None = None
    error_info: str | None = None
    creation_time: Time
    start_time: TimeOrNone
    update_time: Time
    finish_time: TimeOrNone

    @property
    def key(self) -> Key:
        """The run that the record reports; for a file, its number is always 1."""
        return Key(self.invoke_id, self.instance_id, 1)

    @property
    def instance_state(self) -> InstanceState:
        """The state on the instance. A file has no exit code: `Failed` means that it was not written."""
        state = self.invocation_status
        return InstanceState.FAILED if state is RecordState.FAILED else instance_state(state)

    @property
    def ended_at(self) -> str:
        """Time at which the file was written or refused; empty until then."""
        return self.finish_time

    @property
    def content(self) -> bytes:
        """The file's bytes. Raises ValueError if `content_type` is Base64 and the content is not."""
        if self.content_type is ContentType.BASE64:
            return b64decode(self.file_content, validate=True)
        return self.file_content.encode()

    @model_validator(mode="after")
    def _agrees_with_its_state(self) -> Self:
        _check_error(self.invocation_status, self.error_code, self.error_info)
        if self.error_code and not ERRORS[self.error_code].files:
            raise _wrong("ErrorCode", f"{self.error_code} is for commands only; write an error code of files")
        if self.error_code is not ErrorCode.FILE_CONTENT_INVALID:
            try:
                _ = self.content
            except ValueError:
                raise _wrong(
                    "FileContent", "is not Base64, as ContentType says; correct one of the two"
                ) from None
        return self


ExecutionRecord = CommandRecord | FileRecord
FIELDS: tuple[str, ...] = tuple(
    dict.fromkeys(to_pascal(name) for model in (CommandRecord, FileRecord) for name in model.model_fields)
)
"""JSON names of all fields of both kinds of record."""


def execution_record(record: ExecutionRecord) -> NewRecord:
    """Builds the record of the topic `executions`, marked as checked."""
    headers = ((FORMAT, FORMAT_VERSION), (CHECKED, b"1"))
    return NewRecord(EXECUTIONS, record.encode(), record.instance_id.encode(), headers)


class _Kind(msgspec.Struct, gc=False, rename="pascal"):
    command_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    file_name: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_kind = msgspec.json.Decoder(_Kind).decode


def check_execution(value: bytes) -> ExecutionRecord:
    """Validates the bytes of an execution record in full. Raises InvalidExecution for the first wrong field."""
    if len(value) > EVENT_LIMIT:
        raise InvalidExecution(WHOLE, f"has {len(value)} bytes; at most {EVENT_LIMIT} are accepted")
    model = _model_of(value)
    try:
        return model.model_validate_json(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _first_problem(error.errors(include_url=False), model) from None


def _model_of(value: bytes) -> type[CommandRecord | FileRecord]:
    try:
        kind = _decode_kind(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidExecution(WHOLE, f"is not a JSON object: {error or 'nested too deeply'}") from None
    is_command, is_file = (field is not msgspec.UNSET for field in (kind.command_id, kind.file_name))
    if is_command == is_file:
        found = "both CommandId and" if is_command else "neither CommandId nor"
        raise InvalidExecution(
            WHOLE, f"has {found} FileName; write CommandId for a command, or FileName for a file"
        )
    return CommandRecord if is_command else FileRecord


def _wrong(field: str, problem: str) -> PydanticCustomError:
    """Builds the error for fields that contradict each other; `field` names the field to correct."""
    return PydanticCustomError("field", "{problem}", {"field": field, "problem": problem})


def _check_error(state: RecordState, code: ErrorCode | None, info: str | None) -> None:
    if (code is None) != (info is None):
        missing = "ErrorCode" if code is None else "ErrorInfo"
        raise _wrong(missing, "is missing; write both ErrorCode and ErrorInfo, or neither")
    if code is not None and state is RecordState.SUCCESS:
        raise _wrong("ErrorCode", "contradicts InvocationStatus Success; leave ErrorCode and ErrorInfo out")


def _first_problem(problems: list[ErrorDetails], model: type[BaseModel]) -> InvalidExecution:
    """Returns the problem of the first field in the record's order; unknown fields come last."""
    fields = [to_pascal(name) for name in model.model_fields]

    def place(problem: ErrorDetails) -> int:
        field = str(problem["loc"][0]) if problem["loc"] else ""
        return fields.index(field) if field in fields else len(fields)

    problem = min(problems, key=place)
    context = problem.get("ctx", {})
    field = str(context["field"] if problem["type"] == "field" else next(iter(problem["loc"]), WHOLE))
    return InvalidExecution(field, _text(problem, field, fields))


def _text(problem: ErrorDetails, field: str, fields: list[str]) -> str:
    match problem["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"is not a field of this record{suggestion(field, fields) or '; leave it out'}"
        case "form" | "field":
            return problem["msg"]
        case _:
            return problem["msg"].replace("Input should", "must").replace("String should", "must")
