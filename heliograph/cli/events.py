"""`heliograph events …` and `heliograph why`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.deliveries import delivery_row
from heliograph.cli.options import EventName, ResourceId, Since, Until
from heliograph.cli.output import (
    Json,
    document,
    fail_without_archive,
    moment,
    open_deployment,
    show,
    text_of,
)
from heliograph.operations.history import open_history
from heliograph.operations.times import parse_span

if TYPE_CHECKING:
    from heliograph.operations.events import Event
    from heliograph.operations.why import EventAnswer
    from schemas.record import Record

app = typer.Typer(
    help="Events: accepted notifications, and their deliveries.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EventKey = Annotated[str, typer.Argument(help="The event's id, or its position topic:partition:offset.")]


def register(root: typer.Typer) -> None:
    """Adds the command that the root has too."""
    root.command()(why)


@app.command("list")
def list_events(
    resource: ResourceId = "",
    level: Annotated[
        str, typer.Option("--level", help="Only this level: CRITICAL, WARN or INFO; any case.")
    ] = "",
    name: EventName = "",
    since: Since = "",
    until: Until = "",
    as_json: Json = False,
) -> None:
    """List the events on the bus.

    --since and --until compare the time at which the event was appended.
    """
    from heliograph.operations import events

    with open_deployment() as deployment:
        begin, end = parse_span(since, until, deployment.clock.now())
        selection = events.EventFilter(
            resource=resource,
            level=level.upper(),
            name=name,
            since=begin,
            until=end,
        )
        rows = map(_event_row, events.list_events(deployment.bus, selection))
        show(rows, ("time", "level", "name", "resource", "region", "position"), as_json=as_json)


@app.command("show")
def show_event(event: EventKey, as_json: Json = False) -> None:
    """Show an event's record, byte for byte.

    Shows every record if several have the id.
    """
    from heliograph.operations.events import find_events

    with open_deployment() as deployment:
        for record in find_events(open_history(deployment), event):
            document(_record_row(record), as_json=as_json)


@app.command()
def why(event: EventKey, as_json: Json = False) -> None:
    """Show why an event matched each subscription or did not.

    Uses the subscriptions in force when the event was routed. Prints the state of each delivery, or the clause that
    does not hold.
    """
    from heliograph.operations.why import answer_why

    with open_deployment() as deployment:
        history = open_history(deployment)
        rows = [row for answer in answer_why(history, event) for row in _answer_rows(answer)]
    show(
        rows,
        ("position", "subscription", "matched", "target", "state", "because", "delivery"),
        as_json=as_json,
    )
    fail_without_archive(history)


def _event_row(event: Event) -> dict[str, Any]:
    record, routing = event
    return {
        "position": str(record.position),
        "time": moment(record.timestamp),
        "level": routing.level,
        "name": routing.name,
        "resource": routing.resource_id.rpartition("/")[2],
        "region": routing.region_id,
        "id": routing.id,
    }


def _record_row(record: Record) -> dict[str, Any]:
    return {
        "position": str(record.position),
        "time": moment(record.timestamp),
        "key": text_of(record.key or b""),
        "headers": {key: text_of(value) for key, value in record.headers},
        "value": text_of(record.value),
    }


def _answer_rows(answer: EventAnswer) -> Iterator[dict[str, Any]]:
    """Returns a row for each delivery, and one for each subscription that did not match."""
    empty = {"position": str(answer.position), "subscription": "", "matched": False}
    empty |= {"target": "", "delivery": "", "state": "", "because": ""}
    if answer.duplicate_of:
        because = f"repeats {answer.duplicate_of}; only the first is routed"
        yield {**empty, "state": "duplicate", "because": because}
    for one in answer.explanations:
        base = {**empty, "subscription": one.subscription, "matched": one.matched}
        if not one.deliveries:
            yield {**base, "because": one.because}
        for delivery in one.deliveries:
            state = answer.states[delivery.id]
            yield {**base, **delivery_row(state), "target": delivery.target, "because": state.detail}
