from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, NoReturn

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
    Reason,
    ReasonCode,
    Rejected,
    Retry,
    VerdictState,
    delivery_headers,
    read_delivery,
)
from schemas.errors import BusFull
from schemas.record import NewRecord, Position, Record
from schemas.subscription import Subscription
from schemas.topics import DEAD_LETTERS, DELIVERIES, REJECTS
from sinks.base import Sink, SinkKind, Surroundings
from tests.router.deliver.sinks import (
    BROKEN,
    Hanging,
    Scripted,
    Settings,
    Short,
    Throwing,
    apply,
    broken,
    delete,
    deliverer,
    delivery,
    kinds,
    offer,
    records,
    settled,
    turn,
    unfinished,
    verdicts,
    waiting,
)

OPS = {"id": "ops", "kind": "plain"}
AT_ONCE = {"tries": 3, "first": 0.001, "cap": 0.001}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bus(clock: ManualClock) -> MemoryBus:
    return MemoryBus(clock)


def headers(record: Record) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def test_delivers_each_once_with_a_verdict(bus: MemoryBus) -> None:
    version = apply(bus, "all", OPS)
    offered = [delivery(number, configuration=version) for number in range(250)]
    offer(bus, offered)
    sink = Scripted()
    role = deliverer(bus, kinds(plain=sink))
    settled(role)
    assert sorted(one.id for one in sink.seen) == sorted(one.id for one in offered)
    assert {one.event for one in sink.seen} == {one.event for one in offered}
    ended = verdicts(bus)
    assert sorted(verdict.delivery for verdict in ended) == sorted(one.id for one in offered)
    assert {verdict.state for verdict in ended} == {VerdictState.DELIVERED}
    assert {verdict.attempts.count for verdict in ended} == {1}
    assert ended[0].attempts.last[0].receipt == "ok"
    assert unfinished(bus) == 0
    role.close()
    assert sink.closed == 1


def test_verdicts_are_keyed_by_target_and_tell_their_state(bus: MemoryBus) -> None:
    apply(bus, "all", OPS)
    offer(bus, [delivery(1)])
    role = deliverer(bus, kinds(plain=Scripted()))
    settled(role)
    (record,) = records(bus, "verdicts")
    assert record.key == b"ops"
    assert headers(record)["state"] == "delivered"
    role.close()


def test_batches_are_as_large_as_kind_and_target_say(bus: MemoryBus) -> None:
    apply(
        bus,
        "all",
        {"id": "ops", "kind": "plain", "concurrency": 1},
        {"id": "few", "kind": "other", "batch": 3},
    )
    plain, other = Scripted(), Scripted()
    offer(bus, [delivery(number) for number in range(100)])
    offer(bus, [delivery(number, "few") for number in range(7)])
    role = deliverer(bus, kinds(40, plain=plain, other=other))
    settled(role)
    assert sorted(plain.batches) == [20, 40, 40]
    assert sorted(other.batches) == [1, 3, 3]
    role.close()


def test_a_failure_waits_on_the_wheel_and_succeeds_later(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {**OPS, "retry": {"first": 10, "jitter": "none"}})
    outcomes: list[Outcome] = [BROKEN, BROKEN, Delivered()]
    sink = Scripted(lambda _: outcomes.pop(0))
    role, wheel = deliverer(bus, kinds(plain=sink), clock), Wheel(bus, clock)
    offer(bus, [delivery(1)])
    settled(role)
    (waits,) = waiting(bus)
    assert waits.wait is not None
    assert waits.wait.due == clock.now() + 10_000
    assert waits.attempts.count == 1
    assert waits.id == delivery(1).id
    for _ in range(400):
        clock.advance(0.1)
        wheel.step(0.0)
        settled(role)
    (verdict,) = verdicts(bus)
    assert verdict.state is VerdictState.DELIVERED
    assert [attempt.reason and attempt.reason.code for attempt in verdict.attempts.last] == [
        ReasonCode.UNREACHABLE,
        ReasonCode.UNREACHABLE,
        None,
    ]
    tried_at = [attempt.at for attempt in verdict.attempts.last]
    assert 10_000 <= tried_at[1] - tried_at[0] <= 11_200
    assert 20_000 <= tried_at[2] - tried_at[1] <= 21_200
    assert {one.id for one in sink.seen} == {delivery(1).id}
    assert unfinished(bus) == 0
    wheel.close()
    role.close()


