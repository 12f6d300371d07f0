"""The sender of a lane."""

from __future__ import annotations

import asyncio

from router.deliver.lane import Lane
from router.deliver.queues import ClaimedDelivery
from router.deliver.sender import Sender
from schemas.clock import SystemClock
from schemas.record import Position
from schemas.subscription import Target
from tests.router.deliver.sinks import Scripted, delivery


def test_a_delivery_that_comes_while_the_last_worker_ends_is_sent() -> None:
    lane = Lane(Target.model_validate({"id": "ops", "kind": "plain", "concurrency": 1}), 0, 1, 0.0)
    sink = Scripted()

    async def enqueue_twice() -> None:
        published = asyncio.Event()
        sender = Sender(lane, lambda: sink, lambda _: published.set(), SystemClock())
        for number in range(2):
            published.clear()
            sender.enqueue([ClaimedDelivery(Position("deliveries", 0, number), delivery(number))])
            async with asyncio.timeout(10):
                await published.wait()
        await sender.close(0.0)

    asyncio.run(enqueue_twice())
    assert sink.seen == [delivery(0), delivery(1)]
