"""`heliograph assistant …`: commands and files for instances, and what came of them."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli import assistant_agent, assistant_commands, assistant_delivery
from heliograph.cli.assistant_caller import (
    Described,
    Description,
    Instances,
    Name,
    Region,
    Timeout,
    User,
    open_caller,
    pairs,
    raised,
)
from heliograph.cli.options import takes
from heliograph.cli.output import Json, moment, note, open_deployment, say, show, visible
from schemas.errors import InputError, NotFound

if TYPE_CHECKING:
    from producers.assistant.caller import Caller
    from producers.assistant.follower import Cursors, Follower
    from producers.assistant.requests import Command, Invocation
    from schemas.execution import ExecutionRecord, RepeatMode

app = typer.Typer(
    help="Commands and files for instances, and what came of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(assistant_commands.app, name="command")
app.add_typer(assistant_delivery.app, name="delivery")
assistant_agent.register(app)

_EVERY = 0.1
_SCHEDULED_WITHIN = 10.0
_ANSWER_WITHIN = 30.0
_COLUMNS = ("execution", "instance", "repeats", "state", "exit", "dropped", "detail")

Wait = Annotated[
    float | None, typer.Option("--wait", metavar="SECONDS", help="For how long to wait for the end; 0: not.")
]


class Wanted(Described, frozen=True):
    """The options that say what to run, and where."""

    instance: Instances = None
    kept: Annotated[str, typer.Option("--kept", metavar="COMMAND", help="A kept command's id or name.")] = ""
    version: Annotated[
        int | None, typer.Option("--version", help="Of the kept command; the latest.", min=1)
    ] = None
    name: Name = None
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", metavar="NAME=VALUE", help="For {{NAME}} in it; again.")
    ] = None
    username: Annotated[
        str, typer.Option("--username", help="Whom it runs as; the agent's user without one.")
    ] = ""
    wait: Wait = None
    region: Region = "cn-hangzhou"
    user: User = 100_000_000_000


@app.command()
@takes(Wanted)
def run(
    wanted: Wanted,
    at_start: Annotated[
        str, typer.Option("--at-start", help="next or every: when the agent starts, instead of now.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Run a command on instances, and wait for its end.

    Exit status 0 only if it succeeded on all of them.
    """
    from schemas.execution import RepeatMode

    modes = {"": RepeatMode.ONCE, "next": RepeatMode.NEXT_REBOOT_ONLY, "every": RepeatMode.EVERY_REBOOT}
    if at_start not in modes:
        raise InputError(f"--at-start {at_start!r}: expected next or every")
    _run(wanted, modes[at_start], "", as_json=as_json)


@app.command()
@takes(Wanted)
def schedule(
    wanted: Wanted,
    frequency: Annotated[
        str, typer.Argument(help="rate(5m), at(2026-01-31 12:00:00 Asia/Shanghai), or a cron expression.")
    ],
    as_json: Json = False,
) -> None:
    """Run a command on instances again and again, or at one time.

    Returns when the agents have taken it; exit status 0 only if all did.
    """
    from schemas.execution import RepeatMode

    _run(wanted, RepeatMode.PERIOD, frequency, as_json=as_json)


@app.command("send-file")
def send_file(
    file: Annotated[Path, typer.Argument(help="The file to send.")],
    *,
    instance: Instances = None,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Its directory there.")] = "",
    name: Annotated[str, typer.Option("--name", help="Its name there; the same without one.")] = "",
    owner: Annotated[str, typer.Option("--owner")] = "",
    group: Annotated[str, typer.Option("--group")] = "",
    mode: Annotated[str, typer.Option("--mode", help="Octal digits (0644).")] = "0644",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    description: Description = None,
    timeout: Timeout = None,
    wait: Wait = None,
    region: Region = "cn-hangzhou",
    user: User = 100_000_000_000,
    as_json: Json = False,
) -> None:
    """Write a file on instances, and wait until it is there.

    Exit status 0 only if it is, on all of them.
    """
    from producers.assistant.follower import end_cursors
    from producers.assistant.requests import DEFAULT_TIMEOUT, File
    from schemas.execution import ContentType

    content, content_type = _content(file)
    sent = File(
        name=name or file.name,
        content=content,
        content_type=ContentType(content_type),
        description=description or "",
        target_dir=to,
        owner=owner,
        group=group,
        mode=mode,
        overwrite=overwrite,
        timeout=raised(DEFAULT_TIMEOUT if timeout is None else timeout),
    )
    with open_caller(region, user) as caller:
        cursors = end_cursors(caller.bus)
        asked = caller.send(sent, instance or [])
        _follow(
            caller, asked, cursors, sent.timeout + _ANSWER_WITHIN if wait is None else wait, as_json=as_json
        )


