"""The timing wheel: its tiers, and the records that it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.memory import MemoryBus
from router.deliver.wheel import LIMIT, Wheel, next_tier, topic_for
from schemas.clock import ManualClock
from schemas.delivery import Wait, delivery_headers, delivery_record, read_delivery
from schemas.record import NewRecord
from schemas.topics import DELIVERIES, TIERS, retry_topic
from tests.router.deliver.engine import records, uncommitted
from tests.router.deliver.sinks import delivery

WIDEST = max(TIERS)


def bound_ms(wait_seconds: float) -> float:
    """Returns the lateness that is allowed: a second, or 5 % of the wait."""
    return max(1000.0, 50 * wait_seconds)


@given(st.integers(-(10**9), 10**10), st.floats(0, 10**7))
def test_the_next_tier_exists_and_is_never_too_wide(remaining_ms: int, wait_seconds: float) -> None:
    width = next_tier(remaining_ms, wait_seconds)
    if remaining_ms <= 0:
        assert width is None
        return
    assert width in TIERS
    assert width * 1000 - remaining_ms <= bound_ms(wait_seconds)
    wider = [other for other in TIERS if width < other and other * 1000 <= remaining_ms]
    assert not wider


@pytest.mark.parametrize(
    ("remaining", "total", "width"),
    [
        (0.001, 0.001, 1),
        (1, 1, 1),
        (1.5, 1.5, 1),
        (3, 3, 4),
        (61, 61, 64),
        (60, 60, 16),
        (60, 600, 64),
        (10**5, 10**5, WIDEST),
    ],
)
def test_known_waits_have_their_expected_next_tier(remaining: float, total: float, width: int) -> None:
    assert next_tier(round(remaining * 1000), total) == width


def appends(wait_ms: int) -> int:
    """Returns the number of appends of a wait: to each tier, and to `deliveries` at its end."""
    remaining, made = wait_ms, 1
    while (width := next_tier(remaining, wait_ms / 1000)) is not None:
        made += 1
        remaining -= min(remaining, width * 1000)
    return made


WEEK = 7 * 86_400
MOST_APPENDS = [(3_600, 8), (86_400, 9), (WEEK, 38)]
"""Pairs of a wait in seconds, and the most appends of any wait up to that."""


def test_the_number_of_appends_of_a_wait_is_bounded() -> None:
    """Checks every second up to a day, and every ten minutes up to a week."""
    seconds = (*range(1, 86_401), *range(86_400, WEEK + 1, 600))
    taken = {wait: appends(wait * 1000) for wait in seconds}
    for longest, most in MOST_APPENDS:
        assert max(made for wait, made in taken.items() if wait <= longest) == most


@given(st.integers(1, WEEK * 1000))
def test_waits_with_fractions_of_a_second_need_no_more_appends(wait_ms: int) -> None:
    assert appends(wait_ms) <= next(most for longest, most in MOST_APPENDS if wait_ms <= longest * 1000)


def test_a_clock_ahead_of_the_bus_does_not_move_records_faster() -> None:
    """By such a clock, a new record already looks as old as its tier is wide."""
    for ahead in (5, 3600):
        wheeled = Wheeled()
        wheeled.wheel.close()
        mine = ManualClock(wheeled.clock.now() + ahead * 1000)
        wheel = Wheel(wheeled.bus, mine)
        wheeled.put(60_000 + ahead * 1000)
        for _ in range(60):
            wheel.step(0.0)
            passes = 0.001 if wheel.busy() else min(wheel.until_ready(), 60)
            for clock in (mine, wheeled.clock):
                clock.advance(passes)
        assert len(records(wheeled.bus, DELIVERIES)) == 1
        assert sum(len(records(wheeled.bus, retry_topic(width))) for width in TIERS) <= appends(60_000)
        wheel.close()


@dataclass
class Wheeled:
    """A bus with a wheel. `due`: waits by the number of the delivery; `back`: deliveries that came back."""

    clock: ManualClock = field(default_factory=ManualClock)
    due: dict[int, Wait] = field(default_factory=dict[int, Wait])
    back: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        self.bus = MemoryBus(self.clock, partitions=2)
        self.bus.create(DELIVERIES)
        self.wheel = Wheel(self.bus, self.clock)
        self.read = 0

    def put(self, wait_ms: int, target: str = "ops") -> None:
        number, now = len(self.due), self.clock.now()
        wait = Wait(now + wait_ms, wait_ms / 1000)
        one = delivery(number, target)
        waiting = delivery_record(one, topic_for(wait, now))
        headers = (*delivery_headers(one), ("wait", b'{"due":%d,"total":%f}' % (wait.due, wait.total)))
        self.due[number] = wait
        self.bus.append([NewRecord(waiting.topic, waiting.value, waiting.key, headers)])

    def turn(self) -> None:
        """Steps until nothing is ready; checks that each delivery came back once, and not too early."""
        self.wheel.step(0.0)
        while self.wheel.busy():
            self.wheel.step(0.0)
        found = sorted(records(self.bus, DELIVERIES), key=lambda record: record.timestamp)
        numbers = [read_delivery(record).source.offset for record in found]
        assert len(numbers) == len(set(numbers))
        for number, record in zip(numbers, found, strict=True):
            if number not in self.back:
                self.back[number] = self.clock.now()
                assert self.clock.now() >= self.due[number].due
                assert record.value == delivery(number).event

    def run(self, seconds: float) -> None:
        """Advances the clock, with a step whenever a head is ready."""
        left = seconds
        while left > 0:
            self.turn()
            passed = min(left, max(self.wheel.until_ready(), 0.001))
            self.clock.advance(passed)
            left -= passed
        self.turn()

    def restart(self) -> None:
        self.wheel.close()
        self.wheel = Wheel(self.bus, self.clock)

    def crash(self) -> None:
        (member,) = self.bus.members("wheel")
        self.bus.kill(member)
        self.wheel = Wheel(self.bus, self.clock)


waits = st.one_of(st.integers(1, 5_000), st.integers(1, 200_000), st.integers(1, 40_000_000))
events = st.one_of(
    st.tuples(st.just("put"), waits),
    st.tuples(st.just("run"), st.integers(1, 10_000)),
    st.tuples(st.sampled_from(["restart", "crash"]), st.just(0)),
)


def play(wheeled: Wheeled, script: list[tuple[str, int]]) -> None:
    for what, amount in script:
        match what:
            case "put":
                wheeled.put(amount)
            case "run":
                wheeled.run(amount / 10)
            case "step":
                wheeled.clock.step(amount)
            case "crash":
                wheeled.crash()
            case _:
                wheeled.restart()
    assert not wheeled.back.keys() - wheeled.due.keys()


@settings(max_examples=60)
@given(st.lists(events, max_size=30))
def test_every_record_comes_back_once_and_in_time(script: list[tuple[str, int]]) -> None:
    wheeled = Wheeled()
    play(wheeled, script)
    wheeled.run(45_000)
    assert wheeled.back.keys() == wheeled.due.keys()
    for number, wait in wheeled.due.items():
        # One millisecond for rounding of the manual clock's floats.
        assert wheeled.back[number] <= wait.due + bound_ms(wait.total) + 1


@settings(max_examples=60)
@given(st.lists(st.one_of(events, st.tuples(st.just("step"), st.integers(-100_000, 100_000))), max_size=25))
def test_no_record_is_early_or_lost_when_the_clock_is_set(script: list[tuple[str, int]]) -> None:
    wheeled = Wheeled()
    play(wheeled, script)
    steps = sum(what == "step" for what, _ in script)
    latest = max((wait.due for wait in wheeled.due.values()), default=0)
    wheeled.run(max(0.0, (latest - wheeled.clock.now()) / 1000) + (steps + 1) * 2 * WIDEST)
    assert wheeled.back.keys() == wheeled.due.keys()


def test_a_head_with_a_wrong_timestamp_blocks_its_tier_for_one_width_at_most() -> None:
    wheeled = Wheeled()
    wheeled.put(16_000)
    wheeled.turn()
    wheeled.clock.step(-86_400)
    wheeled.put(16_000)
    wheeled.run(17)
    assert list(wheeled.back) == [1]
    wheeled.run(86_400)
    assert list(wheeled.back) == [1, 0]


def test_at_most_one_poll_of_a_partition_is_in_memory() -> None:
    wheeled = Wheeled()
    for _ in range(3 * LIMIT):
        wheeled.put(60_000)
    for _ in range(20):
        wheeled.wheel.step(0.0)
    kept = [len(waiting) for waiting in wheeled.wheel._fetched.values()]  # pyright: ignore[reportPrivateUsage]
    assert kept
    assert max(kept) <= LIMIT
    wheeled.run(64)
    assert len(wheeled.back) == 3 * LIMIT


def test_a_record_without_a_readable_wait_goes_back_at_once() -> None:
    wheeled = Wheeled()
    too_deep = b'{"due":1,"total":1,"more":' + b"[" * 100_000
    for headers in ((), (("wait", b"?"),), (("wait", too_deep),)):
        wheeled.bus.append([NewRecord(retry_topic(64), b"x", b"k", headers)])
    wheeled.wheel.step(0.0)
    assert [record.value for record in records(wheeled.bus, DELIVERIES)] == [b"x"] * 3


def test_the_wheel_is_busy_until_every_tier_was_fetched() -> None:
    wheeled = Wheeled()
    assert wheeled.wheel.busy()
    wheeled.put(4_000)
    wheeled.wheel.step(0.0)
    assert wheeled.wheel.busy()
    wheeled.wheel.step(0.0)
    assert not wheeled.wheel.busy()
    wheeled.clock.advance(4)
    assert wheeled.wheel.busy()
    wheeled.turn()
    assert wheeled.wheel.until_ready() == math.inf
    assert uncommitted(wheeled.bus, "wheel", retry_topic(4)) == 0


def test_a_restart_keeps_the_time_that_a_record_has_spent_in_its_tier() -> None:
    wheeled = Wheeled()
    wheeled.put(30_000)
    wheeled.put(16_000)
    wheeled.run(10)
    wheeled.restart()
    wheeled.run(7)
    assert list(wheeled.back) == [1]


def test_a_revoked_tier_is_left_to_its_new_owner() -> None:
    wheeled = Wheeled()
    for number in range(20):
        wheeled.put(4_000, f"target-{number}")
    wheeled.turn()
    another = Wheel(wheeled.bus, wheeled.clock)
    for _ in range(4):
        wheeled.wheel.step(0.0)
        another.step(0.0)
    for _ in range(10):
        wheeled.clock.advance(1)
        another.step(0.0)
        wheeled.turn()
    assert len(wheeled.back) == 20
    another.close()