def test_exhausted_tries_end_among_the_dead_letters(bus: MemoryBus, clock: ManualClock) -> None:
    apply(bus, "all", {**OPS, "retry": AT_ONCE})
    role, wheel = deliverer(bus, kinds(plain=Scripted(lambda _: BROKEN)), clock), Wheel(bus, clock)
    offer(bus, [delivery(7)])
    for _ in range(10):
        settled(role)
        clock.advance(1)
        wheel.step(0.0)
    (letter,) = records(bus, DEAD_LETTERS)
    assert letter.value == delivery(7).event
    assert read_delivery(letter).attempts.count == 3
    assert read_delivery(letter).wait is None
    told = headers(letter)
    assert told["errorCode"] == "unreachable"
    assert told["errorMessage"] == "nobody there"
    assert told["exhaustedRetryCondition"] == "tries"
    assert told["retryAttempts"] == "3"
    assert int(told["firstAttemptAt"]) < int(told["lastAttemptAt"])
    (verdict,) = verdicts(bus)
    assert (verdict.state, verdict.exhausted, verdict.attempts.count) == (VerdictState.DEAD, "tries", 3)
    wheel.close()
    role.close()


def test_a_rejection_is_not_tried_again(bus: MemoryBus) -> None:
    apply(bus, "all", OPS)
    refused = Rejected(Reason(ReasonCode.REFUSED, "x" * 5000, 410))
    sink = Scripted(lambda _: refused)
    role = deliverer(bus, kinds(plain=sink))
    offer(bus, [delivery(1)])
    settled(role)
    (letter,) = records(bus, DEAD_LETTERS)
    assert headers(letter)["exhaustedRetryCondition"] == "rejected"
    assert len(headers(letter)["errorMessage"]) == 500
    (verdict,) = verdicts(bus)
    assert verdict.exhausted == "rejected"
    assert len(sink.seen) == 1
    role.close()


@pytest.mark.parametrize("sink", [Throwing(), Short()])
def test_a_sink_with_a_bug_harms_only_its_own_target(bus: MemoryBus, sink: Sink) -> None:
    apply(bus, "all", OPS, {"id": "well", "kind": "well"})
    role = deliverer(bus, kinds(10, plain=sink, well=Scripted()))
    offer(bus, [delivery(number, target) for number in range(30) for target in ("ops", "well")])
    settled(role)
    assert {verdict.target for verdict in verdicts(bus)} == {"well"}
    tried = [
        *waiting(bus),
        *(read_delivery(one) for one in records(bus, DELIVERIES) if one.header("attempts")),
    ]
    assert len(tried) >= 30
    assert {one.attempts.last[-1].reason.code for one in tried if one.attempts.last[-1].reason} == {
        ReasonCode.BUG
    }
    role.close()


def test_a_sink_that_cancels_itself_leaves_nothing_in_flight(bus: MemoryBus) -> None:
    class Cancelling(Scripted):
        async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
            raise asyncio.CancelledError

    apply(bus, "all", {**OPS, "retry": {"first": 100, "jitter": "none"}})
    role = deliverer(bus, kinds(plain=Cancelling()))
    offer(bus, [delivery(1)])
    settled(role)
    assert len(waiting(bus)) == 1
    role.close()


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
    assert {(one.wait.total, one.wait.deferrals) for one in put_off if one.wait} == {(1.0, 1)}
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
    seen: list[tuple[float, int]] = []
    for _ in range(120):
        clock.advance(0.25)
        wheel.step(0.0)
        turn(role, lambda: role._lanes.heard() == clock.monotonic())  # pyright: ignore[reportPrivateUsage]
        role.step(0.0)
        seen += [(one.wait.total, one.wait.deferrals) for one in waiting(bus) if one.wait]
    assert list(dict.fromkeys(seen)) == [(1, 1), (2, 2), (4, 3), (8, 4), (16, 5)]
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


def test_what_was_in_flight_at_a_crash_comes_again_with_the_same_id(bus: MemoryBus) -> None:
    apply(bus, "all", OPS, {"id": "hangs", "kind": "hangs"})
    hangs, well = Hanging(), Scripted()
    first = deliverer(bus, kinds(plain=well, hangs=hangs))
    offer(bus, [delivery(number, target) for number in range(20) for target in ("ops", "hangs")])
    turn(first, lambda: len(verdicts(bus)) == 20 and len(hangs.seen) == 8)
    (member,) = bus.members("deliverer")
    bus.kill(member)
    again, unharmed = Scripted(), Scripted()
    second = deliverer(bus, kinds(plain=unharmed, hangs=again))
    settled(second)
    assert sorted(one.id for one in again.seen) == sorted(
        delivery(number, "hangs").id for number in range(20)
    )
    assert not unharmed.seen
    assert unfinished(bus) == 0
    second.close()
    hangs.let_go()
    first.close()


