from __future__ import annotations

import asyncio

from router.deliver.lane import Lane
from router.deliver.sender import Sender
from router.deliver.waiting import Parcel
from schemas.clock import SystemClock
from schemas.record import Position
from schemas.subscription import Target
from tests.router.deliver.sinks import Scripted, delivery


def test_what_comes_in_the_moment_when_the_last_worker_ends_is_sent() -> None:
    lane = Lane(Target.model_validate({"id": "ops", "kind": "plain", "concurrency": 1}), 0, 1, 0.0)
    sink = Scripted()

    async def take_twice() -> None:
        reported = asyncio.Event()
        sender = Sender(lane, lambda: sink, lambda _: reported.set(), SystemClock())
        for number in range(2):
            reported.clear()
            sender.take([Parcel(Position("deliveries", 0, number), delivery(number))])
            async with asyncio.timeout(10):
                await reported.wait()
        await sender.close(0.0)

    asyncio.run(take_twice())
    assert sink.seen == [delivery(0), delivery(1)]
