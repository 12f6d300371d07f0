"""What the commands below `heliograph assistant` share: options, and the deployment as somebody who asks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from heliograph.cli.output import note, open_deployment
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.app.deployment import Deployment
    from producers.assistant.caller import Caller
    from producers.assistant.requests import Command
    from producers.assistant.signing import Keys
    from schemas.execution import CommandType

Region = Annotated[str, typer.Option("--region", help="Where the instances are.")]
User = Annotated[int, typer.Option("--user", help="Account id.", min=0, max=2**63 - 1)]
Instances = Annotated[list[str] | None, typer.Option("--instance", help="An instance's id; again for more.")]
Name = Annotated[str | None, typer.Option("--name", help="The command's name.")]
Description = Annotated[str | None, typer.Option("--description")]
Timeout = Annotated[int | None, typer.Option("--timeout", metavar="SECONDS", help="Ended after (60).", min=0)]
_TYPES = {".sh": "RunShellScript", ".bat": "RunBatScript", ".ps1": "RunPowerShellScript"}


@contextmanager
def open_caller(region: str, user: int) -> Generator[Caller]:
    """The deployment as this user who asks for something in a region."""
    from producers.assistant.caller import Caller, Quotas
    from schemas.topics import COMMANDS

    with open_deployment() as deployment:
        deployment.bus.create(COMMANDS)
        section = deployment.config.assistant
        quotas = Quotas(section.kept_commands, section.daily_runs)
        yield Caller(
            bus=deployment.bus,
            keys=keys_of(deployment),
            clock=deployment.clock,
            region=region,
            uid=user,
            quotas=quotas,
        )


def keys_of(deployment: Deployment) -> Keys:
    """The keys of requests."""
    from producers.assistant.signing import open_keys

    try:
        return open_keys(deployment.config.assistant_keys, deployment.bus.log_id)
    except InputError as error:
        raise InputError(f"{error}; `heliograph assistant key` makes one") from None


class Described(msgspec.Struct, frozen=True):
    """The options that describe a command; None and empty: nothing."""

    script: Annotated[str, typer.Argument(help="The script; or name its file by --file.")] = ""
    file: Annotated[str, typer.Option("--file", metavar="FILE", help="The script's file.")] = ""
    kind: Annotated[
        str,
        typer.Option(
            "--type", help="RunShellScript, RunBatScript or RunPowerShellScript; by the file's name."
        ),
    ] = ""
    timeout: Timeout = None
    working_dir: Annotated[
        str | None,
        typer.Option("--working-dir", metavar="DIR", help="Where it runs; the user's home without one."),
    ] = None

    def command(self, command_id: str, name: str | None, description: str | None = None) -> Command:
        """A new command. Raises InputError."""
        from producers.assistant.requests import DEFAULT_TIMEOUT, Command

        content = self._content()
        return Command(
            command_id=command_id,
            name=name or Path(self.file).name or content.split("\n", 1)[0][:60],
            type=self._type(),
            content=content,
            description=description or "",
            timeout=raised(DEFAULT_TIMEOUT if self.timeout is None else self.timeout),
            working_dir=self.working_dir or "",
        )

    def changed(self, command: Command, name: str | None = None, description: str | None = None) -> Command:
        """The command with what is given in place of what it has. Raises InputError."""
        changes: dict[str, Any] = {
            "content": self._content() if self.script or self.file else None,
            "type": self._type() if self.kind or self.file else None,
            "name": name,
            "description": description,
            "timeout": None if self.timeout is None else raised(self.timeout),
            "working_dir": self.working_dir,
        }
        given = {field: value for field, value in changes.items() if value is not None}
        return msgspec.structs.replace(command, **given)

    def _content(self) -> str:
        """The script, given on the line or in a file."""
        if bool(self.script) == bool(self.file):
            raise InputError("give either a SCRIPT or --file")
        return self.script or _text_in(self.file)

    def _type(self) -> CommandType:
        from schemas.execution import CommandType

        named = self.kind or _TYPES.get(Path(self.file).suffix, "RunShellScript")
        try:
            return CommandType(named)
        except ValueError:
            raise InputError(f"--type {self.kind!r}: expected {', '.join(_TYPES.values())}") from None


def _text_in(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not text in UTF-8") from None


def raised(timeout: int) -> int:
    """A time-out, raised to the least there is."""
    from producers.assistant.requests import LEAST_TIMEOUT

    if timeout < LEAST_TIMEOUT:
        note(f"--timeout {timeout}: raised to {LEAST_TIMEOUT} seconds, the least there is")
    return max(timeout, LEAST_TIMEOUT)


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` of each. Raises InputError."""
    found: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not (key and equals) or key in found:
            raise InputError(f"{option} {one!r}: expected KEY=VALUE, each key once")
        found[key] = value
    return found