def test_close_waits_for_what_is_in_flight_and_leaves_the_rest(bus: MemoryBus) -> None:
    class Slow(Scripted):
        async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
            outcomes = await super().deliver(batch)
            await asyncio.sleep(0.05)
            return outcomes

    apply(bus, "all", {**OPS, "concurrency": 2})
    slow = Slow()
    role = deliverer(bus, kinds(plain=slow))
    offer(bus, [delivery(number) for number in range(10)])
    turn(role, lambda: len(slow.seen) >= 2)
    role.close()
    assert sorted(verdict.delivery for verdict in verdicts(bus)) == sorted(one.id for one in slow.seen)
    rest = Scripted()
    successor = deliverer(bus, kinds(plain=rest))
    settled(successor)
    assert {one.id for one in rest.seen}.isdisjoint(one.id for one in slow.seen)
    assert len(rest.seen) + len(slow.seen) == 10
    successor.close()


def test_a_partition_taken_away_is_forgotten_and_delivered_by_the_other(bus: MemoryBus) -> None:
    apply(bus, "all", {"id": "dead", "kind": "dead"})
    dead, other = Hanging(), Scripted()
    clock = ManualClock()
    first = deliverer(bus, kinds(dead=dead), clock)
    for partition in range(4):
        offer(bus, [delivery(100 * partition + number, "dead") for number in range(100)], partition)
    turn(first, lambda: len(dead.seen) == 8)
    second = deliverer(bus, kinds(dead=other), clock)
    for _ in range(3):
        first.step(0.0)
        second.step(0.0)
    turn(second, lambda: len(other.seen) == 200)
    dead.let_go()
    turn(first, lambda: not first.busy())
    turn(second, lambda: not second.busy())
    assert {verdict.delivery for verdict in verdicts(bus)} == {
        delivery(number, "dead").id for number in range(400)
    }
    assert unfinished(bus) == 0
    first.close()
    second.close()


def test_deliveries_of_a_deleted_target_become_dead_letters(bus: MemoryBus) -> None:
    apply(bus, "all", OPS)
    apply(bus, "gone", {"id": "gone", "kind": "plain"})
    delete(bus, "gone")
    role = deliverer(bus, kinds(plain=Scripted()))
    offer(bus, [delivery(1, "gone", "gone"), delivery(2, "ops", "gone"), delivery(3)])
    settled(role)
    letters = {read_delivery(record).source.offset: headers(record) for record in records(bus, DEAD_LETTERS)}
    assert {number: told["errorMessage"] for number, told in letters.items()} == {1: "the target was deleted"}
    assert {told["exhaustedRetryCondition"] for told in letters.values()} == {"no-target"}
    assert sorted(verdict.state for verdict in verdicts(bus)) == ["dead", "delivered", "delivered"]
    role.close()


def test_what_a_disabled_subscription_matched_before_still_goes_out(bus: MemoryBus) -> None:
    apply(bus, "all", OPS)
    apply(bus, "all", OPS, enabled=False)
    role = deliverer(bus, kinds(plain=Scripted()))
    offer(bus, [delivery(1)])
    settled(role)
    assert [verdict.state for verdict in verdicts(bus)] == [VerdictState.DELIVERED]
    role.close()


def test_changed_settings_make_a_new_sink_and_close_the_old(bus: MemoryBus) -> None:
    built: list[tuple[str, Hanging]] = []

    def build(settings: Any, _surroundings: Surroundings) -> Sink:
        built.append((settings.note, Hanging()))
        return built[-1][1]

    apply(bus, "all", {**OPS, "note": "old"})
    role = deliverer(bus, {"plain": SinkKind(Settings, build)})
    offer(bus, [delivery(1)])
    turn(role, lambda: bool(built and built[0][1].seen))
    version = apply(bus, "all", {**OPS, "note": "new"})
    offer(bus, [delivery(2, configuration=version)])
    turn(role, lambda: len(built) == 2 and bool(built[1][1].seen))
    assert [note for note, _ in built] == ["old", "new"]
    assert not built[0][1].closed
    built[0][1].let_go()
    turn(role, lambda: built[0][1].closed == 1)
    built[1][1].let_go()
    settled(role)
    assert len(verdicts(bus)) == 2
    role.close()
    assert [hanging.closed for _, hanging in built] == [1, 1]


