"""`heliograph targets …`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, document, moment, note, open_deployment, operator, say, show
from schemas.target_state import TargetStatus

if TYPE_CHECKING:
    from heliograph.operations.targets import TargetView

app = typer.Typer(help="Targets: the destinations of deliveries.", rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="TARGET", help="Id of the target.")]

_COLUMNS = ("target", "kind", "state", "since", "until", "why", "by")


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Targets: the destinations of deliveries.

    Without a command, lists all targets.
    """
    if context.invoked_subcommand is None:
        list_targets()


@app.command("list")
def list_targets(as_json: Json = False) -> None:
    """List targets with their states."""
    from heliograph.operations import targets

    with open_deployment() as deployment:
        found = targets.list_targets(deployment.bus, deployment.clock.now())
        show(map(_row, found), _COLUMNS, as_json=as_json)


@app.command("show")
def show_target(target: Id, as_json: Json = False) -> None:
    """Show a target with state and settings.

    Shows also the subscriptions that share it. Header values that are not references are masked.
    """
    from heliograph.operations.targets import find_target, mask_secrets

    with open_deployment() as deployment:
        found = find_target(deployment.bus, target, deployment.clock.now())
    document({**_row(found), "definition": mask_secrets(found.target)}, as_json=as_json)


@app.command()
def suspend(
    target: Id,
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="Reason to show with the target; required.")
    ],
) -> None:
    """Suspend a target until it is resumed.

    Its deliveries become dead letters, which `dead-letters redrive` sends again.
    """
    from heliograph.operations.targets import suspend_target

    with open_deployment() as deployment:
        suspend_target(deployment.bus, target, now=deployment.clock.now(), by=operator(), why=why)
    say(f"{target} is suspended; deliverers stop sending within a second")


@app.command()
def resume(target: Id) -> None:
    """Resume a target.

    Lifts its suspension, its throttling and its open breaker.
    """
    from heliograph.operations.targets import resume_target

    with open_deployment() as deployment:
        lifted = resume_target(deployment.bus, target)
    if not lifted:
        say(f"{target} is active; nothing to lift")
        return
    say(f"{target} is active again; lifted: {', '.join(lifted)}")
    if TargetStatus.SUSPENDED in lifted:
        note(f"list its dead letters with `heliograph dead-letters list --target {target}`")


def _row(view: TargetView) -> dict[str, Any]:
    condition = view.condition
    return {
        "target": view.target.id,
        "kind": view.target.kind,
        "state": view.status,
        "since": moment(condition.since) if condition else "",
        "until": moment(condition.until) if condition and condition.until else "",
        "why": condition.why if condition else "",
        "by": condition.by if condition else "",
        "subscriptions": view.owners,
    }
