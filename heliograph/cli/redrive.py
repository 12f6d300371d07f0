"""`heliograph dead-letters redrive`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

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
    note,
    open_deployment,
    operator,
    progress,
    show,
)
from heliograph.operations.history import open_history
from schemas.errors import HeliographError

if TYPE_CHECKING:
    from heliograph.operations.history import History
    from heliograph.operations.redrive import Redrive, RedrivePlan, RedriveRun

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the numbers of letters by target and result; append nothing.")
]
AsNew = Annotated[bool, typer.Option("--as-new", help="Send each letter under a new delivery id.")]
Rate = Annotated[float | None, typer.Option("--rate", help="Deliveries per second; default 100.", min=0.01)]
OrderName = Annotated[
    str,
    typer.Option(
        "--order", help="Order of sending: oldest or newest-per-resource; default oldest.", show_default=False
    ),
]
Resume = Annotated[str, typer.Option("--resume", metavar="ID", help="Resume the redrive with this id.")]


def register(app: typer.Typer) -> None:
    """Adds the command below `dead-letters`."""
    app.command("redrive")(redrive)


def redrive(
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
    dry_run: DryRun = False,
    as_new: AsNew = False,
    rate: Rate = None,
    order: OrderName = "oldest",
    resume: Resume = "",
    as_json: Json = False,
) -> None:
    """Send dead letters again, under the same delivery ids.

    Letters that were delivered, dropped or redriven meanwhile are not sent. Before it starts, prints the command that
    resumes it.
    """
    from heliograph.operations import dead_letters
    from heliograph.operations import redrive as operation

    with open_deployment() as deployment:
        now, history = deployment.clock.now(), open_history(deployment)
        selection = build_filter(
            now,
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
        request = operation.Redrive(
            id=operation.parse_redrive_id(resume) if resume else operation.new_redrive_id(now),
            selection=selection,
            order=operation.parse_order(order),
            rate=rate or operation.RATE,
            as_new=as_new,
            by=operator(),
        )
        plan = operation.plan_redrive(history, request, allow_missing=dry_run or bool(resume))
        if dry_run:
            _show_counts(plan, as_json=as_json)
            fail_without_archive(history)
        else:
            _confirm(plan, yes=yes)
            _run(operation.RedriveRun(history, plan, deployment.clock), history, as_json=as_json)


def _show_counts(plan: RedrivePlan, *, as_json: bool) -> None:
    rows = (
        {
            "target": count.target,
            "subscription": count.subscription,
            "error": count.error,
            "what": str(count.result),
            "letters": count.letters,
        }
        for count in plan.count_results()
    )
    show(rows, ("target", "subscription", "error", "letters", "what"), as_json=as_json)


def _confirm(plan: RedrivePlan, *, yes: bool) -> None:
    from heliograph.operations.redrive import RedriveResult

    letters, older = plan.find_letters(RedriveResult.SENT), plan.find_letters(RedriveResult.OLDER)
    changes: list[str] = []
    if letters:
        targets = ", ".join(sorted({letter.target for letter in letters}))
        changes.append(
            f"redrive {len(letters)} dead letters to {targets} within about {plan.estimate_seconds()} s"
        )
    if older:
        changes.append(f"drop {len(older)} older states of their resources")
    if changes:
        confirm(" and ".join(changes), yes=yes)


def _run(work: RedriveRun, history: History, *, as_json: bool) -> None:
    """Sends the letters and prints the counts; prints how to resume before it starts and if it ends early."""
    from heliograph.operations.redrive import RedriveResult

    count = len(work.plan.find_letters(RedriveResult.SENT))
    resumed = _resume_command(work.plan.build_resumed())
    if count:
        note(f"redrive {work.plan.redrive.id}; if interrupted, resume with: {resumed}")
    try:
        with progress(count, "dead letters") as advance:
            work.run(advance)
    except (KeyboardInterrupt, HeliographError):
        note(f"ended early, after {work.counts[RedriveResult.SENT]} of {count}; resume with: {resumed}")
        raise
    counts = {str(result): letters for result, letters in work.counts.items() if letters}
    document({"redrive": work.plan.redrive.id, "sent": 0, **counts}, as_json=as_json)
    fail_without_archive(history)
    if work.count_refused():
        raise typer.Exit(1)


def _resume_command(redrive: Redrive) -> str:
    """Formats the command line that resumes a redrive."""
    selection = redrive.selection
    options = {
        "--resume": redrive.id,
        "--target": selection.target,
        "--subscription": selection.subscription,
        "--since": moment(selection.since) if selection.since else "",
        "--until": moment(selection.until) if selection.until else "",
        "--error": selection.error or "",
        "--exhausted": selection.exhausted or "",
        "--name": selection.name,
        "--resource": selection.resource,
        "--order": redrive.order,
        "--rate": f"{redrive.rate:g}",
    }
    words = ["heliograph", "dead-letters", "redrive"]
    words += [word for option, value in options.items() if value for word in (option, str(value))]
    words += [word for one in sorted(selection.deliveries) for word in ("--delivery", one)]
    return shlex.join([*words, *(["--as-new"] if redrive.as_new else []), "--yes"])
