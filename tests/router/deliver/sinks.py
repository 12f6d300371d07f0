"""Sinks that do as they are told, and what else the tests of delivering share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from heliograph.bus.memory import MemoryBus
from heliograph.store.base import ObjectStore
from router.deliver.deliverer import Deliverer
from schemas.clock import Clock, SystemClock
from schemas.delivery import (
    Delivered,
    Delivery,
    Outcome,
    Reason,
    ReasonCode,
    Retry,
    Verdict,
    delivery_id,
    delivery_record,
    read_delivery,
    read_verdict,
)
from schemas.record import NewRecord, Position, Record, TopicPartition
from schemas.subscription import Subscription
from schemas.topics import DELIVERIES, SUBSCRIPTIONS, TIERS, VERDICTS, retry_topic
from sinks.base import Sink, SinkContext, SinkKind

BROKEN = Retry(Reason(ReasonCode.UNREACHABLE, "nobody there"))


def broken(_: Delivery) -> Outcome:
    """Nobody there."""
    return BROKEN


Answer = Callable[[Delivery], Outcome]


class Settings(BaseModel):
    """Settings of every kind here."""

    model_config = ConfigDict(extra="forbid")

    note: str = ""


class Scripted:
    """Answers as `answer` says and remembers every delivery that it was given."""

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
    """Takes a moment for each call, as everything on a wire does."""

    def __init__(self, answer: Answer = lambda _: Delivered("ok"), seconds: float = 0.02) -> None:
        super().__init__(answer)
        self._seconds = seconds

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        outcomes = await super().deliver(batch)
        await asyncio.sleep(self._seconds)
        return outcomes


class Hanging(Scripted):
    """Answers nothing until it is let go of, from whatever thread."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Callable[[], object]] = []
        self._free = False

    def let_go(self) -> None:
        self._free = True
        for answer in self.answers:
            answer()

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self.seen.extend(batch)
        answer = asyncio.Event()
        self.answers.append(partial(asyncio.get_running_loop().call_soon_threadsafe, answer.set))
        if not self._free:
            await answer.wait()
        return [self.answer(delivery) for delivery in batch]


class Throwing(Scripted):
    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        self.seen.extend(batch)
        raise RuntimeError("a bug")


class Short(Scripted):
    """One outcome too few."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        return (await super().deliver(batch))[1:]


def kinds(batch: int = 1, **sinks: Sink) -> Mapping[str, SinkKind]:
    """A kind for each sink, which is built once and for all."""

    def kind(sink: Sink) -> SinkKind:
        def build(_settings: Any, _sink_context: SinkContext) -> Sink:
            return sink

        return SinkKind(Settings, build, batch)

    return {name: kind(sink) for name, sink in sinks.items()}


def apply(bus: MemoryBus, name: str, *targets: Mapping[str, Any], enabled: bool = True) -> int:
    """Append a subscription; returns the configuration's version from then on."""
    subscription = Subscription.model_validate({"name": name, "enabled": enabled, "target": targets})
    value = subscription.model_dump_json().encode()
    bus.create(SUBSCRIPTIONS)
    return bus.append([NewRecord(SUBSCRIPTIONS, value, name.encode())])[0].offset + 1


def delete(bus: MemoryBus, name: str) -> None:
    bus.append([NewRecord(SUBSCRIPTIONS, b"", name.encode())])


def delivery(number: int, target: str = "ops", subscription: str = "all", configuration: int = 0) -> Delivery:
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


def offer(bus: MemoryBus, deliveries: Sequence[Delivery], partition: int | None = None) -> None:
    """Append deliveries as the router would."""
    records = [delivery_record(one) for one in deliveries]
    bus.append(
        [NewRecord(one.topic, one.value, one.key, one.headers, partition) for one in records]
        if partition is not None
        else records
    )


def sink_context(bus: MemoryBus) -> SinkContext:
    return SinkContext(bus, cast("ObjectStore", None), Path("/nowhere"))


def deliverer(bus: MemoryBus, of: Mapping[str, SinkKind], clock: Clock | None = None) -> Deliverer:
    return Deliverer(bus, sink_context(bus), clock or SystemClock(), of)


def turn(role: Deliverer, until: Callable[[], bool]) -> None:
    """Step until something holds; fails when it does not within a time that no machine needs."""
    end = time.monotonic() + 30
    while not until():
        assert time.monotonic() < end, "never came to be"
        role.step(0.01)


def settled(role: Deliverer) -> None:
    """Step until nothing is under way."""
    role.step(0.0)
    turn(role, lambda: not role.busy())


def records(bus: MemoryBus, topic: str) -> list[Record]:
    partitions = range(bus.topics().get(topic, 0))
    found = [bus.read(TopicPartition(topic, partition), 0, 1_000_000).records for partition in partitions]
    return [record for some in found for record in some]


def verdicts(bus: MemoryBus) -> list[Verdict]:
    return [read_verdict(record.value) for record in records(bus, VERDICTS)]


def waiting(bus: MemoryBus) -> list[Delivery]:
    return [read_delivery(record) for width in TIERS for record in records(bus, retry_topic(width))]


def unfinished(bus: MemoryBus, group: str = "deliverer", topic: str = DELIVERIES) -> int:
    lags = bus.lag(group)
    ends = bus.extents(topic)
    return sum(extent.end - (lags[part].cursor if part in lags else 0) for part, extent in ends.items())
