"""`heliograph events …`: what was emitted, and why it did or did not reach somebody."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from heliograph.cli.deliveries import delivery_row
from heliograph.cli.output import Json, document, fail_without_archive, moment, open_deployment, show, text_of
from heliograph.operations.history import open_history
from schemas import topics
from schemas.errors import DuplicateEvent, InputError, InvalidNotification, NotFound
from schemas.record import Position, Record

if TYPE_CHECKING:
    from heliograph.bus.base import Bus
    from heliograph.operations.history import History

app = typer.Typer(
    help="Events: what was emitted and what became of it.", no_args_is_help=True, rich_markup_mode=None
)


def register(root: typer.Typer) -> None:
    """Add what stands at the root, too."""
    root.command()(why)


@app.command("list")
def list_events(
    resource: Annotated[str, typer.Option("--resource", help="Resource id or ARN.")] = "",
    level: Annotated[str, typer.Option("--level")] = "",
    name: Annotated[str, typer.Option("--name", help="A name, or a pattern with *.")] = "",
    since: Annotated[str, typer.Option("--since", help="A time (2h, 2026-01-31T12:00:00Z).")] = "",
    until: Annotated[str, typer.Option("--until")] = "",
    as_json: Json = False,
) -> None:
    """List the events that the log holds."""
    from schemas.notification import read_routing
    from schemas.subscription import Level
    from schemas.times import parse_when

    def rows(bus: Bus, since_ms: int, until_ms: int) -> Iterator[dict[str, Any]]:
        for record in _events(bus, since_ms, until_ms):
            try:
                found = read_routing(record.value)
            except InvalidNotification:
                continue  # others may write to the log as well; the router says what is wrong with it
            if (
                (not level or found.level == level.upper())
                and (not name or fnmatchcase(found.name, name))
                and (not resource or resource in {found.resource_id, found.resource_id.rpartition("/")[2]})
            ):
                yield {
                    "position": str(record.position),
                    "time": moment(record.timestamp),
                    "level": found.level,
                    "name": found.name,
                    "resource": found.resource_id.rpartition("/")[2],
                    "region": found.region_id,
                    "id": found.id,
                }

    if level and level.upper() not in get_args(Level):
        raise InputError(f"--level {level!r}: expected {', '.join(get_args(Level))}")
    with open_deployment() as deployment:
        now = deployment.clock.now()
        since_ms = parse_when(since, now) if since else 0
        until_ms = parse_when(until, now) if until else 2**62
        found = rows(deployment.bus, since_ms, until_ms)
        show(found, ("time", "level", "name", "resource", "region", "position"), as_json=as_json)


@app.command("show")
def show_event(event: Annotated[str, typer.Argument(help="Id or position.")], as_json: Json = False) -> None:
    """Show an event, byte for byte, with its record. If several share the id, every one."""
    with open_deployment() as deployment:
        for record in find(open_history(deployment), event):
            document(
                {
                    "position": str(record.position),
                    "time": moment(record.timestamp),
                    "key": text_of(record.key or b""),
                    "headers": {key: text_of(value) for key, value in record.headers},
                    "value": text_of(record.value),
                },
                as_json=as_json,
            )


@app.command()
def why(event: Annotated[str, typer.Argument(help="Id or position.")], as_json: Json = False) -> None:
    """Say what each subscription made of an event.

    As it was when the event was routed: what became of the delivery, or which clause did not hold.
    """
    with open_deployment() as deployment:
        history = open_history(deployment)
        rows = [row for record in find(history, event) for row in _answers(history, record)]
        columns = ("position", "subscription", "matched", "target", "state", "because", "delivery")
        show(rows, columns, as_json=as_json)
    fail_without_archive(history)


def _answers(history: History, record: Record) -> list[dict[str, Any]]:
    """What each subscription made of the event: a row for each delivery, or one that says which clause did not hold."""
    from heliograph.operations.deliveries import read_states
    from heliograph.operations.why import why as explain

    try:
        lines = explain(history.bus, record.position, record)
    except DuplicateEvent as error:
        return [_duplicate(record, error)]
    states = read_states(history, [one.id for line in lines for one in line.deliveries], record.timestamp)
    rows: list[dict[str, Any]] = []
    for line in lines:
        base = {
            "position": str(record.position),
            "subscription": line.subscription,
            "matched": line.matched,
        }
        rows += [
            {
                **base,
                **delivery_row(states[one.id]),
                "target": one.target,
                "because": states[one.id].detail,
            }
            for one in line.deliveries
        ] or [{**base, "target": "", "delivery": "", "state": "", "because": line.because}]
    return rows


def _duplicate(record: Record, error: DuplicateEvent) -> dict[str, Any]:
    return {
        "position": str(record.position),
        "subscription": "",
        "matched": False,
        "target": "",
        "delivery": "",
        "state": "duplicate",
        "because": f"repeats {error.earlier}; only the first is routed",
    }


def find(history: History, event: str) -> list[Record]:
    """The events of the log with an id, newest first, or the one at a position, which may be archived only. Raises
    NotFound."""
    from heliograph.operations.why import find_event

    try:
        position = Position.parse(event)
    except InputError:
        found = find_event(history.bus, event)
    else:
        if not position.topic.startswith(topics.EVENTS):
            raise NotFound(f"event {event!r}: topic {position.topic!r} holds no events")
        found = _at(history, position)
    if not found:
        remedy = (
            f"the archive cannot be read: {history.problem}"
            if history.problem
            else "one that only the archive has is named by its position, which the view `events` of `heliograph query` has"
        )
        raise NotFound(f"event {event!r}: not in the log; {remedy}")
    return found


def _at(history: History, position: Position) -> list[Record]:
    for record in history.bus.read(position.topic_partition, position.offset, 1).records:
        if record.offset == position.offset:
            return [record]
    archived = history.find_archived(position)
    return [archived] if archived else []


def _events(bus: Bus, since_ms: int, until_ms: int) -> Iterator[Record]:
    from heliograph.bus.reading import read_on

    for topic in sorted(bus.topics()):
        if topics.matches(topic, ["events.*"]):
            for partition, extent in bus.extents(topic).items():
                records = read_on(bus, partition, bus.offset_at(partition, since_ms), extent.end)
                yield from takewhile(lambda record: record.timestamp < until_ms, records)