@app.command()
def stop(
    execution: Annotated[str, typer.Argument(help="Its id, t-….")],
    instance: Instances = None,
    wait: Wait = None,
    user: User = 100_000_000_000,
    as_json: Json = False,
) -> None:
    """Stop an execution: what runs, and what is to come of it.

    Exit status 0 once it has ended on them.
    """
    from producers.assistant.caller import find_invocation
    from producers.assistant.follower import Follower, cursors_since

    with open_caller("", user) as caller:
        asked = find_invocation(caller.bus, caller.keys, execution)
        follower = Follower(caller.bus, [asked], cursors_since(caller.bus, asked.time))
        caller.stop(asked, instance or [])
        wanted = set(instance or asked.instances)

        def ended() -> bool:
            newest = follower.newest(execution)
            return all(one in newest and newest[one].invocation_status.final for one in wanted)

        _watch(follower, ended, _ANSWER_WITHIN if wait is None else wait)
        show(_rows(follower, [asked], wanted), _COLUMNS, as_json=as_json)
        if not ended():
            raise typer.Exit(1)


@app.command("list")
def list_executions(
    state: Annotated[
        str, typer.Option("--state", help="Running, Stopping, Stopped, Failed, Finished, PartialFailed.")
    ] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Asked for since then (7d).")] = "7d",
    region: Annotated[str, typer.Option("--region", help="All without one.")] = "",
    as_json: Json = False,
) -> None:
    """List executions, and how each stands over all its instances."""
    from producers.assistant.caller import REQUESTS, read_requests, stopped_instances
    from producers.assistant.follower import Follower, cursors_since
    from producers.assistant.requests import Run, SendFile
    from schemas.execution import ExecutionState
    from schemas.times import parse_when

    if state and state not in set(ExecutionState):
        raise InputError(f"--state {state!r}: expected {', '.join(ExecutionState)}")
    with open_caller("", 0) as caller:
        now = caller.clock.now()
        start = parse_when(since, now)
        offset = caller.bus.offset_at(REQUESTS, start)
        every = list(read_requests(caller.bus, caller.keys, start=offset))
        asked = [one for one in every if isinstance(one, Run | SendFile) and region in {"", one.region}]
        follower = Follower(caller.bus, asked, cursors_since(caller.bus, start))
        follower.read()
        stops = stopped_instances(every)
        rows = (_execution(one, follower, now, stops.get(one.invoke_id, frozenset())) for one in asked)
        columns = ("execution", "state", "created", "region", "name", "mode", "instances")
        show((row for row in rows if state in {"", row["state"]}), columns, as_json=as_json)


@app.command()
def results(
    execution: Annotated[str, typer.Argument(help="Its id, t-… or f-…; all without one.")] = "",
    instance: Annotated[str, typer.Option("--instance", help="Only of this one.")] = "",
    region: Annotated[str, typer.Option("--region", help="Only of this one.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Only recorded since then.")] = "",
    as_json: Json = False,
) -> None:
    """Show execution records, of log and archive. With --json whole, as they are delivered."""
    from heliograph.operations.executions import Wanted, read_records
    from schemas.times import parse_when

    with open_deployment() as deployment:
        start = parse_when(since, deployment.clock.now()) if since else None
        wanted = Wanted(invoke_id=execution, instance_id=instance, region=region, since=start)
        records = [found.execution for found in read_records(deployment.bus, deployment.archive, wanted)]
    if execution and not records:
        raise NotFound(f"execution {execution!r}: there is no record of it")
    if as_json:
        for record in records:
            say(record.encode().decode())
        return
    rows = [_row(record.key.invoke_id, record.instance_id, record) for record in records]
    show(rows, _COLUMNS, as_json=False)
    if execution:
        _outputs(rows)


