"""`heliograph emit` and `validate`: notifications in."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from heliograph.cli.names import complete_name
from heliograph.cli.output import Json, document, note, open_deployment, say, show
from schemas.errors import InputError, InvalidNotification

SAMPLE_OF_PROBLEMS = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(emit)
    app.command()(validate)


def emit(
    name: Annotated[
        str | None,
        typer.Argument(help="A name of the catalogue (`heliograph names`).", autocompletion=complete_name),
    ] = None,
    resource: Annotated[str, typer.Option("--resource", help="Resource id or ARN.")] = "",
    region: Annotated[str, typer.Option("--region")] = "cn-hangzhou",
    user: Annotated[str, typer.Option("--user", help="Account id.")] = "100000000000",
    level: Annotated[
        str, typer.Option("--level", help="CRITICAL, WARN or INFO; by default the catalogue's.")
    ] = "",
    content: Annotated[list[str] | None, typer.Option("--content", metavar="KEY=VALUE")] = None,
    file: Annotated[
        str, typer.Option("--file", help="JSON or JSON lines, taken byte for byte; - is standard input.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Append one built notification, or all of a file.

    Exit status 1 if any was rejected; `heliograph tail rejects` shows it with the reason.
    """
    if bool(name) == bool(file):
        raise InputError("emit: give a NAME to build a notification, or --file to take them from a file")
    if file:
        if resource or level or content:
            raise InputError(
                "--file: takes notifications as they are; leave out --resource, --level, --content"
            )
        _emit_file(file, as_json=as_json)
    elif not resource:
        raise InputError("--resource: is missing; give the resource's id or ARN")
    else:
        _emit_one(str(name), resource, region, user, level, content or [], as_json=as_json)


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="- is standard input.")],
    as_json: Json = False,
) -> None:
    """Check notifications; append nothing.

    What `emit --file` would reject is listed with the reason, and makes the exit status 1.
    """
    from producers.reading import notifications
    from schemas.notification import check, warnings

    def findings() -> Iterator[dict[str, object]]:
        for file in files:
            with _opened(file) as stream:
                for number, value in enumerate(notifications(stream), 1):
                    counts["read"] += 1
                    try:
                        check(value)
                    except InvalidNotification as error:
                        counts["rejected"] += 1
                        yield {"file": file, "number": number, "state": "rejected", "reason": str(error)}
                        continue
                    for warning in warnings(value):
                        yield {"file": file, "number": number, "state": "warning", "reason": warning}

    counts = {"read": 0, "rejected": 0}
    show(findings(), ("file", "number", "state", "reason"), as_json=as_json)
    note(f"{counts['read'] - counts['rejected']} valid, {counts['rejected']} rejected")
    if counts["rejected"]:
        raise typer.Exit(1)


def _emit_one(
    name: str, resource: str, region: str, user: str, level: str, content: list[str], *, as_json: bool
) -> None:
    from producers.builder import build
    from producers.edge import Edge

    fields = dict(_pair(one) for one in content)
    with open_deployment() as deployment:
        value = build(
            name,
            resource,
            region=region,
            user=user,
            level=level or None,
            content=fields,
            now_ms=deployment.clock.now(),
        )
        edge = Edge(deployment.bus, deployment.config.events.topics)
        position = deployment.bus.append([edge.record(value)])[0]
    if as_json:
        document({"position": str(position), "value": value.decode()}, as_json=True)
    else:
        say(f"{position}  {value.decode()}")


def _emit_file(file: str, *, as_json: bool) -> None:
    from producers.edge import Edge
    from producers.reading import notifications

    with open_deployment() as deployment, _opened(file) as stream, _progress(stream, file) as advance:
        submission = Edge(deployment.bus, deployment.config.events.topics).submission(advance)
        for value in notifications(_Paced(stream, submission.append)):
            submission.add(value)
        submitted = submission.end()
    for problem in submitted.problems[:SAMPLE_OF_PROBLEMS]:
        note(f"rejected: {problem}")
    if submitted.rejected > SAMPLE_OF_PROBLEMS:
        note(f"… all {submitted.rejected} with their reasons: heliograph tail rejects")
    document({"accepted": submitted.accepted, "rejected": submitted.rejected}, as_json=as_json)
    if submitted.rejected:
        raise typer.Exit(1)


class _Paced:
    """A stream whose reader is told before it has to wait: what came so far must not wait with it."""

    def __init__(self, stream: BinaryIO, waits: Callable[[], None]) -> None:
        self._stream = stream
        self._waits = waits

    def read(self, size: int) -> bytes:
        """What is there now, up to `size` bytes; none at the end."""
        with suppress(UnsupportedOperation):  # memory never has to be waited for
            if not select.select([self._stream], [], [], 0)[0]:
                self._waits()
        return self._stream.read1(size)  # type: ignore[attr-defined, no-any-return]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--content {text!r}: expected KEY=VALUE")
    return key, value


@contextmanager
def _opened(file: str) -> Generator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below, opened where its error can be told
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    with stream:
        yield stream


@contextmanager
def _progress(stream: BinaryIO, file: str) -> Generator[Callable[[int], None]]:
    """A bar on a terminal, by bytes read where the size is known; nothing elsewhere."""
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
