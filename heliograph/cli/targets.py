"""`heliograph targets …`: how every destination stands, and an operator's hand on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.output import Json, document, moment, note, open_deployment, operator, say, show
from schemas.errors import NotFound
from schemas.problems import suggestion

if TYPE_CHECKING:
    from heliograph.bus.base import Bus
    from router.configuration import Configuration
    from router.deliver.target_states import TargetStates
    from schemas.subscription import Target

app = typer.Typer(help="Targets: how each destination stands.", rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="TARGET")]


@app.callback(invoke_without_command=True)
def every(context: typer.Context) -> None:
    """Targets: how each destination stands.

    Without a command, all of them.
    """
    if context.invoked_subcommand is None:
        list_targets()


@app.command("list")
def list_targets(as_json: Json = False) -> None:
    """List targets: how each stands, since when and why."""
    with open_deployment() as deployment:
        configuration, states = _read(deployment.bus)
        now = deployment.clock.now()
        rows = (
            _row(target, configuration, states, now)
            for _, target in sorted(configuration.read_targets().items())
        )
        show(rows, ("target", "kind", "state", "since", "until", "why", "by"), as_json=as_json)


@app.command("show")
def show_target(target: Id, as_json: Json = False) -> None:
    """Show a target: how it stands, its settings, who shares it.

    Values of headers that are not references are covered.
    """
    with open_deployment() as deployment:
        configuration, states = _read(deployment.bus)
        found = _named(configuration, target)
        row = _row(found, configuration, states, deployment.clock.now())
        document({**row, "definition": definition(found)}, as_json=as_json)


@app.command()
def suspend(target: Id, why: Annotated[str, typer.Option("--why", help="For whoever looks later.")]) -> None:
    """Send a target nothing more until it is resumed.

    Its deliveries become dead letters, which `dead-letters redrive` brings back.
    """
    from schemas.target_state import Condition, TargetStatus, condition_record

    with open_deployment() as deployment:
        configuration, _ = _read(deployment.bus)
        _named(configuration, target)
        now = deployment.clock.now()
        condition = Condition(target=target, status=TargetStatus.SUSPENDED, since=now, why=why, by=operator())
        deployment.bus.append([condition_record(condition)])
    say(f"{target} is suspended; every deliverer heeds it within a second")


@app.command()
def resume(target: Id) -> None:
    """Lift whatever holds a target back."""
    from schemas.target_state import TargetStatus, lifted_record

    with open_deployment() as deployment:
        configuration, states = _read(deployment.bus)
        _named(configuration, target)
        held = [status for status in TargetStatus if states.find(target, status) is not None]
        if held:
            deployment.bus.append([lifted_record(target, status) for status in held])
    if not held:
        say(f"{target} is active; nothing to lift")
        return
    say(f"{target} is active again; lifted: {', '.join(held)}")
    if TargetStatus.SUSPENDED in held:
        note(f"what ended meanwhile: heliograph dead-letters list --target {target}")


def definition(target: Target) -> dict[str, Any]:
    """A target as it is stored, but for values of headers that are written out: those are covered."""
    from schemas.secrets import Secret

    shown = target.model_dump(mode="json")
    if isinstance(shown.get("headers"), dict):
        shown["headers"] = {name: str(Secret(str(value))) for name, value in shown["headers"].items()}
    return shown


def _read(bus: Bus) -> tuple[Configuration, TargetStates]:
    from router.configuration import Configuration
    from router.deliver.target_states import TargetStates

    configuration, states = Configuration(bus), TargetStates(bus)
    configuration.refresh()
    states.refresh()
    return configuration, states


def _named(configuration: Configuration, target: str) -> Target:
    found = configuration.read_targets().get(target)
    if found is None:
        raise NotFound(
            f"target {target!r}: there is none{suggestion(target, tuple(configuration.read_targets()))}"
        )
    return found


def _row(target: Target, configuration: Configuration, states: TargetStates, now: int) -> dict[str, Any]:
    from schemas.target_state import TargetStatus

    condition = states.gravest(target.id, now)
    owners = [one.name for one in configuration.subscriptions.values() if target in one.target]
    owners += [one.name for one in configuration.read_settings().values() if target in one.targets]
    return {
        "target": target.id,
        "kind": target.kind,
        "state": condition.status if condition else TargetStatus.ACTIVE,
        "since": moment(condition.since) if condition else "",
        "until": moment(condition.until) if condition and condition.until else "",
        "why": condition.why if condition else "",
        "by": condition.by if condition else "",
        "subscriptions": owners,
    }