def _run(wanted: Wanted, mode: RepeatMode, frequency: str, *, as_json: bool) -> None:
    """Ask for runs, and wait for their ends; of those that begin later, until the agents have taken them."""
    from producers.assistant.follower import end_cursors
    from schemas.execution import RepeatMode

    with open_caller(wanted.region, wanted.user) as caller:
        command = _command(caller, wanted)
        cursors = end_cursors(caller.bus)
        asked = caller.run(
            command,
            wanted.instance or [],
            parameters=pairs("--parameter", wanted.parameter or []),
            username=wanted.username,
            mode=mode,
            frequency=frequency,
        )
        limit = command.timeout + _ANSWER_WITHIN if mode is RepeatMode.ONCE else _SCHEDULED_WITHIN
        _follow(caller, asked, cursors, limit if wanted.wait is None else wanted.wait, as_json=as_json)


def _command(caller: Caller, wanted: Wanted) -> Command:
    """The kept command that is named, with what is given beside; or one of this run alone."""
    from producers.assistant.caller import new_id
    from producers.assistant.library import find_version, read_library

    if not wanted.kept:
        return wanted.command(new_id("c"), wanted.name)
    if wanted.script or wanted.file or wanted.kind or wanted.name:
        raise InputError("--kept: brings its script, type and name; leave out SCRIPT, --file, --type, --name")
    found = find_version(read_library(caller.bus, caller.keys, caller.region), wanted.kept, wanted.version)
    return wanted.changed(found.command)


def _content(file: Path) -> tuple[str, str]:
    """What a file holds, and the form it is in: Base64 where it is not text."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    try:
        return data.decode(), "PlainText"
    except UnicodeDecodeError:
        return b64encode(data).decode(), "Base64"


def _follow(
    caller: Caller, asked: Sequence[Invocation], cursors: Cursors, seconds: float, *, as_json: bool
) -> None:
    """Wait for the end, say what happens meanwhile, and print how it came out."""
    from producers.assistant.follower import Follower
    from schemas.execution import RecordState

    for one in asked:
        note(f"{one.invoke_id}: asked, instances: {len(one.instances)}")
    follower = Follower(caller.bus, asked, cursors)
    _watch(follower, follower.answered, seconds)
    if not follower.answered():
        note("not all have ended; `heliograph assistant list` and `results` tell how it goes on")
    rows = _rows(follower, asked)
    show(rows, _COLUMNS, as_json=as_json)
    if not as_json:
        _outputs(rows)
    if seconds and any(row["state"] not in {RecordState.SUCCESS, RecordState.SCHEDULED} for row in rows):
        raise typer.Exit(1)


def _watch(follower: Follower, ended: Callable[[], bool], seconds: float) -> None:
    """Read records until it has ended, at most for so long; each new state is a line."""
    deadline = time.monotonic() + seconds
    while True:
        for record in follower.read():
            note(f"{record.instance_id}: {record.invocation_status}")
        if ended() or time.monotonic() >= deadline:
            return
        time.sleep(_EVERY)


def _rows(
    follower: Follower, asked: Sequence[Invocation], instances: Collection[str] = ()
) -> Sequence[dict[str, Any]]:
    """A row for each instance, of its newest record or of none."""
    return [
        _row(one.invoke_id, instance, follower.newest(one.invoke_id).get(instance))
        for one in asked
        for instance in one.instances
        if not instances or instance in instances
    ]


def _row(execution: str, instance: str, record: ExecutionRecord | None) -> dict[str, Any]:
    from schemas.execution import CommandRecord

    if record is None:
        detail = f"no answer yet: does an agent of {instance} run, in this region and with this key?"
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


def _outputs(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        if row.get("output"):
            say(f"--- {row['instance']}")
            for line in row["output"].splitlines():
                say(visible(line))


def _execution(asked: Invocation, follower: Follower, now: int, stopped: frozenset[str]) -> dict[str, Any]:
    from producers.assistant.requests import Run

    return {
        "execution": asked.invoke_id,
        "state": follower.state(asked.invoke_id, now, stopped).value,
        "created": moment(asked.time),
        "region": asked.region,
        "name": asked.command.name if isinstance(asked, Run) else asked.file.name,
        "mode": (asked.frequency or asked.mode.value) if isinstance(asked, Run) else "file",
        "instances": len(asked.instances),
        "command": asked.command.command_id if isinstance(asked, Run) else "",
        "states": {
            instance: record.invocation_status.value
            for instance, record in follower.newest(asked.invoke_id).items()
        },
    }
