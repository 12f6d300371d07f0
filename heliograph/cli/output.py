"""How commands print: a table for people, a JSON object a line for machines."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Annotated, Any

import typer

from heliograph.app.deployment import Deployment

MEASURED_ROWS = 500

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def open_deployment() -> Deployment:
    """The deployment that the environment names, with logs set up."""
    from heliograph.app import logging_setup
    from heliograph.app.config import load

    config = load(os.environ)
    logging_setup.configure(config.log)
    return Deployment(config)


def say(line: str = "") -> None:
    """A line of the answer."""
    sys.stdout.write(f"{line}\n")


def note(line: str) -> None:
    """A line beside the answer: progress, warnings, counts."""
    sys.stderr.write(f"{line}\n")


def show(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> int:
    """Print a listing as it comes; returns the number of rows. JSON rows are whole, tables have `columns`."""
    import orjson

    if not as_json:
        return _table(rows, columns)
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the answer
        say(orjson.dumps(row, default=plain).decode())
    return count


def document(value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: a line a field, or a JSON object."""
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
def progress(total: int, what: str) -> Generator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; yields what is told how many more are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def operator() -> str:
    """Who is at work here, as `user@host`, for records that name a person."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def moment(milliseconds: int) -> str:
    """A time for people and machines: ISO 8601, UTC, milliseconds. One beyond the years 1 to 9999 stays a number."""
    try:
        found = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of(value: bytes) -> str:
    """A record's value as text; bytes that are no UTF-8 are escaped."""
    return value.decode("utf-8", "backslashreplace")


def plain(value: object) -> str:
    """Anything as text, bytes as `text_of`."""
    return text_of(value) if isinstance(value, bytes) else str(value)


def visible(text: str) -> str:
    """Text for a line on a terminal: what a terminal would obey instead of showing it, and
    what turns the direction of writing, is escaped."""
    return text if text.isprintable() else text.translate(_ESCAPES)


_ESCAPES = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*range(32), *range(127, 160), *range(0x2028, 0x202F), 0x200E, 0x200F, *range(0x2066, 0x206A))
}


def _table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Columns as wide as the first rows need, so that a listing of any length is printed as it comes."""
    cells = ([visible(plain(row.get(column, ""))) for column in columns] for row in rows)
    first = list(islice(cells, MEASURED_ROWS))
    widths = [max([len(column), *(len(row[at]) for row in first)]) for at, column in enumerate(columns)]
    count = -1
    for count, row in enumerate(chain([[column.upper() for column in columns]], first, cells)):  # noqa: B007
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return count
