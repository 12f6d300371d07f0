"""`heliograph assistant …`: commands and files for instances, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli import assistant_agent, assistant_commands, assistant_delivery
from heliograph.cli.assistant_options import (
    REGION,
    USER,
    Description,
    Instances,
    Kept,
    KeptVersion,
    Name,
    Parameters,
    Region,
    Script,
    ScriptFile,
    ScriptType,
    Timeout,
    User,
    Username,
    Wait,
    WorkingDir,
    note_timeout,
    open_caller,
    read_fields,
    read_pairs,
)
from heliograph.cli.output import Json, moment, note, open_deployment, say, show, visible
from schemas.errors import InputError, NotFound

if TYPE_CHECKING:
    from heliograph.operations.assistant import CommandFields, ExecutionSummary, Following, InstanceResult
    from schemas.execution import ExecutionRecord

app = typer.Typer(
    help="Commands and files for instances, and their results.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(assistant_commands.app, name="command")
app.add_typer(assistant_delivery.app, name="delivery")
assistant_agent.register(app)

_COLUMNS = ("execution", "instance", "repeats", "state", "exit", "dropped", "detail")


@app.command()
def run(
    script: Script = "",
    file: ScriptFile = "",
    kind: ScriptType = "",
    timeout: Timeout = None,
    working_dir: WorkingDir = None,
    instance: Instances = None,
    kept: Kept = "",
    version: KeptVersion = None,
    name: Name = None,
    parameter: Parameters = None,
    username: Username = "",
    at_start: Annotated[
        str, typer.Option("--at-start", help="Run when the agent starts, instead of now: next or every.")
    ] = "",
    wait: Wait = None,
    region: Region = REGION,
    user: User = USER,
    as_json: Json = False,
) -> None:
    """Run a command on instances, and wait for its end.

    Exit status 0 only if the command succeeded on all instances.
    """
    from heliograph.operations.assistant import choose_command, run_command
    from schemas.execution import RepeatMode

    modes = {"": RepeatMode.ONCE, "next": RepeatMode.NEXT_REBOOT_ONLY, "every": RepeatMode.EVERY_REBOOT}
    if at_start not in modes:
        raise InputError(f"--at-start {at_start!r}: expected next or every")
    fields = _read_run(
        script=script,
        file=file,
        kind=kind,
        kept=kept,
        name=name,
        timeout=timeout,
        working_dir=working_dir,
    )
    with open_caller(region, user) as caller:
        following = run_command(
            caller,
            choose_command(caller, fields, kept, version),
            instance or [],
            parameters=read_pairs("--parameter", parameter or []),
            username=username,
            mode=modes[at_start],
        )
        _follow(following, wait, as_json=as_json)


@app.command()
def schedule(
    frequency: Annotated[
        str, typer.Argument(help="rate(5m), at(2026-01-31 12:00:00 Asia/Shanghai), or a cron expression.")
    ],
    script: Script = "",
    file: ScriptFile = "",
    kind: ScriptType = "",
    timeout: Timeout = None,
    working_dir: WorkingDir = None,
    instance: Instances = None,
    kept: Kept = "",
    version: KeptVersion = None,
    name: Name = None,
    parameter: Parameters = None,
    username: Username = "",
    wait: Wait = None,
    region: Region = REGION,
    user: User = USER,
    as_json: Json = False,
) -> None:
    """Run a command on instances by a schedule, repeatedly or once.

    Returns when the agents have accepted the command; exit status 0 only if all did.
    """
    from heliograph.operations.assistant import choose_command, run_command
    from schemas.execution import RepeatMode

    fields = _read_run(
        script=script,
        file=file,
        kind=kind,
        kept=kept,
        name=name,
        timeout=timeout,
        working_dir=working_dir,
    )
    with open_caller(region, user) as caller:
        following = run_command(
            caller,
            choose_command(caller, fields, kept, version),
            instance or [],
            parameters=read_pairs("--parameter", parameter or []),
            username=username,
            mode=RepeatMode.PERIOD,
            frequency=frequency,
        )
        _follow(following, wait, as_json=as_json)


@app.command("send-file")
def send(
    file: Annotated[Path, typer.Argument(help="The file to send.")],
    *,
    instance: Instances = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="DIR",
            help="Directory to write the file to; default the home of the agent's user.",
        ),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="Name of the written file; default the same name.")
    ] = "",
    owner: Annotated[str, typer.Option("--owner", help="Owner of the file; default the agent's user.")] = "",
    group: Annotated[str, typer.Option("--group", help="Group of the file; default the agent's group.")] = "",
    mode: Annotated[
        str, typer.Option("--mode", help="Permissions in octal digits; default 0644.", show_default=False)
    ] = "0644",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    description: Description = None,
    timeout: Timeout = None,
    wait: Wait = None,
    region: Region = REGION,
    user: User = USER,
    as_json: Json = False,
) -> None:
    """Write a file on instances, and wait for the results.

    Exit status 0 only if the file was written on all instances.
    """
    from heliograph.operations.assistant import FileFields, send_file

    fields = FileFields(
        name=name or file.name,
        data=_read_bytes(file),
        description=description or "",
        target_dir=to,
        owner=owner,
        group=group,
        mode=mode,
        overwrite=overwrite,
        timeout=note_timeout(timeout),
    )
    with open_caller(region, user) as caller:
        _follow(send_file(caller, fields, instance or []), wait, as_json=as_json)


@app.command()
def stop(
    execution: Annotated[str, typer.Argument(help="Id of the execution, t-….")],
    instance: Instances = None,
    wait: Wait = None,
    user: User = USER,
    as_json: Json = False,
) -> None:
    """Stop an execution: the runs under way, and those still to come.

    Exit status 0 only if the execution has ended on every instance.
    """
    from heliograph.operations.assistant import stop_execution

    with open_caller("", user) as caller:
        stopping = stop_execution(caller, execution, instance or ())
        _note_progress(stopping, wait)
        show(map(_result_row, stopping.results()), _COLUMNS, as_json=as_json)
        if not stopping.ended:
            raise typer.Exit(1)


@app.command("list")
def list_all(
    state: Annotated[
        str,
        typer.Option(
            "--state", help="Only this state: Running, Stopping, Stopped, Failed, Finished or PartialFailed."
        ),
    ] = "",
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only requested at or after this time; default 7d.",
            show_default=False,
        ),
    ] = "7d",
    region: Annotated[str, typer.Option("--region", help="Only of this region; default all.")] = "",
    as_json: Json = False,
) -> None:
    """List executions, and the state of each over all its instances."""
    from heliograph.operations.assistant import list_executions
    from schemas.execution import ExecutionState
    from schemas.times import parse_when

    if state and state not in set(ExecutionState):
        raise InputError(f"--state {state!r}: expected {', '.join(ExecutionState)}")
    with open_caller() as caller:
        found = list_executions(
            caller,
            parse_when(since, caller.clock.now()),
            region=region,
            state=ExecutionState(state) if state else None,
        )
        columns = ("execution", "state", "created", "region", "name", "mode", "instances")
        show(map(_execution_row, found), columns, as_json=as_json)


@app.command()
def results(
    execution: Annotated[str, typer.Argument(help="Id of an execution, t-… or f-…; default all.")] = "",
    instance: Annotated[str, typer.Option("--instance", help="Only of this instance.")] = "",
    region: Annotated[str, typer.Option("--region", help="Only of this region.")] = "",
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="Only recorded at or after this time: 2h (ago), 2026-01-31."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show execution records, from topic and archive.

    With --json, prints the whole records as they are delivered.
    """
    from heliograph.operations.executions import RecordFilter, read_records
    from schemas.times import parse_when

    with open_deployment() as deployment:
        start = parse_when(since, deployment.clock.now()) if since else None
        wanted = RecordFilter(invoke_id=execution, instance_id=instance, region=region, since=start)
        records = [found.execution for found in read_records(deployment.bus, deployment.archive, wanted)]
    if execution and not records:
        raise NotFound(
            f"execution {execution!r}: has no record; `heliograph assistant list` lists the executions"
        )
    if as_json:
        for record in records:
            say(record.encode().decode())
        return
    rows = [_row(record.key.invoke_id, record.instance_id, record) for record in records]
    show(rows, _COLUMNS, as_json=False)
    if execution:
        _print_outputs(rows)


