"""Requests to agents and to the library of commands: records of the topic `commands`, JSON objects with a `kind`.

Limits are those of Cloud Assistant (ECS user manual, "Limits" and "Use the immediate execution feature").
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import PurePosixPath

import msgspec

from producers.assistant.parameters import check_parameters
from producers.assistant.schedule import check_schedule
from schemas.errors import InputError
from schemas.execution import ID, CommandType, ContentType, RepeatMode

MOST_INSTANCES = 50
COMMAND_LIMIT = 16 * 1024
"""Limit of a script with its parameters, both in Base64, in bytes."""
FILE_LIMIT = 32 * 1024
"""Limit of a file in Base64, in bytes."""
DEFAULT_TIMEOUT = 60
LEAST_TIMEOUT = 10
MOST_TIMEOUT = 86_400
_LAST_TIME = 4_102_444_800_000
"""The year 2100 in milliseconds since the epoch. Schedules name no later time, and Python's dates end at 9999."""
_CHARACTERS = {
    "command name": 128,
    "description": 512,
    "working directory": 200,
    "username": 255,
    "frequency": 512,
    "target directory": 255,
    "owner": 64,
    "group": 64,
}
"""Limits of texts in characters, chosen so that the execution record of every accepted request is valid."""

_is_id = re.compile(ID).fullmatch
_is_mode = re.compile("[0-7]{3,4}").fullmatch


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A script with its properties. `content`: plain text; `timeout`: seconds; `working_dir`: empty for the home
    directory of the user that runs it."""

    command_id: str
    name: str
    type: CommandType
    content: str
    description: str = ""
    timeout: int = DEFAULT_TIMEOUT
    working_dir: str = ""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file to send. `content`: in the encoding that `content_type` names; `mode`: octal digits. If empty,
    `target_dir`, `owner` and `group` are the home directory, the user and the group of the agent."""

    name: str
    content: str
    content_type: ContentType = ContentType.PLAIN_TEXT
    description: str = ""
    target_dir: str = ""
    owner: str = ""
    group: str = ""
    mode: str = "0644"
    overwrite: bool = False
    timeout: int = DEFAULT_TIMEOUT

    @property
    def data(self) -> bytes:
        """The bytes of the file. Raises ValueError if `content_type` is Base64 and the content is not."""
        if self.content_type is ContentType.BASE64:
            return b64decode(self.content, validate=True)
        return self.content.encode()


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of the requests. `id`: unique; `time`: creation in milliseconds since the epoch; `caller`: account id."""

    id: str
    time: int
    region: str
    caller: int


class Run(_Request, frozen=True, tag="run", kw_only=True):
    """A request to run a command on the instances. `frequency`: the schedule if `mode` is Period, else empty."""

    invoke_id: str
    instances: tuple[str, ...]
    command: Command
    parameters: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    username: str = ""
    mode: RepeatMode = RepeatMode.ONCE
    frequency: str = ""


class SendFile(_Request, frozen=True, tag="send-file", kw_only=True):
    """A request to write a file on the instances."""

    invoke_id: str
    instances: tuple[str, ...]
    file: File


class Stop(_Request, frozen=True, tag="stop"):
    """A request to stop an execution and its future runs, on `instances` or, if this is empty, on all its instances."""

    invoke_id: str
    instances: tuple[str, ...] = ()


class KeepCommand(_Request, frozen=True, tag="keep"):
    """A request to keep a command, as the first version of a new id or the next version of a known id."""

    command: Command


class ModifyCommand(_Request, frozen=True, tag="modify", kw_only=True):
    """A request to change properties of the latest version of a kept command; None keeps a property."""

    command_id: str
    name: str | None = None
    description: str | None = None
    timeout: int | None = None


class DeleteCommand(_Request, frozen=True, tag="delete"):
    """A request to delete a kept command with all its versions."""

    command_id: str


Request = Run | SendFile | Stop | KeepCommand | ModifyCommand | DeleteCommand
Invocation = Run | SendFile
"""A request for which agents write execution records."""

_decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode


def decode(value: bytes) -> Request:
    """Reads a request and checks its limits. Raises InputError with the wrong field."""
    try:
        request: Request = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the record is not a request: {error}") from None
    check(request)
    return request


def check(request: Request) -> None:
    """Checks all limits of a request. Raises InputError with the field and its limit."""
    _check_id("region", request.region)
    if not 0 <= request.time < _LAST_TIME:
        raise InputError(f"time {request.time}: expected milliseconds since the epoch, of a year before 2100")
    if not 0 <= request.caller < 2**63:
        raise InputError(f"caller {request.caller}: expected an account id")
    match request:
        case Run():
            _check_instances(request.instances)
            _check_id("invoke_id", request.invoke_id)
            _check_run(request)
        case SendFile():
            _check_instances(request.instances)
            _check_id("invoke_id", request.invoke_id)
            _check_file(request.file)
        case Stop():
            _check_id("invoke_id", request.invoke_id)
        case KeepCommand():
            _check_command(request.command, {})
        case ModifyCommand():
            _check_id("command_id", request.command_id)
            _check_text("command name", request.name or "")
            _check_text("description", request.description or "")
            _check_timeout(DEFAULT_TIMEOUT if request.timeout is None else request.timeout)
        case DeleteCommand():
            _check_id("command_id", request.command_id)


def base64_size(content: str) -> int:
    """Returns the size of a text in Base64, in bytes."""
    return -(-len(content.encode()) // 3) * 4


def _check_run(run: Run) -> None:
    _check_command(run.command, run.parameters)
    check_parameters(run.command.content, run.parameters)
    _check_text("username", run.username)
    _check_text("frequency", run.frequency)
    if run.mode is RepeatMode.PERIOD:
        check_schedule(run.frequency, run.command.timeout, run.time)
    elif run.frequency:
        raise InputError(f"frequency: only {RepeatMode.PERIOD} has one; leave it out for {run.mode}")


def _check_command(command: Command, parameters: Mapping[str, str]) -> None:
    _check_id("command_id", command.command_id)
    _check_timeout(command.timeout)
    if not command.content.strip():
        raise InputError("command: is empty; give a script")
    _check_text("command name", command.name)
    _check_text("description", command.description)
    _check_folder("working directory", command.working_dir)
    size = base64_size(command.content)
    size += base64_size(msgspec.json.encode(parameters).decode()) if parameters else 0
    if size > COMMAND_LIMIT:
        raise InputError(
            f"command: has {size} bytes in Base64 with its parameters; at most {COMMAND_LIMIT} are accepted; "
            "send the script as a file"
        )


def _check_file(file: File) -> None:
    _check_timeout(file.timeout)
    if file.name in {"", ".", ".."} or "/" in file.name or "\0" in file.name or len(file.name.encode()) > 255:
        raise InputError(f"file name {file.name!r}: expected 1 to 255 bytes without /")
    _check_text("description", file.description)
    _check_folder("target directory", file.target_dir)
    _check_text("owner", file.owner)
    _check_text("group", file.group)
    if not _is_mode(file.mode):
        raise InputError(f"file mode {file.mode!r}: expected octal digits, as in 0644")
    _check_file_content(file)


def _check_file_content(file: File) -> None:
    is_base64 = file.content_type is ContentType.BASE64
    size = len(file.content) if is_base64 else base64_size(file.content)
    if size > FILE_LIMIT:
        raise InputError(f"file: has {size} bytes in Base64; at most {FILE_LIMIT} are accepted")
    try:
        _ = file.data
    except ValueError:
        raise InputError(
            "file: its content is not Base64, as content_type says; correct one of the two"
        ) from None


def _check_instances(instances: tuple[str, ...]) -> None:
    if not 1 <= len(instances) <= MOST_INSTANCES:
        raise InputError(f"instances: {len(instances)} are named; expected 1 to {MOST_INSTANCES}")
    if len(set(instances)) < len(instances):
        raise InputError("instances: an instance is named twice; name each once")
    for instance in instances:
        _check_id("instance", instance)


def _check_text(field: str, text: str) -> None:
    if len(text) > _CHARACTERS[field]:
        raise InputError(f"{field}: has {len(text)} characters; at most {_CHARACTERS[field]} are accepted")
    if "\0" in text:
        raise InputError(f"{field}: contains a NUL character; remove it")


def _check_folder(field: str, path: str) -> None:
    _check_text(field, path)
    if path and not PurePosixPath(path).is_absolute():
        raise InputError(f"{field} {path!r}: expected an absolute path")


def _check_id(field: str, text: str) -> None:
    if not _is_id(text):
        raise InputError(f"{field} {text[:140]!r}: expected 1 to 128 letters, digits, '.', '_' or '-'")


def _check_timeout(seconds: int) -> None:
    if not LEAST_TIMEOUT <= seconds <= MOST_TIMEOUT:
        raise InputError(f"time-out {seconds}: expected {LEAST_TIMEOUT} to {MOST_TIMEOUT} seconds")
