"""`heliograph emit` and `heliograph validate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from heliograph.cli.names import complete_name
from heliograph.cli.output import Json, document, note, open_deployment, say, show
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.operations.publish import Checked, NotificationRequest

SAMPLE_OF_PROBLEMS = 10
"""Number of rejections that `emit --file` prints."""


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(emit)
    app.command()(validate)


def emit(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name in the catalogue (`heliograph names`) of the notification to build.",
            autocompletion=complete_name,
        ),
    ] = None,
    resource: Annotated[str, typer.Option("--resource", metavar="ID", help="Resource id or ARN.")] = "",
    region: Annotated[
        str, typer.Option("--region", help="Region id; default cn-hangzhou.", show_default=False)
    ] = "cn-hangzhou",
    user: Annotated[
        str, typer.Option("--user", help="Account id; default 100000000000.", show_default=False)
    ] = "100000000000",
    level: Annotated[
        str, typer.Option("--level", help="CRITICAL, WARN or INFO; default the level in the catalogue.")
    ] = "",
    content: Annotated[
        list[str] | None,
        typer.Option("--content", metavar="KEY=VALUE", help="Field of the content; repeatable."),
    ] = None,
    file: Annotated[
        str, typer.Option("--file", help="File of JSON or JSON lines to append byte for byte; - is stdin.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Append one built notification, or all of a file.

    Exit status 1 if a notification was rejected; `heliograph tail rejects` shows the rejected ones with the reason.
    """
    from heliograph.operations.publish import NotificationRequest

    if bool(name) == bool(file):
        raise InputError("emit: give a NAME to build a notification, or --file to append those of a file")
    if file:
        if resource or level or content:
            raise InputError(
                "--file: notifications are appended as they are; leave out --resource, --level, --content"
            )
        _emit_file(file, as_json=as_json)
    elif not resource:
        raise InputError("--resource: missing; give the resource's id or ARN")
    else:
        fields = dict(_split_pair(one) for one in content or [])
        request = NotificationRequest(
            name=str(name), resource=resource, region=region, user=user, level=level, content=fields
        )
        _emit_one(request, as_json=as_json)


def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files of JSON or JSON lines; - is stdin.")
    ],
    as_json: Json = False,
) -> None:
    """Check notifications; append nothing.

    Lists those that `emit --file` would reject, with the reason; exit status 1 if there are any.
    """
    from heliograph.operations.publish import check_stream

    counts = {"valid": 0, "rejected": 0}

    def rows() -> Iterator[dict[str, object]]:
        for file in files:
            with _open(file) as stream:
                for checked in check_stream(stream):
                    counts["rejected" if checked.problem else "valid"] += 1
                    yield from _checked_rows(file, checked)

    show(rows(), ("file", "number", "state", "reason"), as_json=as_json)
    note(f"{counts['valid']} valid, {counts['rejected']} rejected")
    if counts["rejected"]:
        raise typer.Exit(1)


def _checked_rows(file: str, checked: Checked) -> Iterator[dict[str, object]]:
    row = {"file": file, "number": checked.number}
    if checked.problem:
        yield {**row, "state": "rejected", "reason": checked.problem}
    for warning in checked.warnings:
        yield {**row, "state": "warning", "reason": warning}


def _emit_one(request: NotificationRequest, *, as_json: bool) -> None:
    from heliograph.operations.publish import publish_built

    with open_deployment() as deployment:
        position, value = publish_built(deployment, request)
    if as_json:
        document({"position": str(position), "value": value.decode()}, as_json=True)
    else:
        say(f"{position}  {value.decode()}")


def _emit_file(file: str, *, as_json: bool) -> None:
    from heliograph.operations.publish import publish_stream

    with open_deployment() as deployment, _open(file) as stream, _progress(stream, file) as advance:
        submitted = publish_stream(deployment, stream, advance)
    for problem in submitted.problems[:SAMPLE_OF_PROBLEMS]:
        note(f"rejected: {problem}")
    if submitted.rejected > SAMPLE_OF_PROBLEMS:
        note(f"… `heliograph tail rejects` lists all {submitted.rejected} with their reasons")
    document({"accepted": submitted.accepted, "rejected": submitted.rejected}, as_json=as_json)
    if submitted.rejected:
        raise typer.Exit(1)


def _split_pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--content {text!r}: expected KEY=VALUE")
    return key, value


@contextmanager
def _open(file: str) -> Generator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below; only its opening may fail as InputError
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    with stream:
        yield stream


@contextmanager
def _progress(stream: BinaryIO, file: str) -> Generator[Callable[[int], None]]:
    """Shows a progress bar if standard error is a terminal: in bytes of a file, in notifications of a stream."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    total = Path(file).stat().st_size if file != "-" else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("bytes" if total else "notifications", total=total)

        def advance(count: int) -> None:
            bar.update(task, completed=stream.tell() if total else count)

        yield advance
