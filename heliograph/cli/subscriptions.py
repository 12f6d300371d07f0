"""`heliograph subscriptions …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, document, moment, note, open_deployment, say, show
from schemas.errors import InputError

if TYPE_CHECKING:
    from heliograph.bus.base import Bus
    from heliograph.operations.subscriptions import Changes
    from schemas.delivery import Outcome
    from schemas.subscription import Subscription

app = typer.Typer(
    help="Subscriptions: filters that send events to targets.", no_args_is_help=True, rich_markup_mode=None
)

ROUTERS_SECONDS = 10.0
"""Time limit in seconds for the routers to use a new version."""

Name = Annotated[str, typer.Argument(help="Name of the subscription.")]


@app.command()
def apply(
    file: Annotated[str, typer.Argument(help="TOML file of [[subscription]] tables; - is stdin.")],
    as_json: Json = False,
) -> None:
    """Put the subscriptions of a file into force.

    Applies all of them or none. Waits up to 10 seconds until the live routers use them.
    """
    from heliograph.operations.subscription_file import find_warnings, read_file
    from heliograph.operations.subscriptions import apply as apply_all
    from sinks.kinds import KINDS

    try:
        text = _read_bytes(file).decode()
    except UnicodeDecodeError:
        raise InputError(f"{file}: not UTF-8 text; expected a TOML file") from None
    subscriptions = read_file(text, KINDS)
    for warning in find_warnings(subscriptions):
        note(f"warning: {warning}")
    with open_deployment() as deployment:
        changes = apply_all(deployment.bus, subscriptions, KINDS)
        show(_change_rows(changes), ("subscription", "state"), as_json=as_json)
        for target in changes.disturbed:
            note(
                f"warning: target {target!r}: deliveries under way were built for other lanes and may arrive out of order"
            )
        _await_routers(deployment.bus, changes.version)


@app.command("list")
def list_subscriptions(as_json: Json = False) -> None:
    """List the subscriptions in force."""
    from heliograph.operations import subscriptions

    with open_deployment() as deployment:
        rows = [
            {
                "name": one.name,
                "enabled": one.enabled,
                "product": one.product or "*",
                "event_types": ",".join(one.event_types) or "*",
                "levels": ",".join(one.levels) or "*",
                "names": ",".join(one.names) or "*",
                "targets": ",".join(f"{target.id}({target.kind})" for target in one.target),
            }
            for one in subscriptions.list_subscriptions(deployment.bus)
        ]
    show(rows, ("name", "enabled", "product", "event_types", "levels", "names", "targets"), as_json=as_json)


@app.command("show")
def show_subscription(name: Name, as_json: Json = False) -> None:
    """Show a subscription.

    Header values that are not references are masked.
    """
    from heliograph.operations.subscriptions import find_subscription

    with open_deployment() as deployment:
        found = find_subscription(deployment.bus, name)
    document(_definition(found), as_json=as_json)


@app.command()
def history(as_json: Json = False) -> None:
    """List the changes of the configuration, with the version of each.

    Lists changes of subscriptions, and of the delivery settings of execution records.
    """
    from heliograph.operations.subscriptions import list_changes

    with open_deployment() as deployment:
        rows = (
            {"version": one.version, "time": moment(one.at), "change": one.kind, "subscription": one.name}
            for one in list_changes(deployment.bus)
        )
        show(rows, ("version", "time", "change", "subscription"), as_json=as_json)


@app.command()
def delete(name: Name) -> None:
    """Delete a subscription.

    Its deliveries under way are sent if another subscription has the target, and become dead letters otherwise.
    """
    from heliograph.operations.subscriptions import delete as delete_one

    with open_deployment() as deployment:
        _await_routers(deployment.bus, delete_one(deployment.bus, name))
    say(f"{name} deleted")


@app.command()
def enable(name: Name) -> None:
    """Enable a subscription: it matches events again."""
    _set_enabled(name, enabled=True)


@app.command()
def disable(name: Name) -> None:
    """Disable a subscription: it matches no events until it is enabled."""
    _set_enabled(name, enabled=False)


@app.command()
def test(
    name: Name,
    event: Annotated[
        str,
        typer.Option("--event", metavar="FILE", help="File with the notification to send; default a sample."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Send one notification once to every target of a subscription.

    Prints the outcomes; does not use the bus and leaves no record. Exit status 1 unless all targets accept the
    notification.
    """
    from heliograph.operations.trial import try_subscription

    with open_deployment() as deployment:
        trials = try_subscription(deployment, name, _read_bytes(event) if event else None)
    rows = [
        {"target": one.target.id, "kind": one.target.kind, **_outcome_fields(one.outcome)} for one in trials
    ]
    show(rows, ("target", "kind", "outcome", "detail"), as_json=as_json)
    if any(row["outcome"] != "delivered" for row in rows):
        raise typer.Exit(1)


@app.command()
def explain(
    event: Annotated[
        str, typer.Argument(help="The event's id or position; - reads a notification from stdin.")
    ],
    as_json: Json = False,
) -> None:
    """Show which subscriptions would match an event.

    Uses the subscriptions in force now. For each subscription that does not match, prints the clauses that do not hold.
    """
    from heliograph.operations.events import find_events
    from heliograph.operations.history import open_history
    from heliograph.operations.subscriptions import explain_match
    from heliograph.operations.why import describe_clause

    with open_deployment() as deployment:
        if event == "-":
            value = sys.stdin.buffer.read()
        else:
            value = find_events(open_history(deployment), event)[0].value
        rows = [
            {
                "subscription": answer.subscription,
                "matches": not answer.failed,
                "because": "; ".join(map(describe_clause, answer.failed)),
            }
            for answer in explain_match(deployment.bus, value)
        ]
    show(rows, ("subscription", "matches", "because"), as_json=as_json)


def _set_enabled(name: str, *, enabled: bool) -> None:
    from heliograph.operations.subscriptions import set_enabled

    with open_deployment() as deployment:
        _await_routers(deployment.bus, set_enabled(deployment.bus, name, enabled))
    say(f"{name} {'enabled' if enabled else 'disabled'}")


def _await_routers(bus: Bus, version: int) -> None:
    from heliograph.operations.subscriptions import await_routers

    confirmed = await_routers(bus, version, ROUTERS_SECONDS)
    if confirmed.missing:
        counted = f"{len(confirmed.missing)} of {len(confirmed.members)}"
        note(f"warning: {counted} routers do not use version {version} yet")


def _change_rows(changes: Changes) -> list[dict[str, Any]]:
    states = {"created": changes.created, "changed": changes.changed, "unchanged": changes.unchanged}
    return [
        {"subscription": name, "state": state, "version": changes.version}
        for state, names in states.items()
        for name in names
    ]


def _definition(subscription: Subscription) -> dict[str, Any]:
    from heliograph.operations.targets import mask_secrets

    shown = subscription.model_dump(mode="json", exclude={"target"})
    return {**shown, "target": [mask_secrets(target) for target in subscription.target]}


def _outcome_fields(outcome: Outcome) -> dict[str, str]:
    from schemas.delivery import Delivered, Retry

    if isinstance(outcome, Delivered):
        return {"outcome": "delivered", "detail": outcome.receipt}
    detail = f"{outcome.reason.code}: {outcome.reason.detail}"
    return {"outcome": "would be retried" if isinstance(outcome, Retry) else "rejected", "detail": detail}


def _read_bytes(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
