"""A target that hangs, is slow, or only seems so, and what the others notice of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from heliograph.bus.memory import MemoryBus, MemoryConsumer
from router.deliver import lanes as lanes_module
from router.deliver.lane import SMALLEST_LIMIT
from router.deliver.wheel import Wheel
from schemas.clock import ManualClock
from schemas.delivery import (
    Delivered,
    Delivery,
    Outcome,
    VerdictState,
)
from schemas.record import Position
from tests.router.deliver.sinks import (
    Hanging,
    Scripted,
    apply,
    broken,
    deliverer,
    delivery,
    kinds,
    offer,
    settled,
    turn,
    unfinished,
    verdicts,
    waiting,
)


def test_a_hanging_target_does_not_hold_up_another(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {"id": "dead", "kind": "dead"}, {"id": "well", "kind": "well"})
    dead, well = Hanging(), Scripted()
    role = deliverer(bus, kinds(dead=dead, well=well), clock)
    offer(bus, [delivery(number, "dead") for number in range(SMALLEST_LIMIT + 50)], 0)
    offer(bus, [delivery(number, "well") for number in range(500)], 0)
    turn(role, lambda: len(well.seen) == 500)
    offer(bus, [delivery(number, "well") for number in range(500, 600)], 0)
    for _ in range(5):
        role.step(0.0)
    assert len(well.seen) == 500, "the partition is held while the lane may move"
    assert not waiting(bus)
    clock.advance(1)
    turn(role, lambda: len(well.seen) == 600)
    put_off = waiting(bus)
    assert len(put_off) == 50
    assert all(one.wait and one.wait.deferrals == 1 and 0.5 <= one.wait.total <= 1 for one in put_off)
    assert {one.attempts.count for one in put_off} == {0}
    # From now on not even for a second.
    offer(bus, [delivery(1000, "dead"), delivery(1000, "well")], 0)
    turn(role, lambda: len(well.seen) == 601)
    turn(role, lambda: len(waiting(bus)) == 51)
    dead.let_go()
    settled(role)
    assert len(dead.seen) == SMALLEST_LIMIT
    assert unfinished(bus) == 0
    role.close()


def test_many_hanging_targets_share_what_may_be_in_flight(
    bus: MemoryBus, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone may hold 64 MiB; hundreds of them together may not hold as many times that."""
    monkeypatch.setattr(lanes_module, "ALL_BYTES_LIMIT", 400)
    monkeypatch.setattr(lanes_module, "SMALLEST_BYTES", 1)
    names = [f"dead-{number}" for number in range(10)]
    apply(bus, "all", *({"id": name, "kind": "dead"} for name in names))
    dead = Hanging()
    role = deliverer(bus, kinds(dead=dead), clock)
    offered = [delivery(number, name) for name in names for number in range(20)]
    offer(bus, offered)
    role.step(0.0)
    clock.advance(1)
    turn(role, lambda: len(waiting(bus)) > 100)
    kept = sum(len(one.event) for one in offered) - sum(len(one.event) for one in waiting(bus))
    assert kept <= 400 + len(names) * len(offered[-1].event)
    dead.let_go()
    settled(role)
    assert unfinished(bus) == 0
    role.close()


def test_deferrals_double_and_use_up_no_try(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {"id": "dead", "kind": "dead", "retry": {"tries": 1}})
    dead = Hanging()
    role, wheel = deliverer(bus, kinds(dead=dead), clock), Wheel(bus, clock)
    offer(bus, [delivery(number, "dead") for number in range(SMALLEST_LIMIT + 1)], 0)
    turn(role, lambda: len(dead.seen) == 8)
    seen: list[tuple[int, float]] = []
    for _ in range(120):
        clock.advance(0.25)
        wheel.step(0.0)
        turn(role, lambda: role._lanes.answers_read_at() == clock.monotonic())  # pyright: ignore[reportPrivateUsage]
        role.step(0.0)
        seen += [(one.wait.deferrals, one.wait.total) for one in waiting(bus) if one.wait]
    totals = dict(seen)
    assert list(totals) in ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])
    assert all(2**number / 4 <= total <= 2**number / 2 for number, total in totals.items())
    dead.let_go()
    settled(role)
    for _ in range(200):
        clock.advance(0.25)
        wheel.step(0.0)
        settled(role)
    assert len(verdicts(bus)) == SMALLEST_LIMIT + 1
    assert {verdict.state for verdict in verdicts(bus)} == {VerdictState.DELIVERED}
    wheel.close()
    role.close()


