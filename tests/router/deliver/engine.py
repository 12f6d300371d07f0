"""The engine fixture: deliverers over a bus in memory, with a clock that is set by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from heliograph.bus.memory import MemoryBus
from heliograph.store.base import ObjectStore
from router.deliver.deliverer import Deliverer
from router.deliver.wheel import Wheel
from schemas.clock import ManualClock
from schemas.delivery import Delivery, Verdict, delivery_record, read_delivery, read_verdict
from schemas.record import NewRecord, Record, TopicPartition
from schemas.subscription import Subscription
from schemas.target_state import Condition, TargetStatus, condition_record, lifted_record, read_condition
from schemas.topics import (
    DEAD_LETTERS,
    DELIVERIES,
    PARKED,
    STATE,
    SUBSCRIPTIONS,
    TIERS,
    VERDICTS,
    retry_topic,
)
from sinks.base import Sink, SinkContext, SinkKind
from tests.router.deliver.sinks import kinds


def apply(bus: MemoryBus, name: str, *targets: Mapping[str, Any], enabled: bool = True) -> int:
    """Appends a subscription; returns the version of the configuration with it."""
    subscription = Subscription.model_validate({"name": name, "enabled": enabled, "target": targets})
    value = subscription.model_dump_json().encode()
    bus.create(SUBSCRIPTIONS)
    return bus.append([NewRecord(SUBSCRIPTIONS, value, name.encode())])[0].offset + 1


def records(bus: MemoryBus, topic: str) -> list[Record]:
    """Returns all records of a topic."""
    partitions = range(bus.topics().get(topic, 0))
    found = [bus.read(TopicPartition(topic, partition), 0, 1_000_000).records for partition in partitions]
    return [record for some in found for record in some]


def verdicts(bus: MemoryBus) -> list[Verdict]:
    """Returns all verdicts."""
    return [read_verdict(record.value) for record in records(bus, VERDICTS)]


def uncommitted(bus: MemoryBus, group: str = "deliverer", topic: str = DELIVERIES) -> int:
    """Returns the number of records of a topic that a group has not committed."""
    lags = bus.lag(group)
    ends = bus.extents(topic)
    return sum(extent.end - (lags[part].cursor if part in lags else 0) for part, extent in ends.items())


class Engine:
    """Starts deliverers and a wheel on one bus, and reads what they append. `close` closes all that still run."""

    def __init__(self, bus: MemoryBus, clock: ManualClock) -> None:
        self.bus = bus
        self.clock = clock
        self._running: list[Deliverer | Wheel] = []

    # Input: subscriptions, deliveries and conditions.

    def apply(self, *targets: Mapping[str, Any], name: str = "all", enabled: bool = True) -> int:
        """Appends a subscription; returns the version of the configuration with it."""
        return apply(self.bus, name, *targets, enabled=enabled)

    def delete(self, name: str = "all") -> None:
        """Deletes a subscription."""
        self.bus.append([NewRecord(SUBSCRIPTIONS, b"", name.encode())])

    def offer(self, deliveries: Sequence[Delivery], partition: int | None = None) -> None:
        """Appends deliveries as the router does."""
        made = [delivery_record(one) for one in deliveries]
        if partition is not None:
            made = [NewRecord(one.topic, one.value, one.key, one.headers, partition) for one in made]
        self.bus.append(made)

    def put_condition(self, status: TargetStatus, *, until: int = 0, why: str = "") -> None:
        """Appends a condition of target `ops`."""
        self.bus.create(STATE)
        now = self.clock.now()
        condition = Condition(target="ops", status=status, since=now, until=until, why=why)
        self.bus.append([condition_record(condition)])

    def lift_condition(self, status: TargetStatus) -> None:
        """Lifts a condition of target `ops`."""
        self.bus.append([lifted_record("ops", status)])

    # Roles: start, step and stop them.

    def start(self, batch: int = 1, **sinks: Sink) -> Deliverer:
        """Starts a deliverer with a kind for each sink."""
        return self.start_with(kinds(batch, **sinks))

    def start_with(self, sink_kinds: Mapping[str, SinkKind]) -> Deliverer:
        """Starts a deliverer with these kinds."""
        context = SinkContext(bus=self.bus, objects=cast("ObjectStore", None), logs=Path("/nowhere"))
        role = Deliverer(self.bus, context, self.clock, sink_kinds)
        self._running.append(role)
        return role

    def start_wheel(self) -> Wheel:
        """Starts a wheel."""
        wheel = Wheel(self.bus, self.clock)
        self._running.append(wheel)
        return wheel

    def turn(self, role: Deliverer, until: Callable[[], bool]) -> None:
        """Steps until a condition holds; fails when it does not within half a minute."""
        end = time.monotonic() + 30
        while not until():
            assert time.monotonic() < end, "the condition never held"
            role.step(0.01)

    def settle(self, role: Deliverer) -> None:
        """Steps until the role is not busy."""
        role.step(0.0)
        self.turn(role, lambda: not role.busy())

    def pass_time(self, seconds: float, *roles: Deliverer | Wheel, step: float = 1.0) -> None:
        """Advances the clock step by step; at each, turns the wheels and settles the deliverers."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            for role in roles:
                if isinstance(role, Wheel):
                    role.step(0.0)
                else:
                    self.settle(role)

    def kill_member(self) -> None:
        """Revokes everything from the only deliverer, as when its process dies."""
        (member,) = self.bus.members("deliverer")
        self.bus.kill(member)

    def close(self, *roles: Deliverer | Wheel) -> None:
        """Closes these roles, or all that run."""
        for role in roles or tuple(self._running):
            self._running.remove(role)
            role.close()

    # Output: the records that roles have appended.

    def records(self, topic: str) -> list[Record]:
        """Returns all records of a topic."""
        return records(self.bus, topic)

    def verdicts(self) -> list[Verdict]:
        """Returns all verdicts."""
        return verdicts(self.bus)

    def dead_letters(self) -> list[Record]:
        """Returns all dead letters."""
        return self.records(DEAD_LETTERS)

    def waiting(self) -> list[Delivery]:
        """Returns every delivery that was ever put on the wheel."""
        return [read_delivery(record) for width in TIERS for record in self.records(retry_topic(width))]

    def parked(self) -> set[str]:
        """Returns the ids of the deliveries that are parked."""
        last = {record.key or b"": record.value for record in self.records(PARKED)}
        return {key.decode() for key, value in last.items() if value}

    def conditions(self) -> list[Condition | tuple[str, TargetStatus]]:
        """Returns the conditions that were put on record, and target and status of those that were lifted."""
        return [read_condition(record) for record in self.records(STATE)]

    def statuses(self) -> list[str]:
        """Returns the status of each condition on record, and `lifted` for each that was lifted."""
        return [one.status if isinstance(one, Condition) else "lifted" for one in self.conditions()]

    def uncommitted(self) -> int:
        """Returns the number of records of `deliveries` that the deliverers have not committed."""
        return uncommitted(self.bus)
