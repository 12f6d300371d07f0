"""`heliograph dead-letters list`, `show` and `drop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli import redrive
from heliograph.cli.deliveries import attempt_rows, show_with_attempts
from heliograph.cli.letter_filter import build_filter
from heliograph.cli.options import (
    DeliveryIds,
    ErrorReason,
    EventName,
    Everything,
    ExhaustedLimit,
    ResourceId,
    Since,
    SubscriptionName,
    TargetId,
    Until,
    Yes,
)
from heliograph.cli.output import (
    Json,
    confirm,
    document,
    fail_without_archive,
    moment,
    open_deployment,
    operator,
    progress,
    show,
    text_of,
)
from heliograph.operations.history import open_history

if TYPE_CHECKING:
    from heliograph.operations.dead_letters import DeadLetter

app = typer.Typer(
    help="Dead letters: deliveries that ended undelivered.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
redrive.register(app)

_COLUMNS = (
    "time",
    "state",
    "delivery",
    "target",
    "subscription",
    "tries",
    "exhausted",
    "error",
    "message",
)


@app.command("list")
def list_letters(
    target: TargetId = "",
    subscription: SubscriptionName = "",
    since: Since = "",
    until: Until = "",
    error: ErrorReason = None,
    exhausted: ExhaustedLimit = None,
    name: EventName = "",
    resource: ResourceId = "",
    delivery: DeliveryIds = None,
    include_dropped: Annotated[
        bool, typer.Option("--include-dropped", help="List dropped dead letters too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List dead letters, from topics and archive.

    --since and --until compare the time at which the delivery ended.
    """
    from heliograph.operations import dead_letters

    with open_deployment() as deployment:
        history = open_history(deployment)
        selection = build_filter(
            deployment.clock.now(),
            target=target,
            subscription=subscription,
            since=since,
            until=until,
            error=error,
            exhausted=exhausted,
            name=name,
            resource=resource,
            delivery=delivery,
        )
        letters = dead_letters.list_letters(history, selection, include_dropped=include_dropped)
        show(map(_row, letters), _COLUMNS, as_json=as_json)
    fail_without_archive(history)


@app.command("show")
def show_letter(
    delivery: Annotated[str, typer.Argument(help="Id of the delivery.")], as_json: Json = False
) -> None:
    """Show one dead letter with its event, also if it was dropped."""
    from heliograph.operations.dead_letters import find_letter

    with open_deployment() as deployment:
        history = open_history(deployment)
        letter, state = find_letter(history, delivery)
    show_with_attempts({**_row(letter), "by": state.by, "why": state.why}, as_json=as_json)
    fail_without_archive(history)


@app.command()
def drop(
    target: TargetId = "",
    subscription: SubscriptionName = "",
    since: Since = "",
    until: Until = "",
    error: ErrorReason = None,
    exhausted: ExhaustedLimit = None,
    name: EventName = "",
    resource: ResourceId = "",
    delivery: DeliveryIds = None,
    everything: Everything = False,
    yes: Yes = False,
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="Reason to keep in the verdicts; required.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Drop dead letters for good.

    Each letter gets the verdict `dropped`, with the operator and the reason.
    """
    from heliograph.operations import dead_letters

    with open_deployment() as deployment:
        history = open_history(deployment)
        selection = build_filter(
            deployment.clock.now(),
            target=target,
            subscription=subscription,
            since=since,
            until=until,
            error=error,
            exhausted=exhausted,
            name=name,
            resource=resource,
            delivery=delivery,
        )
        dead_letters.require_filter(selection, everything=everything)
        plan = dead_letters.plan_drop(history, selection, by=operator(), why=why)
        if plan.letters:
            confirm(f"drop {len(plan.letters)} dead letters", yes=yes)
        with progress(len(plan.letters), "dead letters") as advance:
            count = dead_letters.drop(history, plan, deployment.clock, advance=advance)
    document({"dropped": count, "under-way": plan.under_way}, as_json=as_json)
    fail_without_archive(history)


def _row(one: DeadLetter) -> dict[str, Any]:
    delivery = one.delivery
    return {
        "state": one.state,
        "time": moment(one.letter.at),
        "position": str(one.record.position),
        "archived": one.letter.segment is not None,
        "delivery": delivery.id,
        "target": delivery.target,
        "subscription": delivery.subscription,
        "source": str(delivery.source),
        "resource": delivery.resource,
        "tries": delivery.attempts.count,
        "exhausted": one.letter.exhausted,
        "error": one.letter.error,
        "message": one.message,
        "redrive": delivery.redrive,
        "attempts": attempt_rows(delivery.attempts),
        "event": text_of(delivery.event),
    }