def test_timeouts_at_any_pace_are_no_movement(bus: MemoryBus, clock: ManualClock) -> None:
    """A dead receiver's attempts end now and then: that must not hold a partition again and again."""
    apply(bus, "all", {"id": "dead", "kind": "dead", "retry": {"first": 1000, "jitter": "none"}})
    dead = Hanging()
    dead.answer = broken
    role = deliverer(bus, kinds(dead=dead), clock)
    offer(bus, [delivery(number, "dead") for number in range(SMALLEST_LIMIT + 20)], 0)
    turn(role, lambda: len(dead.seen) == 8)
    clock.advance(0.5)
    dead.answers.pop(0)()
    turn(role, lambda: any(one.attempts.count for one in waiting(bus)))
    clock.advance(0.5)
    turn(role, lambda: sum(one.attempts.count == 0 for one in waiting(bus)) == 19)
    dead.let_go()
    settled(role)
    role.close()


def test_a_lane_that_is_full_but_moves_holds_its_partition(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {"id": "slow", "kind": "slow", "concurrency": 1})
    slow = Hanging()
    role = deliverer(bus, kinds(slow=slow), clock)
    total = 3 * SMALLEST_LIMIT
    offer(bus, [delivery(number, "slow") for number in range(total)], 0)
    for done in range(1, total):
        turn(role, lambda wanted=done: len(slow.seen) == wanted)  # type: ignore[misc]
        clock.advance(0.9)
        slow.answers.pop(0)()
    slow.let_go()
    settled(role)
    assert [one.source.offset for one in slow.seen] == list(range(total)), "and in order"
    assert not waiting(bus)
    role.close()


def test_a_slow_log_does_not_make_a_target_look_dead(
    bus: MemoryBus, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the target answered during a commit counts before its lane is judged."""
    apply(bus, "all", {"id": "slow", "kind": "slow", "concurrency": 1})
    slow = Hanging()
    role = deliverer(bus, kinds(slow=slow), clock)
    offer(bus, [delivery(number, "slow") for number in range(SMALLEST_LIMIT + 50)], 0)
    turn(role, lambda: bool(slow.answers))
    commit = MemoryConsumer.done

    def slowly(consumer: MemoryConsumer, *what: Any) -> Sequence[Position]:
        clock.advance(2)
        answer_one()
        return commit(consumer, *what)

    def answer_one() -> None:
        seen = len(slow.seen)
        slow.answers.pop(0)()
        while len(slow.answers) == 0 or len(slow.seen) == seen:
            time.sleep(0.001)

    answer_one()
    with monkeypatch.context() as patched:
        patched.setattr(MemoryConsumer, "done", slowly)
        turn(role, lambda: len(slow.seen) > 5)
    slow.let_go()
    settled(role)
    assert not waiting(bus)
    role.close()


def test_a_loop_that_is_held_up_does_not_make_targets_look_dead(bus: MemoryBus, clock: ManualClock) -> None:
    """What one sink does to the loop is not held against the others' targets."""
    apply(bus, "all", {"id": "slow", "kind": "slow"}, {"id": "well", "kind": "well"})
    held_up, go_on = threading.Event(), threading.Event()

    def hold_up(_: Delivery) -> Outcome:
        held_up.set()
        go_on.wait(30)
        return Delivered()

    role = deliverer(bus, kinds(slow=Scripted(hold_up), well=Scripted()), clock)
    offer(bus, [delivery(0, "slow")], 0)
    turn(role, held_up.is_set)
    offer(bus, [delivery(number, "well") for number in range(SMALLEST_LIMIT + 50)], 0)
    for _ in range(5):
        clock.advance(1)
        role.step(0.0)
    assert not waiting(bus)
    go_on.set()
    settled(role)
    assert not waiting(bus)
    role.close()
