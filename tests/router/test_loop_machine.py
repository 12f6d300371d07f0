"""Routers that join, leave and are killed decide as one router that reads each partition once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from heliograph.bus.memory import MemoryBus, MemoryConsumer
from heliograph.operations.subscriptions import apply
from router.events import Router
from schemas.clock import ManualClock
from schemas.errors import BusUnavailable
from schemas.notification import check
from schemas.record import CHECKED, NewRecord, Position
from schemas.topics import REJECTS
from tests.router.deliver.engine import records, verdicts
from tests.router.events import KINDS, event, subscription
from tests.router.test_loop import deliveries

TOPIC = "events.ecs.instance"
PARTITIONS = 3
MUTED = 60
"""Seconds of `mute_for`."""
WINDOW = 45
"""Window of duplicates in seconds."""


@contextmanager
def torn(bus: MemoryBus) -> Generator[None]:
    """Makes a commit append its records and fail, as a kill between append and commit does."""

    def tear(
        _: MemoryConsumer, _positions: Iterable[Position], append: Sequence[NewRecord] = ()
    ) -> Sequence[Position]:
        bus.append(append)
        raise BusUnavailable("killed between append and commit")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryConsumer, "done", tear)
        yield


class Routers(RuleBasedStateMachine):
    """Up to three routers on three partitions, with events that are duplicates or muted."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock, partitions=PARTITIONS)
        apply(self.bus, [subscription(mute_for=MUTED)], KINDS)
        self.routers: list[Router] = []

    @rule(
        resource=st.integers(0, 1),
        number=st.integers(0, 3),
        partition=st.integers(0, PARTITIONS - 1),
        passes=st.sampled_from([0, 1, 14, 30, 45, 60]),
    )
    def emit(self, resource: int, number: int, partition: int, passes: int) -> None:
        """Appends an event, perhaps with the bytes of an earlier one."""
        self.clock.advance(passes)
        value = event(id=f"E-{number}", resourceId=f"acs:ecs:cn-hangzhou:1690:instance/i-{resource}")
        self.bus.append([NewRecord(TOPIC, value, b"any", ((CHECKED, b"1"),), partition)])

    @precondition(lambda self: len(self.routers) < 3)
    @rule()
    def join(self) -> None:
        """Starts a router."""
        self.routers.append(Router(self.bus, WINDOW))

    @precondition(lambda self: self.routers)
    @rule(which=st.integers(0, 2))
    def step(self, which: int) -> None:
        """Lets one router make a step."""
        self._any(which).step(0)

    @precondition(lambda self: self.routers)
    @rule(which=st.integers(0, 2), midway=st.booleans())
    def kill(self, which: int, midway: bool) -> None:
        """Kills a router, perhaps between append and commit."""
        router = self._any(which)
        if midway:
            with torn(self.bus), suppress(BusUnavailable):
                router.step(0)
        self.bus.kill(router._consumer.member)  # pyright: ignore[reportPrivateUsage]
        self.routers.remove(router)

    @precondition(lambda self: self.routers)
    @rule(which=st.integers(0, 2))
    def leave(self, which: int) -> None:
        """Closes a router."""
        router = self._any(which)
        router.close()
        self.routers.remove(router)

    def teardown(self) -> None:
        """Routes the rest, and compares with the model."""
        self.routers.append(Router(self.bus, WINDOW))
        for _ in range(4):
            for router in self.routers:
                router.step(0)
        out, muted, repeated = self._expected()
        assert {str(one.source) for one in deliveries(self.bus)} == out
        assert {one.source for one in verdicts(self.bus)} == muted
        kept = [dict(record.headers)["where"].decode() for record in records(self.bus, REJECTS)]
        assert {where.removeprefix("router ") for where in kept} == repeated

    def _any(self, which: int) -> Router:
        return self.routers[which % len(self.routers)]

    def _expected(self) -> tuple[set[str], set[str], set[str]]:
        """Returns the positions of delivered, muted and duplicate events, by reading each partition once."""
        out, muted, repeated = set[str](), set[str](), set[str]()
        seen: dict[tuple[int, bytes], int] = {}
        opened: dict[tuple[int, str], int] = {}
        for record in records(self.bus, TOPIC):
            known = (record.partition, record.value)
            kind = (record.partition, check(record.value).resource_id)
            if record.timestamp - seen.get(known, 0) <= WINDOW * 1000:
                repeated.add(str(record.position))
            elif record.timestamp - opened.get(kind, 0) < MUTED * 1000:
                muted.add(str(record.position))
            else:
                out.add(str(record.position))
                opened[kind] = record.timestamp
            seen[known] = record.timestamp
        return out, muted, repeated


def test_a_router_that_regains_a_partition_knows_what_another_routed_there() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock, partitions=2)
    apply(bus, [subscription(mute_for=MUTED)], KINDS)

    def route(router: Router, number: int, passes: int) -> None:
        clock.advance(passes)
        value = event(id=f"E-{number}")
        bus.append([NewRecord(TOPIC, value, None, ((CHECKED, b"1"),), each) for each in range(2)])
        router.step(0)

    one = Router(bus, WINDOW)
    route(one, 0, 0)
    two = Router(bus, WINDOW)
    one.step(0)
    two.step(0)
    route(one, 1, MUTED)
    two.step(0)
    two.close()
    route(one, 1, 1)
    route(one, 2, 1)
    one.close()
    assert sorted(one.source.offset for one in deliveries(bus)) == [0, 0, 1, 1]
    assert sorted(Position.parse(one.source).offset for one in verdicts(bus)) == [3, 3]
    assert len(records(bus, REJECTS)) == 2


TestRouters = Routers.TestCase
TestRouters.settings = settings(max_examples=60, stateful_step_count=40)
