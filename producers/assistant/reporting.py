"""Builds execution records, and the event that announces a final record."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from uuid import uuid4

import msgspec

from producers.assistant.output import NOTHING, OutputTail
from producers.assistant.requests import Invocation, Run, SendFile
from schemas import arn
from schemas.execution import CommandRecord, ExecutionRecord, FileRecord, RecordState
from schemas.execution_errors import ErrorCode
from schemas.times import content_time, event_time

COMPLETED = "Instance:CloudAssistant.TaskCompleted"
"""Name of the event for a final record. Its content has the form of EventBridge's
`ecs:CloudAssistant:TaskCompleted`."""
CALLER_TYPE = "customer"


@dataclass(frozen=True, slots=True)
class Instance:
    """The instance of an agent. `user`: account id of the instance's owner."""

    id: str
    region: str
    user: int


@dataclass(frozen=True, slots=True)
class Error:
    """The reason why a run failed."""

    code: ErrorCode
    info: str


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run. Times are milliseconds since the epoch, or None if they have not come. `stopped`: the time of the
    request to stop the run."""

    state: RecordState
    updated: int
    _: KW_ONLY
    output: OutputTail = NOTHING
    error: Error | None = None
    exit_code: int | None = None
    started: int | None = None
    stopped: int | None = None


def build_record(
    invocation: Invocation, instance: Instance, repeats: int, progress: Progress
) -> ExecutionRecord:
    """Builds the record of one run, or of one file sent."""
    match invocation:
        case Run():
            return _of_command(invocation, instance, repeats, progress)
        case SendFile():
            return _of_file(invocation, instance, progress)


def build_event(record: ExecutionRecord, instance: Instance, now: int) -> bytes:
    """Builds the notification that announces a final record. `now`: milliseconds since the epoch."""
    succeeded = record.invocation_status is RecordState.SUCCESS
    return msgspec.json.encode(
        {
            "ver": "1.0",
            "id": str(uuid4()).upper(),
            "product": "ECS",
            "resourceId": arn.build("Instance", instance.id, region=instance.region, user=str(instance.user)),
            "level": "INFO" if succeeded else "WARN",
            "name": COMPLETED,
            "userId": str(instance.user),
            "eventTime": event_time(now),
            "regionId": instance.region,
            "content": _content(record),
        }
    )


def _of_command(run: Run, instance: Instance, repeats: int, progress: Progress) -> CommandRecord:
    return CommandRecord(
        region_id=instance.region,
        instance_id=instance.id,
        invoke_id=run.invoke_id,
        command_id=run.command.command_id,
        command_name=run.command.name,
        command_type=run.command.type,
        command_content=run.command.content,
        resource_owner_uid=instance.user,
        caller_uid=run.caller,
        caller_type=CALLER_TYPE,
        timeout=run.command.timeout,
        frequency=run.frequency,
        parameters=msgspec.json.encode(run.parameters).decode(),
        username=run.username,
        repeat_mode=run.mode,
        repeats=repeats,
        invocation_status=progress.state,
        error_code=progress.error.code if progress.error else None,
        error_info=progress.error.info if progress.error else None,
        dropped=progress.output.dropped,
        output=progress.output.text,
        exit_code=progress.exit_code,
        creation_time=content_time(run.time),
        start_time=_time(progress.started),
        update_time=content_time(progress.updated),
        finished_time=content_time(progress.updated) if progress.state.final else "",
        stop_time=_time(progress.stopped),
    )


def _of_file(sent: SendFile, instance: Instance, progress: Progress) -> FileRecord:
    file = sent.file
    return FileRecord(
        region_id=instance.region,
        instance_id=instance.id,
        invoke_id=sent.invoke_id,
        file_name=file.name,
        content_type=file.content_type,
        description=file.description,
        file_content=file.content,
        file_group=file.group,
        file_mode=file.mode,
        file_owner=file.owner,
        resource_owner_uid=instance.user,
        caller_uid=sent.caller,
        caller_type=CALLER_TYPE,
        overwrite=file.overwrite,
        target_dir=file.target_dir,
        timeout=file.timeout,
        invocation_status=progress.state,
        error_code=progress.error.code if progress.error else None,
        error_info=progress.error.info if progress.error else None,
        creation_time=content_time(sent.time),
        start_time=_time(progress.started),
        update_time=content_time(progress.updated),
        finish_time=content_time(progress.updated) if progress.state.final else "",
    )


def _time(milliseconds: int | None) -> str:
    return "" if milliseconds is None else content_time(milliseconds)


def _content(record: ExecutionRecord) -> dict[str, str]:
    """Returns the content of the event. All its values are text, and error code 0 means no error."""
    shared = {
        "instanceId": record.instance_id,
        "invokeId": record.invoke_id,
        "invocationStatus": record.invocation_status.value,
        "startTime": record.start_time,
        "finishTime": record.ended_at,
        "ownerId": str(record.resource_owner_uid),
        "playerUid": str(record.caller_uid),
        "errorCode": record.error_code or "0",
        "errorDesc": record.error_info or "",
    }
    match record:
        case CommandRecord():
            return shared | {
                "commandId": record.command_id,
                "commandName": record.command_name,
                "exitCode": "" if record.exit_code is None else str(record.exit_code),
                "repeatMode": record.repeat_mode.value,
                "repeats": str(record.repeats),
            }
        case FileRecord():
            return shared | {"fileName": record.file_name, "targetDir": record.target_dir}
