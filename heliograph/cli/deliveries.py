"""`heliograph deliveries list` and `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.options import Since, SubscriptionName, TargetId, Until
from heliograph.cli.output import Json, document, fail_without_archive, moment, open_deployment, say, show
from heliograph.operations.history import open_history
from heliograph.operations.times import parse_span
from schemas.delivery import Attempts
from schemas.record import Position

if TYPE_CHECKING:
    from heliograph.operations.deliveries import DeliveryState

app = typer.Typer(
    help="Deliveries: one event for one target each.", no_args_is_help=True, rich_markup_mode=None
)

_COLUMNS = ("delivery", "state", "target", "subscription", "source", "tries", "detail")


@app.command("list")
def list_deliveries(
    target: TargetId = "",
    subscription: SubscriptionName = "",
    state: Annotated[
        str,
        typer.Option(
            "--state",
            help="Only this state: delivered, dead, waiting, under-way, expired, muted or dropped.",
        ),
    ] = "",
    event: Annotated[
        str, typer.Option("--event", metavar="POSITION", help="Only of the event at topic:partition:offset.")
    ] = "",
    since: Since = "",
    until: Until = "",
    as_json: Json = False,
) -> None:
    """List deliveries with their states.

    --since and --until compare the time of the verdict or, without one, of the delivery's last record.
    """
    from heliograph.operations import deliveries

    with open_deployment() as deployment:
        history = open_history(deployment)
        begin, end = parse_span(since, until, deployment.clock.now())
        selection = deliveries.DeliveryFilter(
            targets=frozenset({target} if target else ()),
            subscription=subscription,
            state=deliveries.parse_state(state) if state else None,
            source=Position.parse(event) if event else None,
            since=begin,
            until=end,
        )
        show(map(delivery_row, deliveries.list_deliveries(history, selection)), _COLUMNS, as_json=as_json)
    fail_without_archive(history)


@app.command("show")
def show_delivery(
    delivery: Annotated[str, typer.Argument(help="Id of the delivery.")], as_json: Json = False
) -> None:
    """Show one delivery with the attempts that were kept."""
    from heliograph.operations.deliveries import find_delivery

    with open_deployment() as deployment:
        found = find_delivery(open_history(deployment), delivery)
    show_with_attempts(delivery_row(found), as_json=as_json)


def show_with_attempts(row: dict[str, Any], *, as_json: bool) -> None:
    """Prints a delivery: for people, the fields that are not empty and one line per attempt."""
    if as_json:
        document(row, as_json=True)
        return
    attempts = row.pop("attempts")
    document({name: value for name, value in row.items() if value not in {"", None}}, as_json=False)
    if attempts:
        say()
        show(attempts, ("number", "at", "took", "outcome", "status", "address", "answer"), as_json=False)


def delivery_row(one: DeliveryState) -> dict[str, Any]:
    """Returns a delivery's fields as listings print them."""
    ended = one.state.ended
    return {
        "delivery": one.id,
        "state": one.state,
        "source": one.source,
        "subscription": one.subscription,
        "target": one.target,
        "resource": one.resource,
        "ended": moment(one.at) if ended else "",
        "seen": moment(one.at) if not ended and one.at else "",
        "due": moment(one.due) if one.due else "",
        "tries": one.attempts.count,
        "detail": one.detail,
        "exhausted": one.exhausted or "",
        "lane": one.lane,
        "configuration": one.configuration,
        "redrive": one.redrive,
        "by": one.by,
        "why": one.why,
        "attempts": attempt_rows(one.attempts),
    }


def attempt_rows(attempts: Attempts) -> list[dict[str, Any]]:
    """Returns the fields of the attempts that were kept.

    `took`: seconds. `outcome`: `delivered` or the reason's code. `answer`: the first bytes of the receiver's answer.
    """
    from heliograph.operations.deliveries import number_attempts

    return [
        {
            "number": number,
            "at": moment(one.at),
            "took": one.took,
            "outcome": one.reason.code if one.reason else "delivered",
            "status": (one.reason or one).status,
            "address": (one.reason or one).address,
            "answer": one.reason.detail if one.reason else one.receipt,
        }
        for number, one in number_attempts(attempts)
    ]
