"""`heliograph tail`, `topics` and `lag`: what the log holds and how far everybody is."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from heliograph.cli.output import Json, moment, open_deployment, say, show, text_of, visible
from schemas.errors import InputError, NotFound
from schemas.record import Record, TopicPartition

FOLLOW_SECONDS = 0.2


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(tail)
    app.command()(topics)
    app.command()(lag)


def tail(
    topic: str,
    start: Annotated[
        str, typer.Option("--from", help="earliest, latest, an offset, or a time (2h, 2026-01-31T12:00:00Z).")
    ] = "earliest",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="Stop after so many.", min=1)] = 2**62,
    as_json: Json = False,
) -> None:
    """Print the records of a topic."""
    with open_deployment() as deployment:
        bus = deployment.bus
        cursors = _start(bus, topic, start, deployment.clock.now())
        records = _records(bus, topic, cursors, follow=follow)
        rows = (row for row, _ in zip(map(record_row, records), range(limit), strict=False))
        if follow and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        if as_json:
            show(rows, (), as_json=True)
            return
        for row in rows:
            say(visible(_line(row)))


def topics(
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Print what to create beforehand and the ACLs of each role; connect to nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """List topics with their partitions and records."""
    with open_deployment() as deployment:
        if plan:
            from heliograph.cli.planning import show_plan

            show_plan(deployment.config, as_json=as_json)
            return
        bus = deployment.bus
        rows: list[dict[str, Any]] = []
        for topic, partitions in sorted(bus.topics().items()):
            extents = bus.extents(topic).values()
            held = sum(extent.end - extent.start for extent in extents)
            ever = sum(extent.end for extent in extents)
            rows.append({"topic": topic, "partitions": partitions, "records": held, "appended": ever})
        show(rows, ("topic", "partitions", "records", "appended"), as_json=as_json)


def lag(as_json: Json = False) -> None:
    """Show what each group has not finished."""
    with open_deployment() as deployment:
        bus = deployment.bus
        rows = [
            {
                "group": group,
                "topic": partition.topic,
                "partition": partition.partition,
                "cursor": at.cursor,
                "end": at.end,
                "lag": at.end - at.cursor,
                "members": len(bus.members(group)),
            }
            for group in bus.groups()
            for partition, at in sorted(bus.lag(group).items())
        ]
        show(rows, ("group", "topic", "partition", "cursor", "end", "lag", "members"), as_json=as_json)


def record_row(record: Record) -> dict[str, Any]:
    """A record as `tail --json` and `archive read --json` print it."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": None if record.key is None else text_of(record.key),
        "headers": {name: text_of(value) for name, value in record.headers},
        "value": text_of(record.value),
    }


def _line(row: dict[str, Any]) -> str:
    """A record for people; what was rejected says why."""
    reason = row["headers"].get("reason")
    cells = (
        f"{row['partition']}:{row['offset']}",
        moment(row["timestamp"]),
        row["key"] or "-",
        reason,
        row["value"],
    )
    return "  ".join(cell for cell in cells if cell is not None)


def _start(bus: Bus, topic: str, start: str, now: int) -> dict[TopicPartition, int]:
    from schemas.times import parse_when

    extents = bus.extents(topic)
    if not extents:
        raise NotFound(f"topic {topic!r}: there is none; `heliograph topics` lists them")
    match start:
        case "earliest":
            return {partition: extent.start for partition, extent in extents.items()}
        case "latest":
            return {partition: extent.end for partition, extent in extents.items()}
        case _ if start.isdecimal():
            return {partition: max(int(start), extent.start) for partition, extent in extents.items()}
        case _:
            try:
                moment_ms = parse_when(start, now)
            except InputError:
                raise InputError(
                    f"--from {start!r}: expected earliest, latest, an offset, or a time as 2h or 2026-01-31T12:00:00Z"
                ) from None
            return {partition: bus.offset_at(partition, moment_ms) for partition in extents}


def _records(bus: Bus, topic: str, cursors: dict[TopicPartition, int], *, follow: bool) -> Iterator[Record]:
    while True:
        found = False
        for partition, extent in bus.extents(topic).items():
            for record in read_on(bus, partition, cursors.get(partition, extent.start), extent.end):
                found = True
                cursors[partition] = record.offset + 1
                yield record
        if not follow:
            return
        if not found:
            time.sleep(FOLLOW_SECONDS)
