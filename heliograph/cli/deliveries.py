"""`heliograph deliveries …` and `dead-letters …`: where every delivery stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, document, moment, open_deployment, show, text_of
from schemas.errors import InputError, NotFound
from schemas.record import Position

if TYPE_CHECKING:
    from router.deliver.records import DeadLetter, DeliveryState

app = typer.Typer(
    help="Deliveries: one event for one target each.", no_args_is_help=True, rich_markup_mode=None
)
dead_letters = typer.Typer(
    help="Dead letters: what ended undelivered, kept whole.", no_args_is_help=True, rich_markup_mode=None
)

Target = Annotated[str, typer.Option("--target")]
Subscription = Annotated[str, typer.Option("--subscription")]


@app.command("list")
def list_deliveries(
    target: Target = "",
    subscription: Subscription = "",
    state: Annotated[
        str, typer.Option("--state", help="delivered, dead, waiting, under-way, expired, muted, dropped.")
    ] = "",
    event: Annotated[str, typer.Option("--event", help="Position of an event, topic:partition:offset.")] = "",
    as_json: Json = False,
) -> None:
    """List deliveries and how they ended, or what they wait for."""
    from router.deliver.records import STATES
    from router.deliver.records import list_deliveries as every

    if state and state not in STATES:
        raise InputError(f"--state {state!r}: expected {', '.join(STATES)}")
    if event:
        Position.parse(event)
    with open_deployment() as deployment:
        rows = (
            _row(one)
            for one in every(deployment.bus)
            if (not target or one.target == target)
            and (not subscription or one.subscription == subscription)
            and (not state or one.state == state)
            and (not event or one.source == event)
        )
        show(
            rows,
            ("delivery", "state", "target", "subscription", "source", "attempts", "detail"),
            as_json=as_json,
        )


@app.command("show")
def show_delivery(delivery: str, as_json: Json = False) -> None:
    """Show one delivery."""
    from router.deliver.records import UNKNOWN, delivery_states

    with open_deployment() as deployment:
        found = delivery_states(deployment.bus, [delivery])[delivery]
    if found.state == UNKNOWN:
        raise NotFound(
            f"delivery {delivery!r}: not in the log; `heliograph query` reads what only the archive has"
        )
    document(_row(found), as_json=as_json)


@dead_letters.command("list")
def list_dead_letters(target: Target = "", subscription: Subscription = "", as_json: Json = False) -> None:
    """List what ended undelivered, with the reason."""
    from router.deliver.records import list_dead

    with open_deployment() as deployment:
        rows = (
            _dead_row(one)
            for one in list_dead(deployment.bus)
            if (not target or one.delivery.target == target)
            and (not subscription or one.delivery.subscription == subscription)
        )
        columns = ("time", "delivery", "target", "subscription", "attempts", "exhausted", "error", "message")
        show(rows, columns, as_json=as_json)


@dead_letters.command("show")
def show_dead_letter(delivery: str, as_json: Json = False) -> None:
    """Show one dead letter, with its event."""
    from router.deliver.records import list_dead

    with open_deployment() as deployment:
        found = next((one for one in list_dead(deployment.bus) if one.delivery.id == delivery), None)
    if found is None:
        raise NotFound(
            f"delivery {delivery!r}: is no dead letter; `heliograph deliveries show` says where it stands"
        )
    document(_dead_row(found), as_json=as_json)


def _dead_row(one: DeadLetter) -> dict[str, Any]:
    return {
        "time": moment(one.at),
        "position": str(one.position),
        "delivery": one.delivery.id,
        "target": one.delivery.target,
        "subscription": one.delivery.subscription,
        "source": str(one.delivery.source),
        "attempts": one.delivery.attempts.count,
        "exhausted": one.exhausted,
        "error": one.code,
        "message": one.message,
        "event": text_of(one.delivery.event),
    }


def _row(one: DeliveryState) -> dict[str, Any]:
    return {
        "delivery": one.id,
        "state": one.state,
        "source": one.source,
        "subscription": one.subscription,
        "target": one.target,
        "resource": one.resource,
        "ended": moment(one.at) if one.at else "",
        "due": moment(one.due) if one.due else "",
        "attempts": one.attempts,
        "detail": one.detail,
    }