def _read_run(
    *,
    script: str,
    file: str,
    kind: str,
    kept: str,
    name: str | None,
    timeout: int | None,
    working_dir: str | None,
) -> CommandFields:
    """Reads the fields of a command; without a name, it gets the name of its file."""
    return read_fields(
        script=script,
        file=file,
        kind=kind,
        name=name or (Path(file).name or None),
        timeout=timeout,
        working_dir=working_dir,
        optional=bool(kept),
    )


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None


def _follow(following: Following, wait: float | None, *, as_json: bool) -> None:
    """Waits for the end, prints the progress and then the results."""
    for one in following.invocations:
        note(f"{one.invoke_id}: requested, instances: {len(one.instances)}")
    seconds = _note_progress(following, wait)
    if not following.ended:
        note("not all have ended; `heliograph assistant list` and `results` show the rest later")
    rows = list(map(_result_row, following.results()))
    show(rows, _COLUMNS, as_json=as_json)
    if not as_json:
        _print_outputs(rows)
    if seconds and not following.succeeded():
        raise typer.Exit(1)


def _note_progress(following: Following, wait: float | None) -> float:
    seconds = following.seconds if wait is None else wait
    for record in following.wait(seconds):
        note(f"{record.instance_id}: {record.invocation_status}")
    return seconds


def _result_row(result: InstanceResult) -> dict[str, Any]:
    return _row(*result)


def _row(execution: str, instance: str, record: ExecutionRecord | None) -> dict[str, Any]:
    from schemas.execution import CommandRecord

    if record is None:
        detail = f"no answer yet; check that an agent of {instance} runs, in this region and with this key"
        return {"execution": execution, "instance": instance, "state": "Pending", "detail": detail}
    row = {
        "execution": execution,
        "instance": instance,
        "repeats": record.key.repeats,
        "state": record.invocation_status.value,
        "detail": record.error_info or "",
        "error": record.error_code or "",
        "updated": record.update_time,
    }
    if isinstance(record, CommandRecord):
        row |= {
            "exit": "" if record.exit_code is None else record.exit_code,
            "dropped": record.dropped,
            "output": record.output,
        }
    return row


def _print_outputs(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        if row.get("output"):
            say(f"--- {row['instance']}")
            for line in row["output"].splitlines():
                say(visible(line))


def _execution_row(summary: ExecutionSummary) -> dict[str, Any]:
    from producers.assistant.requests import Run

    invocation = summary.invocation
    return {
        "execution": invocation.invoke_id,
        "state": summary.state.value,
        "created": moment(invocation.time),
        "region": invocation.region,
        "name": invocation.command.name if isinstance(invocation, Run) else invocation.file.name,
        "mode": (invocation.frequency or invocation.mode.value) if isinstance(invocation, Run) else "file",
        "instances": len(invocation.instances),
        "command": invocation.command.command_id if isinstance(invocation, Run) else "",
        "states": {instance: record.invocation_status.value for instance, record in summary.newest.items()},
    }
