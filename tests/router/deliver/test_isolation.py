"""Isolation of targets: those that hang or are slow do not affect the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from heliograph.bus.memory import MemoryConsumer
from router.deliver import lanes as lanes_module
from router.deliver.lane import SMALLEST_LIMIT
from schemas.delivery import (
    Delivered,
    Delivery,
    Outcome,
    VerdictState,
)
from schemas.record import Position
from tests.router.deliver.engine import Engine
from tests.router.deliver.sinks import Hanging, Scripted, broken, delivery


def test_a_hanging_target_does_not_block_another(engine: Engine) -> None:
    engine.apply({"id": "dead", "kind": "dead"}, {"id": "well", "kind": "well"})
    dead, well = Hanging(), Scripted()
    role = engine.start(dead=dead, well=well)
    engine.offer([delivery(number, "dead") for number in range(SMALLEST_LIMIT + 50)], 0)
    engine.offer([delivery(number, "well") for number in range(500)], 0)
    engine.turn(role, lambda: len(well.seen) == 500)
    engine.offer([delivery(number, "well") for number in range(500, 600)], 0)
    for _ in range(5):
        role.step(0.0)
    assert len(well.seen) == 500, "the partition is held before the lane is stuck"
    assert not engine.waiting()
    engine.clock.advance(1)
    engine.turn(role, lambda: len(well.seen) == 600)
    deferred = engine.waiting()
    assert len(deferred) == 50
    assert all(one.wait and one.wait.deferrals == 1 and 0.5 <= one.wait.total <= 1 for one in deferred)
    assert {one.attempts.count for one in deferred} == {0}
    # While the lane is stuck, the partition is not held at all.
    engine.offer([delivery(1000, "dead"), delivery(1000, "well")], 0)
    engine.turn(role, lambda: len(well.seen) == 601)
    engine.turn(role, lambda: len(engine.waiting()) == 51)
    dead.release()
    engine.settle(role)
    assert len(dead.seen) == SMALLEST_LIMIT
    assert engine.uncommitted() == 0


def test_many_hanging_targets_share_the_bytes_in_flight(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lanes together may have fewer bytes in flight than the sum of the limits of each lane."""
    monkeypatch.setattr(lanes_module, "ALL_BYTES_LIMIT", 400)
    monkeypatch.setattr(lanes_module, "SMALLEST_BYTES", 1)
    names = [f"dead-{number}" for number in range(10)]
    engine.apply(*({"id": name, "kind": "dead"} for name in names))
    dead = Hanging()
    role = engine.start(dead=dead)
    offered = [delivery(number, name) for name in names for number in range(20)]
    engine.offer(offered)
    role.step(0.0)
    engine.clock.advance(1)
    engine.turn(role, lambda: len(engine.waiting()) > 100)
    kept = sum(len(one.event) for one in offered) - sum(len(one.event) for one in engine.waiting())
    assert kept <= 400 + len(names) * len(offered[-1].event)
    dead.release()
    engine.settle(role)
    assert engine.uncommitted() == 0


def test_deferrals_double_and_use_no_attempts(engine: Engine) -> None:
    engine.apply({"id": "dead", "kind": "dead", "retry": {"tries": 1}})
    dead = Hanging()
    role, wheel = engine.start(dead=dead), engine.start_wheel()
    engine.offer([delivery(number, "dead") for number in range(SMALLEST_LIMIT + 1)], 0)
    engine.turn(role, lambda: len(dead.seen) == 8)
    seen: list[tuple[int, float]] = []
    for _ in range(120):
        engine.clock.advance(0.25)
        wheel.step(0.0)
        engine.turn(role, lambda: role._lanes.answers_read_at() == engine.clock.monotonic())  # pyright: ignore[reportPrivateUsage]
        role.step(0.0)
        seen += [(one.wait.deferrals, one.wait.total) for one in engine.waiting() if one.wait]
    totals = dict(seen)
    assert list(totals) in ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])
    assert all(2**number / 4 <= total <= 2**number / 2 for number, total in totals.items())
    dead.release()
    engine.settle(role)
    for _ in range(200):
        engine.clock.advance(0.25)
        wheel.step(0.0)
        engine.settle(role)
    assert len(engine.verdicts()) == SMALLEST_LIMIT + 1
    assert {verdict.state for verdict in engine.verdicts()} == {VerdictState.DELIVERED}


def test_timeouts_do_not_count_as_answers_of_a_stuck_lane(engine: Engine) -> None:
    """Attempts at a dead receiver time out now and then; a timeout must not end the stuck state of the lane."""
    engine.apply({"id": "dead", "kind": "dead", "retry": {"first": 1000, "jitter": "none"}})
    dead = Hanging()
    dead.answer = broken
    role = engine.start(dead=dead)
    engine.offer([delivery(number, "dead") for number in range(SMALLEST_LIMIT + 20)], 0)
    engine.turn(role, lambda: len(dead.seen) == 8)
    engine.clock.advance(0.5)
    dead.answers.pop(0)()
    engine.turn(role, lambda: any(one.attempts.count for one in engine.waiting()))
    engine.clock.advance(0.5)
    engine.turn(role, lambda: sum(one.attempts.count == 0 for one in engine.waiting()) == 19)
    dead.release()
    engine.settle(role)


def test_a_full_lane_with_answers_holds_its_partition_and_keeps_the_order(engine: Engine) -> None:
    engine.apply({"id": "slow", "kind": "slow", "concurrency": 1})
    slow = Hanging()
    role = engine.start(slow=slow)
    total = 3 * SMALLEST_LIMIT
    engine.offer([delivery(number, "slow") for number in range(total)], 0)
    for done in range(1, total):
        engine.turn(role, lambda wanted=done: len(slow.seen) == wanted)  # type: ignore[misc]
        engine.clock.advance(0.9)
        slow.answers.pop(0)()
    slow.release()
    engine.settle(role)
    assert [one.source.offset for one in slow.seen] == list(range(total))
    assert not engine.waiting()


def test_a_slow_commit_does_not_make_a_lane_stuck(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that came during a commit count before the lane is found stuck."""
    engine.apply({"id": "slow", "kind": "slow", "concurrency": 1})
    slow = Hanging()
    role = engine.start(slow=slow)
    engine.offer([delivery(number, "slow") for number in range(SMALLEST_LIMIT + 50)], 0)
    engine.turn(role, lambda: bool(slow.answers))
    commit = MemoryConsumer.done

    def slowly(consumer: MemoryConsumer, *what: Any) -> Sequence[Position]:
        engine.clock.advance(2)
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
        engine.turn(role, lambda: len(slow.seen) > 5)
    slow.release()
    engine.settle(role)
    assert not engine.waiting()


def test_a_blocked_loop_does_not_make_lanes_stuck(engine: Engine) -> None:
    """A sink that blocks the loop does not affect the targets of others."""
    engine.apply({"id": "slow", "kind": "slow"}, {"id": "well", "kind": "well"})
    blocked, go_on = threading.Event(), threading.Event()

    def block(_: Delivery) -> Outcome:
        blocked.set()
        go_on.wait(30)
        return Delivered()

    role = engine.start(slow=Scripted(block), well=Scripted())
    engine.offer([delivery(0, "slow")], 0)
    engine.turn(role, blocked.is_set)
    engine.offer([delivery(number, "well") for number in range(SMALLEST_LIMIT + 50)], 0)
    for _ in range(5):
        engine.clock.advance(1)
        role.step(0.0)
    assert not engine.waiting()
    go_on.set()
    engine.settle(role)
    assert not engine.waiting()
