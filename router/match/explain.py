"""The clauses of a subscription's filter, checked one by one: the plain form that the index must agree with.

An event matches if all clauses hold. Content patterns will be the last clause, as only they need the event's content.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from schemas.catalogue import event_type_of
from schemas.notification import Routing
from schemas.subscription import Resources, Subscription


class Clause(msgspec.Struct, frozen=True):
    """One clause of a filter. `wanted`, `found`: the values as text for display."""

    name: str
    held: bool
    wanted: str
    found: str


def explain(subscription: Subscription, routing: Routing) -> list[Clause]:
    """Returns every clause of the subscription, and whether the event meets it."""
    event_type = event_type_of(routing.name)
    product = subscription.product
    resources = subscription.resources
    return [
        Clause("enabled", subscription.enabled, "true", str(subscription.enabled).lower()),
        Clause(
            "product",
            product is None or product.upper() == routing.product.upper(),
            product or "any",
            routing.product,
        ),
        _one_of("event_types", tuple(subscription.event_types), event_type, "*" in subscription.event_types),
        _one_of("levels", tuple(subscription.levels), routing.level),
        _one_of(
            "names",
            subscription.names,
            routing.name,
            any(fnmatchcase(routing.name, pattern) for pattern in subscription.names),
        ),
        _one_of("resources.regions", resources.regions, routing.region_id),
        _resource(resources, routing.resource_id),
    ]


def resource_id(arn: str) -> str:
    """Returns the resource's own id, as `schemas.arn.Arn.id`, without a check of the ARN: it runs for every event."""
    return arn.partition("/")[2]


def _one_of(name: str, wanted: Sequence[str], found: str, held: bool = False) -> Clause:
    return Clause(name, not wanted or held or found in wanted, ", ".join(wanted) or "any", found or "none")


def _resource(resources: Resources, arn: str) -> Clause:
    wanted = (*resources.ids, *resources.arns)
    held = not wanted or arn in resources.arns or resource_id(arn) in resources.ids
    return Clause("resources", held, ", ".join(wanted) or "any", arn)