def test_waits_for_the_configuration_that_a_delivery_was_matched_under(
    bus: MemoryBus, clock: ManualClock
) -> None:
    version = apply(bus, "other", {"id": "other", "kind": "plain"})
    role = deliverer(bus, kinds(plain=Scripted()), clock)
    offer(bus, [delivery(1, configuration=version + 1)], 0)
    offer(bus, [delivery(2, "other", "other", configuration=version)], 0)
    turn(role, lambda: len(verdicts(bus)) == 1)
    assert not records(bus, DEAD_LETTERS)
    assert role.busy()
    assert apply(bus, "all", OPS) == version + 1
    clock.advance(1)
    settled(role)
    assert {verdict.state for verdict in verdicts(bus)} == {VerdictState.DELIVERED}
    assert len(verdicts(bus)) == 2
    role.close()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ({"id": "ops", "kind": "plane"}, "kind 'plane': expected one of missing, plain"),
        ({"id": "ops", "kind": "plain", "note": 5}, "note: Input should be a valid string"),
        ({"id": "ops", "kind": "plain", "token": "s3cret"}, "token: Extra inputs are not permitted"),
        ({"id": "ops", "kind": "missing"}, "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_a_sink_that_cannot_be_built_is_tried_again(
    bus: MemoryBus, target: dict[str, Any], problem: str
) -> None:
    def missing(_settings: Any, _surroundings: Surroundings) -> Sink:
        raise ModuleNotFoundError("No module named 'nowhere'")

    apply(bus, "all", {**target, "retry": {"first": 100, "jitter": "none"}})
    role = deliverer(bus, {**kinds(plain=Scripted()), "missing": SinkKind(Settings, missing)})
    offer(bus, [delivery(1), delivery(2)])
    settled(role)
    reasons = [one.attempts.last[-1].reason for one in waiting(bus)]
    assert reasons == [Reason(ReasonCode.MISCONFIGURED, problem)] * 2
    role.close()


def test_what_is_not_a_delivery_goes_to_the_rejects(bus: MemoryBus) -> None:
    apply(bus, "all", OPS)
    role = deliverer(bus, kinds(plain=Scripted()))
    bad = (("delivery", b"1"), ("source", b"nowhere"))
    bus.append([NewRecord(DELIVERIES, b"junk", None, (), 0), NewRecord(DELIVERIES, b"junk", b"k", bad, 0)])
    offer(bus, [delivery(1)], 0)
    settled(role)
    assert len(verdicts(bus)) == 1
    rejected = records(bus, REJECTS)
    assert [record.value for record in rejected] == [b"junk", b"junk"]
    assert all((record.header("reason") or b"").startswith(b"not a delivery: ") for record in rejected)
    assert unfinished(bus) == 0
    role.close()


def test_a_verdict_that_cannot_be_stored_is_kept_and_nothing_more_is_sent(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(bus, "all", OPS)
    sink = Scripted()
    role = deliverer(bus, kinds(plain=sink))
    offer(bus, [delivery(1)])
    role.step(0.0)

    def full(*_: object) -> NoReturn:
        raise BusFull("no space")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryConsumer, "done", full)
        with pytest.raises(BusFull):
            turn(role, lambda: False)
        offer(bus, [delivery(2)])
        for _ in range(3):
            with pytest.raises(BusFull):
                role.step(0.0)
    assert len(sink.seen) == 1
    settled(role)
    assert sorted(verdict.delivery for verdict in verdicts(bus)) == sorted([delivery(1).id, delivery(2).id])
    role.close()


def test_a_retry_after_a_restart_is_due_at_the_same_time(bus: MemoryBus, clock: ManualClock) -> None:
    """Jitter is drawn from the delivery's id and attempt: a crash between append and commit repeats it alike."""
    due: list[int] = []
    for _ in range(2):
        log = MemoryBus(clock)
        apply(log, "all", {**OPS, "retry": {"first": 1000}})
        role = deliverer(log, kinds(plain=Scripted(lambda _: Retry(Reason(ReasonCode.TIMED_OUT)))), clock)
        offer(log, [delivery(5)])
        settled(role)
        due += [one.wait.due for one in waiting(log) if one.wait]
        role.close()
    assert len(due) == 2
    assert due[0] == due[1]


def test_subscriptions_of_the_tests_are_what_the_schema_says() -> None:
    assert Subscription.model_validate({"name": "all", "target": [OPS]}).target[0].retry.tries == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", b'{"more":' + b"[" * 100_000),
        ("wait", b'{"due":1,"total":1,"more":' + b"[" * 100_000),
        ("event-time", b"9" * 30),
        ("configuration", b"9" * 30),
    ],
)
def test_a_hostile_header_stops_nothing(bus: MemoryBus, name: str, value: bytes) -> None:
    apply(bus, "all", OPS)
    role = deliverer(bus, kinds(plain=Scripted()))
    headers = {**dict(delivery_headers(delivery(1))), name: value}
    bus.append([NewRecord(DELIVERIES, b"junk", b"k", tuple(headers.items()), 0)])
    offer(bus, [delivery(2)], 0)
    settled(role)
    assert [record.value for record in records(bus, REJECTS)] == [b"junk"]
    assert len(verdicts(bus)) == 1
    assert unfinished(bus) == 0
    role.close()
