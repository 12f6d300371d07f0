"""Sinks with scripted answers, and the deliveries of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.delivery import (
    Delivered,
    Delivery,
    Outcome,
    Reason,
    ReasonCode,
    Retry,
    delivery_id,
)
from schemas.record import Position
from sinks.base import Sink, SinkContext, SinkKind

BROKEN = Retry(Reason(ReasonCode.UNREACHABLE, "nobody there"))


def broken(_: Delivery) -> Outcome:
    """Answers that the receiver is unreachable."""
    return BROKEN


Answer = Callable[[Delivery], Outcome]


class Settings(BaseModel):
    """Settings of every kind in these tests."""

    model_config = ConfigDict(extra="forbid")

    note: str = ""


class Scripted:
    """Answers each delivery with `answer`, and keeps every delivery in `seen`."""

    def __init__(self, answer: Answer = lambda _: Delivered("ok")) -> None:
        self.answer: Answer = answer
        self.seen: list[Delivery] = []
        self.batches: list[int] = []
        self.closed = 0

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self.batches.append(len(batch))
        self.seen.extend(batch)
        return [self.answer(delivery) for delivery in batch]

    async def close(self) -> None:
        self.closed += 1


class Wired(Scripted):
    """Takes some time for each call, as a network does."""

    def __init__(self, answer: Answer = lambda _: Delivered("ok"), seconds: float = 0.02) -> None:
        super().__init__(answer)
        self._seconds = seconds

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        outcomes = await super().deliver(batch)
        await asyncio.sleep(self._seconds)
        return outcomes


class Hanging(Scripted):
    """Returns no outcome before `release`, which any thread may call."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Callable[[], object]] = []
        self._released = False

    def release(self) -> None:
        self._released = True
        for answer in self.answers:
            answer()

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self.seen.extend(batch)
        answer = asyncio.Event()
        self.answers.append(partial(asyncio.get_running_loop().call_soon_threadsafe, answer.set))
        if not self._released:
            await answer.wait()
        return [self.answer(delivery) for delivery in batch]


class Throwing(Scripted):
    """Raises an error for every batch."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self.seen.extend(batch)
        raise RuntimeError("a bug")


class Short(Scripted):
    """Returns one outcome too few."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        return (await super().deliver(batch))[1:]


def kinds(batch: int = 1, **sinks: Sink) -> Mapping[str, SinkKind]:
    """Returns a kind for each sink; it always builds that sink."""

    def kind(sink: Sink) -> SinkKind:
        def build(_settings: Any, _sink_context: SinkContext) -> Sink:
            return sink

        return SinkKind(Settings, build, batch)

    return {name: kind(sink) for name, sink in sinks.items()}


def delivery(number: int, target: str = "ops", subscription: str = "all", configuration: int = 0) -> Delivery:
    """Returns a delivery whose event has this offset."""
    source = Position("events.other", 0, number)
    return Delivery(
        id=delivery_id("log", source, subscription, target),
        source=source,
        subscription=subscription,
        target=target,
        resource=f"i-{number}",
        event=b'{"n":%d}' % number,
        event_time=1_700_000_000_000,
        configuration=configuration,
    )
