"""Commands and files for instances: runs commands, sends files, stops and lists executions, keeps commands."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from heliograph.app.deployment import Deployment
from producers.assistant.caller import (
    REQUESTS,
    Caller,
    Quotas,
    find_invocation,
    new_id,
    read_requests,
    stopped_instances,
)
from producers.assistant.follower import Cursors, Follower, cursors_since, end_cursors
from producers.assistant.library import (
    Version,
    delete_commands,
    find_version,
    keep_command,
    modify_command,
    read_library,
)
from producers.assistant.requests import (
    DEFAULT_TIMEOUT,
    LEAST_TIMEOUT,
    Command,
    File,
    Invocation,
    Run,
    SendFile,
)
from producers.assistant.signing import Keys, make_key, open_keys
from schemas.errors import InputError
from schemas.execution import (
    CommandType,
    ContentType,
    ExecutionRecord,
    ExecutionState,
    RecordState,
    RepeatMode,
)
from schemas.topics import COMMANDS

_POLL_SECONDS = 0.1
_NAME_LENGTH = 60
"""Number of characters of the script's first line that become the name of a command without a name."""
ANSWER_SECONDS = 30.0
"""Seconds after a command's own time limit within which its agent should have answered."""
_SCHEDULE_SECONDS = 10.0
"""Seconds within which agents should have accepted a scheduled command."""


class CommandFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a command; None keeps the value of a kept command, or means the default for a new command.

    `timeout`: seconds, raised to 10 if less. `working_dir`: the home of the agent's user by default.
    """

    content: str | None = None
    type: CommandType | None = None
    name: str | None = None
    description: str | None = None
    timeout: int | None = None
    working_dir: str | None = None

    def build(self, command_id: str) -> Command:
        """Builds a new command. Raises InputError if it has no content or a field is not valid."""
        if not self.content:
            raise InputError("content: is missing; give the script or a file that holds it")
        return Command(
            command_id=command_id,
            name=self.name or self.content.split("\n", 1)[0][:_NAME_LENGTH],
            type=self.type or CommandType.SHELL,
            content=self.content,
            description=self.description or "",
            timeout=_limit_timeout(self.timeout),
            working_dir=self.working_dir or "",
        )

    def change(self, command: Command) -> Command:
        """Returns the command with the given fields in place of its own. Raises InputError."""
        timeout = None if self.timeout is None else _limit_timeout(self.timeout)
        given = {
            field: value
            for field, value in (msgspec.structs.asdict(self) | {"timeout": timeout}).items()
            if value is not None
        }
        return msgspec.structs.replace(command, **given)


class FileFields(msgspec.Struct, frozen=True, kw_only=True):
    """A file to send, with the bytes that it holds. `timeout`: seconds, raised to 10 if less; 60 by default.

    Empty `target_dir`, `owner` and `group` mean the home directory, the user and the group of the agent.
    """

    name: str
    data: bytes
    description: str = ""
    target_dir: str = ""
    owner: str = ""
    group: str = ""
    mode: str = "0644"
    overwrite: bool = False
    timeout: int | None = None

    def build(self) -> File:
        """Builds the file of a request: text as it is, any other bytes in Base64."""
        try:
            content, content_type = self.data.decode(), ContentType.PLAIN_TEXT
        except UnicodeDecodeError:
            content, content_type = b64encode(self.data).decode(), ContentType.BASE64
        return File(
            name=self.name,
            content=content,
            content_type=content_type,
            description=self.description,
            target_dir=self.target_dir,
            owner=self.owner,
            group=self.group,
            mode=self.mode,
            overwrite=self.overwrite,
            timeout=_limit_timeout(self.timeout),
        )


class InstanceResult(NamedTuple):
    """The newest record of an execution on one instance. `record`: None until the instance answers."""

    execution: str
    instance: str
    record: ExecutionRecord | None


class ExecutionSummary(NamedTuple):
    """An execution, its state over all its instances, and the newest record by instance, for those that answered."""

    invocation: Invocation
    state: ExecutionState
    newest: Mapping[str, ExecutionRecord]


class Following:
    """Executions whose records are read while they arrive. `seconds`: time within which the executions should end."""

    def __init__(
        self, caller: Caller, invocations: Sequence[Invocation], cursors: Cursors, seconds: float
    ) -> None:
        self.invocations = invocations
        self.seconds = seconds
        self._follower = Follower(caller.bus, invocations, cursors)

    @property
    def ended(self) -> bool:
        """True if every instance has answered: with a final record, or with any for a scheduled command."""
        return self._follower.answered()

    def wait(self, seconds: float) -> Iterator[ExecutionRecord]:
        """Reads records until every execution has ended, at most for `seconds`; yields the records that change a state."""
        deadline = time.monotonic() + seconds
        while True:
            yield from self._follower.read()
            if self.ended or time.monotonic() >= deadline:
                return
            time.sleep(_POLL_SECONDS)

    def results(self) -> list[InstanceResult]:
        """Returns the newest record of every instance of the executions."""
        return [
            InstanceResult(one.invoke_id, instance, self._follower.newest(one.invoke_id).get(instance))
            for one in self.invocations
            for instance in one.instances
        ]

    def succeeded(self) -> bool:
        """True if every instance has succeeded, or has accepted a scheduled command."""
        good = {RecordState.SUCCESS, RecordState.SCHEDULED}
        return all(one.record is not None and one.record.invocation_status in good for one in self.results())


class Stopping(Following):
    """An execution that is stopped on some of its instances, or on all."""

    def __init__(
        self,
        caller: Caller,
        invocation: Invocation,
        *,
        cursors: Cursors,
        instances: Collection[str],
    ) -> None:
        super().__init__(caller, [invocation], cursors, ANSWER_SECONDS)
        self._instances = frozenset(instances or invocation.instances)

    @property
    def ended(self) -> bool:
        """True if the execution has ended on every instance on which it is stopped."""
        return all(one.record is not None and one.record.invocation_status.final for one in self.results())

    def results(self) -> list[InstanceResult]:
        """Returns the newest record of every instance on which the execution is stopped."""
        return [one for one in super().results() if one.instance in self._instances]


def read_keys(deployment: Deployment) -> Keys:
    """Reads the keys that sign requests.

    Raises InputError if there is none; it names the command that creates a key.
    """
    try:
        return open_keys(deployment.config.assistant_keys, deployment.bus.log_id)
    except InputError as error:
        raise InputError(f"{error}; `heliograph assistant key` creates a key") from None


def make_signing_key(deployment: Deployment) -> tuple[Path, bool]:
    """Creates the key that signs requests. Returns its file, and False if the file existed already.

    Raises InputError if `assistant.keys` does not begin with a file.
    """
    reference = deployment.config.assistant_keys[0]
    where, _, path = reference.written.partition(":")
    if where != "file":
        raise InputError(
            f"assistant.keys: {reference} is not a file (file:PATH); create a key elsewhere by yourself"
        )
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(path), make_key(Path(path))


def open_caller(deployment: Deployment, region: str = "", user: int = 0) -> Caller:
    """Returns the caller that sends requests to a region as an account (`user`), within its quotas. Raises InputError,
    BusError."""
    deployment.bus.create(COMMANDS)
    section = deployment.config.assistant
    return Caller(
        bus=deployment.bus,
        keys=read_keys(deployment),
        clock=deployment.clock,
        region=region,
        uid=user,
        quotas=Quotas(section.kept_commands, section.daily_runs),
    )


def run_command(
    caller: Caller,
    command: Command,
    instances: Sequence[str],
    *,
    parameters: Mapping[str, str],
    username: str = "",
    mode: RepeatMode = RepeatMode.ONCE,
    frequency: str = "",
) -> Following:
    """Requests that instances run a command, now or by a schedule.

    `username`: user that runs the script, empty for the agent's. `frequency`: the schedule if `mode` is `PERIOD`.
    Raises InputError, BusError.
    """
    cursors = end_cursors(caller.bus)
    asked = caller.run(
        command, instances, parameters=parameters, username=username, mode=mode, frequency=frequency
    )
    seconds = command.timeout + ANSWER_SECONDS if mode is RepeatMode.ONCE else _SCHEDULE_SECONDS
    return Following(caller, asked, cursors, seconds)


def choose_command(
    caller: Caller, fields: CommandFields, kept: str = "", version: int | None = None
) -> Command:
    """Returns the command that has `kept` as its id or name, with the given fields changed; without `kept`, builds a
    command for this run only.

    Raises InputError, NotFound.
    """
    if not kept:
        return fields.build(new_id("c"))
    if fields.content or fields.type or fields.name:
        raise InputError("kept: a kept command has its own script, type and name; leave these fields out")
    found = find_version(read_library(caller.bus, caller.keys, caller.region), kept, version)
    return fields.change(found.command)


def send_file(caller: Caller, fields: FileFields, instances: Sequence[str]) -> Following:
    """Requests that instances write a file. Raises InputError, BusError."""
    file = fields.build()
    cursors = end_cursors(caller.bus)
    return Following(caller, caller.send(file, instances), cursors, file.timeout + ANSWER_SECONDS)


def stop_execution(caller: Caller, execution: str, instances: Sequence[str] = ()) -> Stopping:
    """Requests that instances stop an execution; all its instances if none are named.

    Raises NotFound, InputError, BusError.
    """
    invocation = find_invocation(caller.bus, caller.keys, execution)
    cursors = cursors_since(caller.bus, invocation.time)
    caller.stop(invocation, instances)
    return Stopping(caller, invocation, cursors=cursors, instances=instances)


def list_executions(
    caller: Caller, since: int, *, region: str = "", state: ExecutionState | None = None
) -> Iterator[ExecutionSummary]:
    """Yields the executions requested at or after `since`, in milliseconds since the epoch.

    `region`: empty for all regions. `state`: None for all states. Raises BusError.
    """
    now = caller.clock.now()
    offset = caller.bus.offset_at(REQUESTS, since)
    every = list(read_requests(caller.bus, caller.keys, start=offset))
    invocations = [one for one in every if isinstance(one, Run | SendFile) and region in {"", one.region}]
    follower = Follower(caller.bus, invocations, cursors_since(caller.bus, since))
    follower.read()
    stops = stopped_instances(every)
    for one in invocations:
        found = follower.state(one.invoke_id, now, stops.get(one.invoke_id, frozenset()))
        if state in {None, found}:
            yield ExecutionSummary(one, found, follower.newest(one.invoke_id))


def create_command(caller: Caller, fields: CommandFields) -> str:
    """Keeps a new command; returns its id. Raises InputError, BusError."""
    return keep_command(caller, fields.build(new_id("c"))).command_id


def clone_command(caller: Caller, id_or_name: str, fields: CommandFields) -> int:
    """Keeps a new version of a command with the given fields changed; returns its number.

    Raises NotFound, InputError.
    """
    latest = find_command(caller, id_or_name)
    keep_command(caller, fields.change(latest.command))
    return latest.number + 1


def change_command(caller: Caller, id_or_name: str, fields: CommandFields) -> None:
    """Changes name, description or time limit of a kept command's latest version. Raises NotFound, InputError."""
    timeout = None if fields.timeout is None else _limit_timeout(fields.timeout)
    modify_command(
        caller,
        find_command(caller, id_or_name).command.command_id,
        name=fields.name,
        description=fields.description,
        timeout=timeout,
    )


def remove_commands(caller: Caller, ids_or_names: Sequence[str]) -> None:
    """Removes all versions of the kept commands with these ids or names: all the commands or none. Raises NotFound,
    InputError."""
    kept = read_library(caller.bus, caller.keys, caller.region)
    delete_commands(caller, [find_version(kept, one).command.command_id for one in ids_or_names])


def list_commands(caller: Caller) -> list[Version]:
    """Lists the latest version of each command that is kept in the caller's region."""
    return [versions[-1] for versions in read_library(caller.bus, caller.keys, caller.region).values()]


def find_command(caller: Caller, id_or_name: str, version: int | None = None) -> Version:
    """Finds a version of a kept command by id or name, the latest by default. Raises NotFound, InputError."""
    return find_version(read_library(caller.bus, caller.keys, caller.region), id_or_name, version)


def _limit_timeout(timeout: int | None) -> int:
    """Returns the time limit in seconds: the default for None, and never less than agents allow."""
    return DEFAULT_TIMEOUT if timeout is None else max(timeout, LEAST_TIMEOUT)
