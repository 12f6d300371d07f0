"""The options and arguments that the commands below `heliograph assistant` share."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.output import note, open_deployment
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.operations.assistant import CommandFields
    from producers.assistant.caller import Caller
    from schemas.execution import CommandType

REGION = "cn-hangzhou"
USER = 100_000_000_000
_TYPES = {".sh": "RunShellScript", ".bat": "RunBatScript", ".ps1": "RunPowerShellScript"}

Region = Annotated[
    str, typer.Option("--region", help="Region of the instances; default cn-hangzhou.", show_default=False)
]
User = Annotated[
    int,
    typer.Option(
        "--user", help="Account id; default 100000000000.", min=0, max=2**63 - 1, show_default=False
    ),
]
Instances = Annotated[list[str] | None, typer.Option("--instance", help="Id of an instance; repeatable.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the command.")]
Description = Annotated[str | None, typer.Option("--description", help="Description of the command.")]
Timeout = Annotated[
    int | None,
    typer.Option(
        "--timeout", metavar="SECONDS", help="Time limit in seconds; default 60, at least 10.", min=0
    ),
]
Script = Annotated[str, typer.Argument(help="The script; or give its file with --file.")]
ScriptFile = Annotated[str, typer.Option("--file", metavar="FILE", help="File that holds the script.")]
ScriptType = Annotated[
    str,
    typer.Option(
        "--type",
        help="RunShellScript, RunBatScript or RunPowerShellScript; default by the file's suffix, or RunShellScript.",
    ),
]
WorkingDir = Annotated[
    str | None,
    typer.Option("--working-dir", metavar="DIR", help="Directory to run in; default the home of its user."),
]
Kept = Annotated[str, typer.Option("--kept", metavar="COMMAND", help="Id or name of a kept command.")]
KeptVersion = Annotated[
    int | None, typer.Option("--version", help="Version of the kept command; default the latest.", min=1)
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", metavar="NAME=VALUE", help="Value for {{NAME}} in the script; repeatable."),
]
Username = Annotated[
    str, typer.Option("--username", help="User that runs the script; default the agent's user.")
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        help="Longest wait for the end in seconds; default by the time limit; 0 does not wait.",
        min=0.0,
    ),
]


@contextmanager
def open_caller(region: str = "", user: int = 0) -> Generator[Caller]:
    """Opens the deployment, and the caller that sends requests to a region as an account (`user`)."""
    from heliograph.operations.assistant import open_caller as caller_of

    with open_deployment() as deployment:
        yield caller_of(deployment, region, user)


def read_fields(
    *,
    script: str = "",
    file: str = "",
    kind: str = "",
    name: str | None = None,
    description: str | None = None,
    timeout: int | None = None,
    working_dir: str | None = None,
    optional: bool = False,
) -> CommandFields:
    """Reads the fields of a command from its options. `optional`: the script may be left out. Raises InputError."""
    from heliograph.operations.assistant import CommandFields

    if (script and file) or not (script or file or optional):
        raise InputError("give either a SCRIPT or --file")
    return CommandFields(
        content=script or (_read_text(file) if file else None),
        type=_read_type(kind, file) if kind or file else None,
        name=name,
        description=description,
        timeout=note_timeout(timeout),
        working_dir=working_dir,
    )


def note_timeout(timeout: int | None) -> int | None:
    """Prints a note if agents will raise this time limit (seconds) to their minimum; returns `timeout` unchanged."""
    from producers.assistant.requests import LEAST_TIMEOUT

    if timeout is not None and timeout < LEAST_TIMEOUT:
        note(f"--timeout {timeout}: raised to {LEAST_TIMEOUT} seconds, the minimum")
    return timeout


def read_pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Reads pairs of the form `KEY=VALUE`. Raises InputError for another form, or for a key that is given twice."""
    found: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not (key and equals) or key in found:
            raise InputError(f"{option} {one!r}: expected KEY=VALUE, each key once")
        found[key] = value
    return found


def _read_text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8 text; expected a script") from None


def _read_type(kind: str, file: str) -> CommandType:
    from schemas.execution import CommandType

    try:
        return CommandType(kind or _TYPES.get(Path(file).suffix, "RunShellScript"))
    except ValueError:
        raise InputError(f"--type {kind!r}: expected {', '.join(_TYPES.values())}") from None
