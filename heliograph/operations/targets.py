"""Targets: lists, finds, suspends and resumes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from heliograph.bus.base import Bus
from router.configuration import Configuration
from router.deliver.target_states import TargetStates
from schemas.errors import NotFound
from schemas.problems import suggestion
from schemas.secrets import Secret
from schemas.subscription import Target
from schemas.target_state import Condition, TargetStatus, condition_record, lifted_record


class TargetView(NamedTuple):
    """A target and its state.

    `condition`: the gravest condition that holds it back; None if it is active. `owners`: the subscriptions and
    delivery settings that share it.
    """

    target: Target
    condition: Condition | None
    owners: Sequence[str]

    @property
    def status(self) -> TargetStatus:
        """The status of the condition, or `ACTIVE`."""
        return self.condition.status if self.condition else TargetStatus.ACTIVE


def list_targets(bus: Bus, now: int) -> list[TargetView]:
    """Lists all targets by id. `now`: milliseconds since the epoch. Raises BusError."""
    configuration, states = _read(bus)
    return [
        _view(target, configuration, states, now)
        for _, target in sorted(configuration.read_targets().items())
    ]


def find_target(bus: Bus, target: str, now: int) -> TargetView:
    """Finds a target by its id. `now`: milliseconds since the epoch. Raises NotFound, BusError."""
    configuration, states = _read(bus)
    return _view(_require(configuration, target), configuration, states, now)


def suspend_target(bus: Bus, target: str, *, now: int, by: str, why: str) -> None:
    """Suspends a target until it is resumed: its deliveries become dead letters.

    `now`: milliseconds since the epoch. `by` (`user@host`) and `why` are kept in the condition. Raises NotFound,
    BusError.
    """
    configuration, _ = _read(bus)
    _require(configuration, target)
    bus.append(
        [condition_record(Condition(target=target, status=TargetStatus.SUSPENDED, since=now, why=why, by=by))]
    )


def resume_target(bus: Bus, target: str) -> list[TargetStatus]:
    """Lifts all conditions of a target; returns those that it had. Raises NotFound, BusError."""
    configuration, states = _read(bus)
    _require(configuration, target)
    lifted = [status for status in TargetStatus if states.find(target, status) is not None]
    if lifted:
        bus.append([lifted_record(target, status) for status in lifted])
    return lifted


def mask_secrets(target: Target) -> dict[str, Any]:
    """Returns a target's definition as JSON values; masks header values that are not references."""
    definition = target.model_dump(mode="json")
    if isinstance(definition.get("headers"), dict):
        definition["headers"] = {
            name: str(Secret(str(value))) for name, value in definition["headers"].items()
        }
    return definition


def _read(bus: Bus) -> tuple[Configuration, TargetStates]:
    configuration, states = Configuration(bus), TargetStates(bus)
    configuration.refresh()
    states.refresh()
    return configuration, states


def _require(configuration: Configuration, target: str) -> Target:
    known = configuration.read_targets()
    if target not in known:
        remedy = suggestion(target, tuple(known)) or "; `heliograph targets list` lists the ids"
        raise NotFound(f"no target with the id {target!r}{remedy}")
    return known[target]


def _view(target: Target, configuration: Configuration, states: TargetStates, now: int) -> TargetView:
    subscriptions = configuration.subscriptions.values()
    owners = [one.name for one in subscriptions if target in one.target]
    owners += [one.name for one in configuration.read_settings().values() if target in one.targets]
    return TargetView(target, states.gravest(target.id, now), owners)
