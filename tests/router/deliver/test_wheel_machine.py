"""The contract of the wheel under crashes, pauses and wrong clocks.

Every record comes back once for each wait, unless a crash repeats it; never before it is due by the clock of the
machine that moves it; and late by at most a second or 5 % of its wait. Wheels join, leave and are killed, also between
append and commit; sometimes none runs; the clocks of bus and machines differ and are set. Only the difference of the
clocks, and the time without a wheel, may add to the lateness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from heliograph.bus.memory import MemoryBus, MemoryConsumer
from router.deliver.wheel import Wheel, topic_for
from schemas.clock import ManualClock
from schemas.delivery import Delivery, Wait, delivery_record, read_delivery
from schemas.errors import BusUnavailable
from schemas.record import NewRecord, Position, TopicPartition
from schemas.topics import DELIVERIES, TIERS, retry_topic
from tests.router.deliver.engine import records
from tests.router.deliver.sinks import delivery
from tests.router.deliver.test_wheel import appends

START = 1_700_000_000_000
DAY = 86_400
ROUNDING = 2
"""Milliseconds by which manual clocks may differ, as they count in floats."""

waits = st.one_of(
    st.integers(1, 5_000), st.integers(1, 200_000), st.integers(1, 40_000_000), st.integers(1, 7 * DAY * 1000)
)
seconds = st.one_of(st.integers(1, 30), st.integers(1, 3_000), st.integers(1, 2 * DAY)).map(
    lambda tenths: tenths / 10
)
skews = st.one_of(
    st.integers(-3_000, 3_000), st.integers(-100_000, 100_000), st.integers(-DAY * 1000, DAY * 1000)
)


@dataclass
class Host:
    """A machine that runs a wheel by its own clock."""

    clock: ManualClock
    wheel: Wheel


@dataclass
class Put:
    """A delivery on the wheel. `repeats`: number of crashes that may each have left a second copy; `paused`:
    milliseconds without a running wheel before it came back."""

    wait: Wait
    repeats: int = 0
    paused: float = 0.0
    back: int = 0


@contextmanager
def torn(bus: MemoryBus, appended: list[NewRecord]) -> Generator[None]:
    """Makes a commit append its records and fail, as a kill between append and commit does."""

    def tear(
        _: MemoryConsumer, _positions: Iterable[Position], append: Sequence[NewRecord] = ()
    ) -> Sequence[Position]:
        bus.append(append)
        appended.extend(append)
        raise BusUnavailable("killed between append and commit")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryConsumer, "done", tear)
        yield


def number_of(record: NewRecord) -> int:
    return int(dict(record.headers)["source"].decode().rpartition(":")[2])


class Turning(RuleBasedStateMachine):
    """Wheels that join, leave, crash and pause, while clocks are set and deliveries are deferred."""

    skewed = True

    @initialize(skew=skews)
    def begin(self, skew: int) -> None:
        """Makes a bus with its own clock."""
        self.bus_clock = ManualClock(START + (skew if self.skewed else 0))
        self.clocks = [self.bus_clock]
        self.extremes = {self.bus_clock.now(), START}
        self.passed = 0.0
        self.bus = MemoryBus(self.bus_clock, partitions=2)
        self.bus.create(DELIVERIES)
        self.hosts: list[Host] = []
        self.put: list[Put] = []
        self.read = Counter[int]()

    @rule(wait_ms=waits, skew=skews)
    def wait(self, wait_ms: int, skew: int) -> None:
        """Defers a delivery, by the deliverer's own clock."""
        now = self._clock_of(skew).now()
        self._wait(wait_ms, now)

    @precondition(lambda self: len(self.hosts) < 3)
    @rule(skew=skews)
    def join(self, skew: int) -> None:
        """Starts a wheel."""
        clock = self._clock_of(skew)
        self.clocks.append(clock)
        self.hosts.append(Host(clock, Wheel(self.bus, clock)))

    @precondition(lambda self: self.hosts)
    @rule(which=st.integers(0, 2))
    def leave(self, which: int) -> None:
        """Closes a wheel."""
        self._gone(which).wheel.close()

    @precondition(lambda self: self.hosts)
    @rule(which=st.integers(0, 2), midway=st.booleans())
    def kill(self, which: int, midway: bool) -> None:
        """Kills a wheel, perhaps between append and commit."""
        host = self._gone(which)
        if midway:
            appended: list[NewRecord] = []
            with torn(self.bus, appended), suppress(BusUnavailable):
                host.wheel.step(0.0)
            for record in appended:
                self.put[number_of(record)].repeats += 1
            self._look(host)
        self.bus.kill(host.wheel._consumer.member)  # pyright: ignore[reportPrivateUsage]

    @precondition(lambda self: self.skewed and self.hosts)
    @rule(which=st.integers(0, 3), by=skews)
    def set_clock(self, which: int, by: int) -> None:
        """Sets a clock, perhaps that of the bus."""
        clock = [self.bus_clock, *(host.clock for host in self.hosts)][which % (len(self.hosts) + 1)]
        clock.step(by / 1000)
        self._differs(clock)

    @rule(seconds=seconds)
    def run_for(self, seconds: float) -> None:
        """Advances the time; wheels step whenever a head is ready."""
        left = seconds
        while left > 0:
            self._turn()
            soonest = min((host.wheel.until_ready() for host in self.hosts), default=left)
            passes = min(left, max(soonest, 0.001))
            self._advance(passes, idle=not self.hosts)
            left -= passes
        self._turn()

    @rule(seconds=seconds)
    def pause(self, seconds: float) -> None:
        """Advances the time without a step."""
        self._advance(seconds, idle=True)

    def teardown(self) -> None:
        """Checks that every delivery came back, once, with no more appends than necessary."""
        if not hasattr(self, "hosts"):
            return
        self.join(0)
        latest = max((one.wait.due for one in self.put), default=0)
        while any(clock.now() < latest for clock in self.clocks):
            self.run_for(max(latest - clock.now() for clock in self.clocks) / 1000)
        for _ in range(len(TIERS)):
            self.run_for(2 * max(TIERS))
        tiers = Counter(number_of(record) for width in TIERS for record in self._in(retry_topic(width)))
        for number, one in enumerate(self.put):
            assert 1 <= one.back <= 1 + one.repeats
            if not one.repeats and not one.paused and not self.skewed:
                assert tiers[number] + 1 <= appends(round(one.wait.total * 1000))

    def _wait(self, wait_ms: int, now: int) -> None:
        wait = Wait(now + wait_ms, wait_ms / 1000)
        source = delivery(len(self.put), f"target-{len(self.put) % 5}")
        self.put.append(Put(wait))
        waiting = Delivery(
            id=source.id,
            source=source.source,
            subscription=source.subscription,
            target=source.target,
            resource=source.resource,
            event=source.event,
            event_time=source.event_time,
            configuration=source.configuration,
            wait=wait,
        )
        self.bus.append([delivery_record(waiting, topic_for(wait, now))])

    def _clock_of(self, skew: int) -> ManualClock:
        clock = ManualClock(START + round(self.passed * 1000) + (skew if self.skewed else 0))
        self._differs(clock)
        return clock

    def _differs(self, clock: ManualClock) -> None:
        self.extremes.add(clock.now() - round(self.passed * 1000))

    def _gone(self, which: int) -> Host:
        host = self.hosts.pop(which % len(self.hosts))
        self.clocks.remove(host.clock)
        return host

    def _advance(self, passes: float, *, idle: bool) -> None:
        self.passed += passes
        for clock in self.clocks:
            clock.advance(passes)
        for one in self.put:
            if idle and not one.back:
                one.paused += passes * 1000

    def _turn(self) -> None:
        """Steps all wheels until every tier has an owner and nothing is ready; fails if that never happens."""
        for _ in range(200):
            for host in self.hosts:
                host.wheel.step(0.0)
                self._look(host)
            if self._owned() and not any(host.wheel.busy() for host in self.hosts):
                return
        raise AssertionError("the wheel spins")

    def _owned(self) -> bool:
        """Returns True if every partition is assigned, or no wheel runs. A wheel takes partitions only in a step."""
        owned = [host.wheel._consumer.assigned() for host in self.hosts]  # pyright: ignore[reportPrivateUsage]
        return not owned or len(frozenset[TopicPartition]().union(*owned)) == 2 * len(TIERS)

    def _look(self, host: Host) -> None:
        """Records the deliveries that this host has returned to `deliveries`."""
        now = host.clock.now()
        spread = max(self.extremes) - min(self.extremes)
        for partition, extent in self.bus.extents(DELIVERIES).items():
            for record in self.bus.read(partition, self.read[partition.partition]).records:
                found = read_delivery(record)
                one = self.put[found.source.offset]
                one.back += 1
                assert found.event == delivery(found.source.offset).event
                assert now >= one.wait.due
                late = now - one.wait.due
                allowed = max(1000.0, 50 * one.wait.total) + spread + one.paused + ROUNDING
                assert one.back > 1 or late <= allowed, (late, allowed)
            self.read[partition.partition] = extent.end

    def _in(self, topic: str) -> Iterator[NewRecord]:
        for record in records(self.bus, topic):
            yield NewRecord(record.topic, record.value, record.key, record.headers)


class TurningTogether(Turning):
    """The same wheels with clocks that agree, so that lateness can be checked."""

    skewed = False


PROFILE = settings(
    max_examples=40,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestTurning = Turning.TestCase
TestTurning.settings = PROFILE
TestTurningTogether = TurningTogether.TestCase
TestTurningTogether.settings = PROFILE
