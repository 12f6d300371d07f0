"""`heliograph tail`, `topics` and `lag`."""

from __future__ import annotations

import io
import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, moment, open_deployment, say, show, text_of, visible

if TYPE_CHECKING:
    from heliograph.operations.topics import GroupLag
    from schemas.record import Record


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(tail)
    app.command()(topics)
    app.command()(lag)


def tail(
    topic: Annotated[str, typer.Argument(help="Name of the topic.")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="START",
            help="earliest, latest, an offset, or a time (2h, 2026-01-31T12:00:00Z); default earliest.",
            show_default=False,
        ),
    ] = "earliest",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new records until Ctrl-C.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Number of records to stop after; default no limit.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the records of a topic."""
    from heliograph.operations import topics

    with open_deployment() as deployment:
        begin = topics.parse_start(start, deployment.clock.now())
        records = topics.tail(deployment.bus, topic, begin, follow=follow)
        if follow and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        rows = map(record_row, islice(records, limit))
        if as_json:
            show(rows, (), as_json=True)
            return
        for row in rows:
            say(visible(_line(row)))


def topics(
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Print the topics and ACLs to create on Kafka before the roles start; connects to nothing.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List topics with partitions and records."""
    from heliograph.operations.topics import list_topics

    with open_deployment() as deployment:
        if plan:
            from heliograph.cli.planning import show_plan

            show_plan(deployment.config, as_json=as_json)
            return
        rows = [size._asdict() for size in list_topics(deployment.bus)]
    show(rows, ("topic", "partitions", "records", "appended"), as_json=as_json)


def lag(as_json: Json = False) -> None:
    """List the lag of each group: the offsets that it has not finished."""
    from heliograph.operations.topics import list_lags

    with open_deployment() as deployment:
        rows = [_lag_row(one) for one in list_lags(deployment.bus)]
    show(rows, ("group", "topic", "partition", "cursor", "end", "lag", "members"), as_json=as_json)


def record_row(record: Record) -> dict[str, Any]:
    """Returns a record's fields as `tail --json` and `archive read --json` print them."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": None if record.key is None else text_of(record.key),
        "headers": {name: text_of(value) for name, value in record.headers},
        "value": text_of(record.value),
    }


def _lag_row(one: GroupLag) -> dict[str, Any]:
    return {
        "group": one.group,
        "topic": one.partition.topic,
        "partition": one.partition.partition,
        "cursor": one.cursor,
        "end": one.end,
        "lag": one.lag,
        "members": one.members,
    }


def _line(row: dict[str, Any]) -> str:
    """Formats a record for people; a rejected one with its reason."""
    cells = (
        f"{row['partition']}:{row['offset']}",
        moment(row["timestamp"]),
        row["key"] or "-",
        row["headers"].get("reason"),
        row["value"],
    )
    return "  ".join(cell for cell in cells if cell is not None)
