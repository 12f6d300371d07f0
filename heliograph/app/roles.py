"""The roles that `heliograph run` runs, each built from the parts of a deployment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from archiver.write.archiver import Archiver
from heliograph.app.deployment import Deployment
from heliograph.store.probe import probe
from router.deliver.deliverer import Deliverer
from router.deliver.wheel import Wheel
from router.events import Router
from router.executions import ExecutionRouter
from schemas.errors import InputError
from schemas.role import Role
from schemas.topics import EXECUTIONS
from sinks.kinds import ALL_KINDS

Build = Callable[[Deployment], Role]


WRITTEN_BY_OTHERS = ("events.*", EXECUTIONS)
"""Topics in which transactions of other producers on Kafka may leave offsets without records."""


def _router(deployment: Deployment) -> Role:
    return Router(deployment.bus, deployment.config.events.duplicate_window)


def _executions(deployment: Deployment) -> Role:
    return ExecutionRouter(deployment.bus)


def _deliverer(deployment: Deployment) -> Role:
    return Deliverer(deployment.bus, deployment.sink_context, deployment.clock, ALL_KINDS)


def _wheel(deployment: Deployment) -> Role:
    return Wheel(deployment.bus, deployment.clock)


def _archiver(deployment: Deployment) -> Role:
    """Builds the archiver. Raises StoreRefused for a store on which two archivers would replace each other's segments."""
    probe(deployment.archive)
    return Archiver(
        deployment.bus,
        deployment.archive,
        deployment.config.archive.policy,
        deployment.clock,
        holes_legal=WRITTEN_BY_OTHERS if deployment.config.bus_url.startswith("kafka:") else (),
    )


ROLES: dict[str, dict[str, Build]] = {
    "router": {"router": _router, "executions": _executions},
    "deliverer": {"deliverer": _deliverer, "wheel": _wheel},
    "archiver": {"archiver": _archiver},
}
"""The parts of each role of the command line: the deliverer runs with its timing wheel, the router of events with the
router of execution records."""


def roles(deployment: Deployment, names: Sequence[str] = ()) -> dict[str, Callable[[], Role]]:
    """Returns a builder for each part of the named roles, or of all. Raises InputError for an unknown name."""
    unknown = [name for name in names if name not in ROLES]
    if unknown:
        raise InputError(f"role {unknown[0]!r}: known are {', '.join(ROLES)}")
    wanted = names or tuple(ROLES)
    return {part: partial(build, deployment) for name in wanted for part, build in ROLES[name].items()}
