"""`heliograph assistant command …`: commands that are kept, with their versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.assistant_options import (
    REGION,
    USER,
    Description,
    KeptVersion,
    Name,
    Region,
    Script,
    ScriptFile,
    ScriptType,
    Timeout,
    User,
    WorkingDir,
    note_timeout,
    open_caller,
    read_fields,
)
from heliograph.cli.output import Json, document, moment, say, show
from schemas.errors import InputError

if TYPE_CHECKING:
    from producers.assistant.library import Version

app = typer.Typer(
    help="Commands that are kept, with their versions.", no_args_is_help=True, rich_markup_mode=None
)

Kept = Annotated[str, typer.Argument(metavar="COMMAND", help="Id or name of a kept command.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the command.")],
    script: Script = "",
    file: ScriptFile = "",
    kind: ScriptType = "",
    timeout: Timeout = None,
    working_dir: WorkingDir = None,
    description: Description = None,
    region: Region = REGION,
    user: User = USER,
) -> None:
    """Keep a command; print its id."""
    from heliograph.operations.assistant import create_command

    fields = read_fields(
        script=script,
        file=file,
        kind=kind,
        name=name or Path(file).name,
        description=description,
        timeout=timeout,
        working_dir=working_dir,
    )
    with open_caller(region, user) as caller:
        say(create_command(caller, fields))


@app.command()
def modify(
    command: Kept,
    name: Name = None,
    description: Description = None,
    timeout: Timeout = None,
    region: Region = REGION,
    user: User = USER,
) -> None:
    """Change name, description or time limit of a command's latest version."""
    from heliograph.operations.assistant import CommandFields, change_command

    if name is None and description is None and timeout is None:
        raise InputError("command modify: give --name, --description or --timeout")
    fields = CommandFields(name=name, description=description, timeout=note_timeout(timeout))
    with open_caller(region, user) as caller:
        change_command(caller, command, fields)


@app.command()
def clone(
    command: Kept,
    script: Script = "",
    file: ScriptFile = "",
    kind: ScriptType = "",
    timeout: Timeout = None,
    working_dir: WorkingDir = None,
    name: Name = None,
    description: Description = None,
    region: Region = REGION,
    user: User = USER,
) -> None:
    """Keep a new version of a command; print its number.

    Fields without an option stay as they are.
    """
    from heliograph.operations.assistant import clone_command

    fields = read_fields(
        script=script,
        file=file,
        kind=kind,
        name=name,
        description=description,
        timeout=timeout,
        working_dir=working_dir,
        optional=True,
    )
    with open_caller(region, user) as caller:
        say(str(clone_command(caller, command, fields)))


@app.command()
def delete(
    commands: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="Ids or names of kept commands.")
    ],
    region: Region = REGION,
    user: User = USER,
) -> None:
    """Delete kept commands with all their versions. Runs under way continue."""
    from heliograph.operations.assistant import remove_commands

    with open_caller(region, user) as caller:
        remove_commands(caller, commands)


@app.command("list")
def list_kept(region: Region = REGION, as_json: Json = False) -> None:
    """List the kept commands of a region: the latest version of each."""
    from heliograph.operations.assistant import list_commands

    with open_caller(region) as caller:
        rows = [_row(version) for version in list_commands(caller)]
    show(rows, ("command", "version", "name", "type", "timeout", "created", "description"), as_json=as_json)


@app.command("show")
def show_kept(
    command: Kept, version: KeptVersion = None, region: Region = REGION, as_json: Json = False
) -> None:
    """Show a kept command with its script and its digest, which an agent's --allow takes."""
    from heliograph.operations.assistant import find_command

    with open_caller(region) as caller:
        found = find_command(caller, command, version)
    document(_row(found), as_json=as_json)


def _row(version: Version) -> dict[str, Any]:
    from producers.assistant.policy import digest

    command = version.command
    return {
        "command": command.command_id,
        "version": version.number,
        "name": command.name,
        "type": command.type.value,
        "timeout": command.timeout,
        "created": moment(version.created),
        "description": command.description,
        "working_dir": command.working_dir,
        "digest": digest(command.content),
        "content": command.content,
    }
