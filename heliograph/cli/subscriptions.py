"""`heliograph subscriptions …`: which events go where."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, document, note, open_deployment, say, show
from heliograph.operations.history import open_history
from schemas.errors import InputError, NotFound

if TYPE_CHECKING:
    from heliograph.bus.base import Bus
    from heliograph.operations.history import History
    from schemas.subscription import Subscription

app = typer.Typer(help="Subscriptions: which events go where.", no_args_is_help=True, rich_markup_mode=None)

ROUTERS_SECONDS = 10.0


@app.command()
def apply(
    file: Annotated[str, typer.Argument(help="A TOML file of [[subscription]] tables; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Put the subscriptions of a file into force.

    All of them or none; returns when the live routers use them.
    """
    from heliograph.operations.subscriptions import apply as put_into_force
    from heliograph.operations.subscriptions import doubts, read_file
    from sinks.kinds import KINDS

    try:
        text = _bytes(file).decode()
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not text in UTF-8; a subscription file is TOML") from None
    subscriptions = read_file(text, KINDS)
    for doubt in doubts(subscriptions):
        note(f"warning: {doubt}")
    with open_deployment() as deployment:
        applied = put_into_force(deployment.bus, subscriptions, KINDS)
        rows = [
            {"subscription": name, "state": state, "version": applied.version}
            for state in ("created", "changed", "unchanged")
            for name in getattr(applied, state)
        ]
        show(rows, ("subscription", "state"), as_json=as_json)
        for target in applied.disturbed:
            note(
                f"warning: target {target!r}: what is under way was made for other lanes, and may go out of order"
            )
        _confirm(deployment.bus, applied.version)


@app.command("list")
def list_subscriptions(as_json: Json = False) -> None:
    """List what is in force."""
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
            for one in _in_force(deployment.bus).values()
        ]
    show(rows, ("name", "enabled", "product", "event_types", "levels", "names", "targets"), as_json=as_json)


@app.command("show")
def show_one(name: str, as_json: Json = False) -> None:
    """Show one subscription. Values of headers that are not references are covered."""
    with open_deployment() as deployment:
        document(_shown(_named(deployment.bus, name)), as_json=as_json)


@app.command()
def delete(name: str) -> None:
    """Remove a subscription.

    What it matched already is still delivered, if another keeps the target; the rest becomes dead letters.
    """
    from heliograph.operations.subscriptions import delete as remove

    with open_deployment() as deployment:
        _confirm(deployment.bus, remove(deployment.bus, name))
    say(f"{name} deleted")


@app.command()
def enable(name: str) -> None:
    """Let a subscription match again."""
    _set_enabled(name, enabled=True)


@app.command()
def disable(name: str) -> None:
    """Keep a subscription and let it match nothing."""
    _set_enabled(name, enabled=False)


@app.command()
def test(
    name: str,
    event: Annotated[
        str, typer.Option("--event", help="A file with a notification; by default one is built.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Try every target with one notification.

    It goes past the log, leaves no record, and is shown with what came of it.
    """
    from heliograph.operations.trial import sample, try_targets

    with open_deployment() as deployment:
        subscription = _named(deployment.bus, name)
        value = _bytes(event).strip() if event else sample(deployment.clock.now())
        rows = try_targets(deployment, subscription, value)
        show(rows, ("target", "kind", "outcome", "detail"), as_json=as_json)
    if any(row["outcome"] != "delivered" for row in rows):
        raise typer.Exit(1)


@app.command()
def explain(
    event: Annotated[
        str, typer.Argument(help="An event's id, its position, or - for a notification to read.")
    ],
    as_json: Json = False,
) -> None:
    """Say which subscriptions would take an event.

    For those in force that would not: which clause does not hold.
    """
    from router.match.explain import explain as clauses
    from schemas.notification import check

    with open_deployment() as deployment:
        value = sys.stdin.buffer.read() if event == "-" else _event(open_history(deployment), event)
        routing = check(value.strip())
        rows: list[dict[str, Any]] = []
        for name, subscription in _in_force(deployment.bus).items():
            failed = [clause for clause in clauses(subscription, routing) if not clause.held]
            rows.append(
                {
                    "subscription": name,
                    "matches": not failed,
                    "because": "; ".join(
                        f"{one.name}: wanted {one.wanted}, found {one.found}" for one in failed
                    ),
                }
            )
    show(rows, ("subscription", "matches", "because"), as_json=as_json)


def _set_enabled(name: str, *, enabled: bool) -> None:
    from heliograph.operations.subscriptions import set_enabled

    with open_deployment() as deployment:
        _confirm(deployment.bus, set_enabled(deployment.bus, name, enabled))
    say(f"{name} {'enabled' if enabled else 'disabled'}")


def _confirm(bus: Bus, version: int) -> None:
    from heliograph.operations.subscriptions import await_routers

    confirmed = await_routers(bus, version, ROUTERS_SECONDS)
    missing = len(confirmed.members) - len(confirmed.confirmed)
    if missing:
        note(
            f"warning: {missing} of {len(confirmed.members)} routers have not reported version {version} yet"
        )


def _in_force(bus: Bus) -> dict[str, Subscription]:
    from router.configuration import Configuration

    configuration = Configuration(bus)
    configuration.refresh()
    return dict(configuration.subscriptions)


def _named(bus: Bus, name: str) -> Subscription:
    found = _in_force(bus)
    if name not in found:
        raise NotFound(f"subscription {name!r}: there is none; in force: {', '.join(found) or 'none'}")
    return found[name]


def _shown(subscription: Subscription) -> dict[str, Any]:
    from heliograph.cli.targets import definition

    shown = subscription.model_dump(mode="json", exclude={"target"})
    return {**shown, "target": [definition(target) for target in subscription.target]}


def _event(history: History, event: str) -> bytes:
    from heliograph.cli.events import find

    return find(history, event)[0].value


def _bytes(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
