"""What a filter asks of an event, clause by clause: the plain reading that the index must agree with.

Clauses are judged in the order in which they are listed here, and an event is wanted if all hold. Content patterns
are one more clause, judged last because they are the only one that needs the event's content.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from schemas.catalogue import event_type_of
from schemas.notification import Routing
from schemas.subscription import Resources, Subscription


class Clause(msgspec.Struct, frozen=True):
    """One condition of a subscription. `wanted` and `found` are for a person to read."""

    name: str
    held: bool
    wanted: str
    found: str


def explain(subscription: Subscription, routing: Routing) -> list[Clause]:
    """Every clause of the subscription, and whether the event meets it."""
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


def resource_of(arn: str) -> str:
    """The resource's own id, as `schemas.arn.Arn.id`, without checking the ARN: every event needs it."""
    return arn.partition("/")[2]


def _one_of(name: str, wanted: Sequence[str], found: str, held: bool = False) -> Clause:
    return Clause(name, not wanted or held or found in wanted, ", ".join(wanted) or "any", found or "none")


def _resource(resources: Resources, arn: str) -> Clause:
    wanted = (*resources.ids, *resources.arns)
    held = not wanted or arn in resources.arns or resource_of(arn) in resources.ids
    return Clause("resources", held, ", ".join(wanted) or "any", arn)
