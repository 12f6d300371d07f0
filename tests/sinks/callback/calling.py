"""Helpers for tests of callbacks: the sink as the deliverer builds it, calling a receiver on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heliograph.bus.memory import MemoryBus
from heliograph.store.memory import MemoryStore
from schemas.clock import Clock
from schemas.delivery import Delivery, Outcome
from sinks.base import Sink, SinkContext
from sinks.callback.settings import CallbackSettings
from sinks.callback.sink import KIND, CallbackSink
from sinks.http.client import GuardedClient
from sinks.http.url import find_origin, parse_url
from tests.sinks.receiver import LOOPBACK, Receiver, Reply, delivery, receiving

CONTEXT = SinkContext(bus=MemoryBus(), objects=MemoryStore(), logs=Path(), allow_networks=LOOPBACK)


def sink_of(url: str, clock: Clock | None = None, **settings: Any) -> Sink:
    checked = CallbackSettings.model_validate({"url": url, "timeout": 30, **settings})
    if clock is None:
        return KIND.build(checked, CONTEXT)
    client = GuardedClient(find_origin(parse_url(url)), LOOPBACK, timeout=checked.timeout)
    return CallbackSink(checked, client, clock)


async def call(url: str, batch: Sequence[Delivery], **settings: Any) -> Sequence[Outcome]:
    sink = sink_of(url, **settings)
    try:
        return await sink.deliver(batch)
    finally:
        await sink.close()


def call_replying(
    reply: Reply, batch: Sequence[Delivery] = (delivery(),), **settings: Any
) -> tuple[Sequence[Outcome], Receiver]:
    async def work() -> tuple[Sequence[Outcome], Receiver]:
        async with receiving(reply) as receiver:
            return await call(receiver.url, batch, **settings), receiver

    return asyncio.run(work())


def deliveries(count: int) -> list[Delivery]:
    return [delivery(number) for number in range(1, count + 1)]
