"""Prints results as a table for people or as JSON lines for machines, and asks for confirmation."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.app.deployment import Deployment
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.operations.history import History

MEASURED_ROWS = 500
"""Number of rows by which the column widths of a table are computed."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def open_deployment() -> Deployment:
    """Opens the deployment that the environment configures, and sets up logging."""
    from heliograph.app import logging_setup
    from heliograph.app.config import load

    config = load(os.environ)
    logging_setup.configure(config.log)
    return Deployment(config)


def say(line: str = "") -> None:
    """Prints a line to standard output: the result of the command."""
    sys.stdout.write(f"{line}\n")


def note(line: str) -> None:
    """Prints a line to standard error: progress, warnings, counts."""
    sys.stderr.write(f"{line}\n")


def show(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> int:
    """Prints rows as they arrive and returns their number: `columns` as a table, or every field as JSON."""
    import orjson

    if not as_json:
        return _table(rows, columns)
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the answer
        say(orjson.dumps(row, default=plain).decode())
    return count


def document(value: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints one object: one line per field, or as JSON."""
    import orjson

    if as_json:
        say(orjson.dumps(value, default=plain).decode())
        return
    width = max((len(key) for key in value), default=0)
    for key, one in value.items():
        text = one if isinstance(one, str) else orjson.dumps(one, default=plain).decode()
        lines = "\n".join(map(visible, text.splitlines()))
        say(f"{key:<{width}}  {lines}")


@contextmanager
def progress(total: int, label: str) -> Generator[Callable[[int], None]]:
    """Shows a progress bar if standard error is a terminal; yields the function that advances it by a number."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def confirm(question: str, *, yes: bool) -> None:
    """Asks on the terminal for confirmation, unless `yes` is true; ends the command if the answer is no.

    Raises InputError if standard input is no terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{question}: standard input is not a terminal, so nobody can confirm; add --yes")
    if not typer.confirm(f"{question}?", err=True):
        raise typer.Exit(1)


def fail_without_archive(history: History) -> None:
    """Ends the command with status 1 if the archive could not be read: the printed result then lacks its records."""
    if history.problem:
        note(f"the archive cannot be read, the result has records of the bus only: {history.problem}")
        raise typer.Exit(1)


def operator() -> str:
    """Returns `user@host` of this process, for records that name a person."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container the user id may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def moment(milliseconds: int) -> str:
    """Formats a time as ISO 8601 in UTC with milliseconds; outside of the years 1 to 9999, as a number."""
    try:
        found = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of(value: bytes) -> str:
    """Decodes UTF-8; other bytes are escaped."""
    return value.decode("utf-8", "backslashreplace")


def plain(value: object) -> str:
    """Converts any value to text, bytes as `text_of` does."""
    return text_of(value) if isinstance(value, bytes) else str(value)


def visible(text: str) -> str:
    """Escapes control characters and those that change the writing direction, so that a terminal shows them."""
    return text if text.isprintable() else text.translate(_ESCAPES)


_ESCAPES = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*range(32), *range(127, 160), *range(0x2028, 0x202F), 0x200E, 0x200F, *range(0x2066, 0x206A))
}


def _table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Prints a table; the first rows decide the column widths, so that rows can be printed as they arrive."""
    cells = ([visible(plain(row.get(column, ""))) for column in columns] for row in rows)
    first = list(islice(cells, MEASURED_ROWS))
    widths = [max([len(column), *(len(row[at]) for row in first)]) for at, column in enumerate(columns)]
    count = -1
    for count, row in enumerate(chain([[column.upper() for column in columns]], first, cells)):  # noqa: B007
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return count
