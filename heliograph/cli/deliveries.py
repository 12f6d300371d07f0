"""`heliograph deliveries …`: where every delivery stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.choosing import fail_without_archive
from heliograph.cli.output import Json, document, moment, open_deployment, say, show
from heliograph.operations.history import history_of
from schemas.delivery import Attempts
from schemas.errors import InputError, NotFound
from schemas.record import Position
from schemas.times import parse_when
from schemas.topics import VERDICTS

if TYPE_CHECKING:
    from heliograph.operations.deliveries import About, DeliveryState

app = typer.Typer(
    help="Deliveries: one event for one target each.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_deliveries(
    target: Annotated[str, typer.Option("--target", help="A target's id.")] = "",
    subscription: Annotated[str, typer.Option("--subscription", help="A subscription's name.")] = "",
    state: Annotated[
        str, typer.Option("--state", help="delivered, dead, waiting, under-way, expired, muted, dropped.")
    ] = "",
    event: Annotated[str, typer.Option("--event", help="Position of an event, topic:partition:offset.")] = "",
    since: Annotated[str, typer.Option("--since", help="Ended or last seen at or after a time (2h).")] = "",
    until: Annotated[str, typer.Option("--until", help="Ended or last seen before a time.")] = "",
    as_json: Json = False,
) -> None:
    """List deliveries: how they ended, or what they wait for."""
    from heliograph.operations.deliveries import STATES
    from heliograph.operations.deliveries import list_deliveries as every

    if state and state not in STATES:
        raise InputError(f"--state {state!r}: expected {', '.join(STATES)}")
    if event:
        Position.parse(event)
    with open_deployment() as deployment:
        now, history = deployment.clock.now(), history_of(deployment)
        start = parse_when(since, now) if since else 0
        end = parse_when(until, now) if until else 2**62
        archived = (record for _, record in history.archived(VERDICTS, start))
        rows = (
            delivery_row(one)
            for one in every(deployment.bus, _about(target, subscription, event), archived)
            if (not state or one.state == state) and start <= one.at < end
        )
        columns = ("delivery", "state", "target", "subscription", "source", "tries", "detail")
        show(rows, columns, as_json=as_json)
    fail_without_archive(history)


@app.command("show")
def show_delivery(delivery: str, as_json: Json = False) -> None:
    """Show one delivery, with each attempt that was kept."""
    from heliograph.operations.deliveries import DeliveryStatus, delivery_states

    with open_deployment() as deployment:
        history = history_of(deployment)
        found = delivery_states(deployment.bus, [delivery])[delivery]
        if found.state is DeliveryStatus.UNKNOWN:
            archived = (record for _, record in history.archived(VERDICTS))
            found = delivery_states(deployment.bus, [delivery], archived)[delivery]
    if found.state is DeliveryStatus.UNKNOWN:
        fail_without_archive(history)
        raise NotFound(f"delivery {delivery!r}: neither log nor archive knows it")
    show_with_attempts(delivery_row(found), as_json=as_json)


def show_with_attempts(row: dict[str, Any], *, as_json: bool) -> None:
    """Print a delivery whole: for people what there is to say, and a line for each attempt that was kept."""
    if as_json:
        document(row, as_json=True)
        return
    attempts = row.pop("attempts")
    document({name: value for name, value in row.items() if value not in {"", None}}, as_json=False)
    if attempts:
        say()
        show(attempts, ("number", "at", "took", "outcome", "status", "address", "answer"), as_json=False)


def delivery_row(one: DeliveryState) -> dict[str, Any]:
    """A delivery as listings print it."""
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
    """The attempts that were kept: `took` in seconds, `outcome` what failed or `delivered`, `answer` its first bytes."""
    from heliograph.operations.deliveries import kept_attempts

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
        for number, one in kept_attempts(attempts)
    ]


def _about(target: str, subscription: str, event: str) -> About:
    return lambda one: (
        (not target or one.target == target)
        and (not subscription or one.subscription == subscription)
        and (not event or str(one.source) == event)
    )
