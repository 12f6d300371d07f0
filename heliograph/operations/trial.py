"""Trying a subscription's targets with one notification, past the log: what `subscriptions test` shows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from heliograph.app.deployment import Deployment
from producers.builder import build
from schemas.delivery import Delivered, Delivery, Outcome, Rejected, Retry, delivery_id
from schemas.notification import check
from schemas.record import Position
from schemas.subscription import Subscription, Target
from sinks.kinds import find_kind

NOWHERE = Position("trial", 0, 0)


def sample(now: int) -> bytes:
    """A notification that nobody takes for a real one."""
    return build(
        "Instance:StateChange",
        "i-heliograph-test",
        region="cn-hangzhou",
        user="100000000000",
        content={"state": "Running"},
        now_ms=now,
    )


def try_targets(deployment: Deployment, subscription: Subscription, value: bytes) -> list[dict[str, str]]:
    """One attempt at each target; a row each. Raises InvalidNotification."""
    resource = check(value).resource_id
    now = deployment.clock.now()

    async def attempt(target: Target) -> Outcome:
        kind = find_kind(target.kind)
        sink = kind.build(kind.read_settings(target.settings), deployment.sink_context)
        one = delivery_id(f"trial {now}", NOWHERE, subscription.name, target.id)
        delivery = Delivery(
            id=one,
            source=NOWHERE,
            subscription=subscription.name,
            target=target.id,
            resource=resource,
            event=value,
            event_time=now,
            configuration=0,
        )
        try:
            return (await sink.deliver([delivery]))[0]
        finally:
            await sink.close()

    async def attempt_all() -> Sequence[Outcome]:
        return [await attempt(target) for target in subscription.target]

    outcomes = asyncio.run(attempt_all())
    return [
        {"target": target.id, "kind": target.kind, **_described(outcome)}
        for target, outcome in zip(subscription.target, outcomes, strict=True)
    ]


def _described(outcome: Outcome) -> dict[str, str]:
    match outcome:
        case Delivered(receipt=receipt):
            return {"outcome": "delivered", "detail": receipt}
        case Retry(reason=reason):
            return {"outcome": "would be retried", "detail": f"{reason.code}: {reason.detail}"}
        case Rejected(reason=reason):
            return {"outcome": "rejected", "detail": f"{reason.code}: {reason.detail}"}
