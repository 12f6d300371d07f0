from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from heliograph.bus.memory import MemoryBus, MemoryConsumer
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
from schemas.record import NewRecord, Record
from schemas.subscription import Subscription
from schemas.topics import DEAD_LETTERS, DELIVERIES, REJECTS
from sinks.base import Sink, SinkContext, SinkKind
from tests.router.deliver.sinks import (
    BROKEN,
    Hanging,
    Scripted,
    Settings,
    Short,
    Throwing,
    apply,
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

    def build(settings: Any, _sink_context: SinkContext) -> Sink:
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


def test_a_configuration_that_the_log_has_lost_holds_up_its_partition_only_for_a_while(
    bus: MemoryBus, clock: ManualClock
) -> None:
    version = apply(bus, "all", OPS)
    role = deliverer(bus, kinds(plain=Scripted()), clock)
    offer(bus, [delivery(1, configuration=version + 9), delivery(2, "gone", configuration=version + 9)], 0)
    for _ in range(29):
        role.step(0)
        clock.advance(1)
    assert not verdicts(bus)
    clock.advance(1)
    settled(role)
    ended = {verdict.target: verdict.state for verdict in verdicts(bus)}
    assert ended == {"ops": VerdictState.DELIVERED, "gone": VerdictState.DEAD}
    offer(bus, [delivery(3, configuration=version + 9)], 0)
    settled(role)
    assert len(verdicts(bus)) == 3, "what is known to be lost is waited for once"
    assert unfinished(bus) == 0
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
    def missing(_settings: Any, _sink_context: SinkContext) -> Sink:
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
