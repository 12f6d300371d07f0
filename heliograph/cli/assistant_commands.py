"""`heliograph assistant command …`: commands that are kept, with their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.assistant_caller import (
    Described,
    Description,
    Name,
    Region,
    Timeout,
    User,
    open_caller,
    raised,
)
from heliograph.cli.options import takes
from heliograph.cli.output import Json, document, moment, say, show
from schemas.errors import InputError

if TYPE_CHECKING:
    from producers.assistant.library import Version

app = typer.Typer(
    help="Commands that are kept, with their versions.", no_args_is_help=True, rich_markup_mode=None
)

Kept = Annotated[str, typer.Argument(metavar="COMMAND", help="A kept command's id, or its name.")]


@app.command()
@takes(Described)
def create(
    described: Described,
    name: Annotated[str, typer.Argument(help="The command's name.")],
    description: Description = None,
    region: Region = "cn-hangzhou",
    user: User = 100_000_000_000,
) -> None:
    """Keep a command; prints its id."""
    from producers.assistant.caller import new_id
    from producers.assistant.library import keep_command

    command = described.command(new_id("c"), name, description)
    with open_caller(region, user) as caller:
        say(keep_command(caller, command).command_id)


@app.command()
def modify(
    command: Kept,
    name: Name = None,
    description: Description = None,
    timeout: Timeout = None,
    region: Region = "cn-hangzhou",
    user: User = 100_000_000_000,
) -> None:
    """Change name, description or time-out of a command's latest version."""
    from producers.assistant.library import find_version, modify_command, read_library

    if name is None and description is None and timeout is None:
        raise InputError("command modify: give --name, --description or --timeout")
    with open_caller(region, user) as caller:
        found = find_version(read_library(caller.bus, caller.keys, region), command)
        modify_command(
            caller,
            found.command.command_id,
            name=name,
            description=description,
            timeout=None if timeout is None else raised(timeout),
        )


@app.command()
@takes(Described)
def clone(
    described: Described,
    command: Kept,
    *,
    name: Name = None,
    description: Description = None,
    region: Region = "cn-hangzhou",
    user: User = 100_000_000_000,
) -> None:
    """Keep a new version of a command, and print its number. What is not given is as before."""
    from producers.assistant.library import find_version, keep_command, read_library

    with open_caller(region, user) as caller:
        latest = find_version(read_library(caller.bus, caller.keys, region), command)
        keep_command(caller, described.changed(latest.command, name, description))
    say(str(latest.number + 1))


@app.command()
def delete(
    commands: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="Ids or names.")],
    region: Region = "cn-hangzhou",
    user: User = 100_000_000_000,
) -> None:
    """Keep commands no longer, in all their versions. What runs goes on."""
    from producers.assistant.library import delete_commands, find_version, read_library

    with open_caller(region, user) as caller:
        kept = read_library(caller.bus, caller.keys, region)
        delete_commands(caller, [find_version(kept, command).command.command_id for command in commands])


@app.command("list")
def list_commands(region: Region = "cn-hangzhou", as_json: Json = False) -> None:
    """List the kept commands of a region: the latest version of each."""
    from producers.assistant.library import read_library

    with open_caller(region, 0) as caller:
        rows = [_row(versions[-1]) for versions in read_library(caller.bus, caller.keys, region).values()]
    show(rows, ("command", "version", "name", "type", "timeout", "created", "description"), as_json=as_json)


@app.command("show")
def show_command(
    command: Kept,
    number: Annotated[
        int | None, typer.Option("--version", help="A number; the latest without one.", min=1)
    ] = None,
    region: Region = "cn-hangzhou",
    as_json: Json = False,
) -> None:
    """Show a kept command, with its script and its digest. An agent's --allow takes the digest."""
    from producers.assistant.library import find_version, read_library

    with open_caller(region, 0) as caller:
        found = find_version(read_library(caller.bus, caller.keys, region), command, number)
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
