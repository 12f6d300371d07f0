"""How commands print: a table for people, a JSON object a line for machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from heliograph.deployment import Deployment

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def open_deployment() -> Deployment:
    """The deployment that the environment names, with logs set up."""
    from heliograph import logs
    from heliograph.config import load

    config = load(os.environ)
    logs.configure(config.log)
    return Deployment(config)


def say(line: str = "") -> None:
    """A line of the answer."""
    sys.stdout.write(f"{line}\n")


def note(line: str) -> None:
    """A line beside the answer: progress, warnings, counts."""
    sys.stderr.write(f"{line}\n")


def show(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> int:
    """Print a listing; returns the number of rows. JSON rows are whole, tables have `columns`."""
    import orjson

    if as_json:
        count = 0
        for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the answer
            sys.stdout.buffer.write(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
        return count
    return _table(list(rows), columns)


def document(value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: a line a field, or a JSON object."""
    import orjson

    if as_json:
        say(orjson.dumps(value, default=str).decode())
        return
    width = max((len(key) for key in value), default=0)
    for key, one in value.items():
        text = one if isinstance(one, str) else orjson.dumps(one, default=str).decode()
        say(f"{key:<{width}}  {text}")


def moment(milliseconds: int) -> str:
    """A time for people and machines: ISO 8601, UTC, milliseconds."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def text_of(value: bytes) -> str:
    """A record's value as text; bytes that are no UTF-8 are escaped."""
    return value.decode("utf-8", "backslashreplace")


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> int:
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max([len(column), *(len(row[at]) for row in cells)]) for at, column in enumerate(columns)]
    for row in [[column.upper() for column in columns], *cells]:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return len(rows)
