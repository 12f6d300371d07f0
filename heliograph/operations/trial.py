"""Test deliveries: one attempt at a target, without the bus and without a record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from heliograph.app.deployment import Deployment
from heliograph.operations.subscriptions import find_subscription
from heliograph.operations.targets import find_target
from producers.builder import build
from schemas.delivery import Delivery, Outcome, delivery_id
from schemas.notification import check
from schemas.record import Position
from schemas.subscription import Target
from sinks.kinds import find_kind

SOURCE = Position("trial", 0, 0)
"""The source of a test delivery, which has no event."""


class Trial(NamedTuple):
    """The outcome of one test delivery."""

    target: Target
    outcome: Outcome


def build_sample(now: int) -> bytes:
    """Builds a notification about the invented instance `i-heliograph-test`. `now`: milliseconds since the epoch."""
    return build(
        "Instance:StateChange",
        "i-heliograph-test",
        region="cn-hangzhou",
        user="100000000000",
        content={"state": "Running"},
        now_ms=now,
    )


def try_subscription(deployment: Deployment, name: str, value: bytes | None = None) -> list[Trial]:
    """Sends a notification once to each target of a subscription. `value`: the notification; None sends a sample.

    Raises NotFound, InvalidNotification, BusError.
    """
    subscription = find_subscription(deployment.bus, name)
    return _attempt_all(deployment, subscription.name, subscription.target, value)


def try_target(deployment: Deployment, target: str, value: bytes | None = None) -> Trial:
    """Sends a notification once to a target. `value`: the notification; None sends a sample.

    Raises NotFound, InvalidNotification, BusError.
    """
    view = find_target(deployment.bus, target, deployment.clock.now())
    (trial,) = _attempt_all(deployment, view.owners[0], [view.target], value)
    return trial


def _attempt_all(
    deployment: Deployment, subscription: str, targets: Sequence[Target], value: bytes | None
) -> list[Trial]:
    now = deployment.clock.now()
    event = build_sample(now) if value is None else value.strip()
    resource = check(event).resource_id

    async def attempt(target: Target) -> Trial:
        kind = find_kind(target.kind)
        sink = kind.build(kind.read_settings(target.settings), deployment.sink_context)
        delivery = Delivery(
            id=delivery_id(f"trial {now}", SOURCE, subscription, target.id),
            source=SOURCE,
            subscription=subscription,
            target=target.id,
            resource=resource,
            event=event,
            event_time=now,
            configuration=0,
        )
        try:
            (outcome,) = await sink.deliver([delivery])
        finally:
            await sink.close()
        return Trial(target, outcome)

    async def attempt_each() -> list[Trial]:
        return [await attempt(target) for target in targets]

    return asyncio.run(attempt_each())
