"""The deliverer: deliveries sent through doubles of sinks, and the records that follow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

from heliograph.bus.memory import MemoryBus, MemoryConsumer
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
from schemas.topics import DELIVERIES, REJECTS
from sinks.base import Sink, SinkContext, SinkKind
from tests.router.deliver.engine import Engine
from tests.router.deliver.sinks import BROKEN, Hanging, Scripted, Settings, Short, Throwing, delivery, kinds

OPS = {"id": "ops", "kind": "plain"}
AT_ONCE = {"tries": 3, "first": 0.001, "cap": 0.001}


def headers(record: Record) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def test_each_delivery_is_sent_once_and_has_a_verdict(engine: Engine) -> None:
    version = engine.apply(OPS)
    offered = [delivery(number, configuration=version) for number in range(250)]
    engine.offer(offered)
    sink = Scripted()
    role = engine.start(plain=sink)
    engine.settle(role)
    assert sorted(one.id for one in sink.seen) == sorted(one.id for one in offered)
    assert {one.event for one in sink.seen} == {one.event for one in offered}
    ended = engine.verdicts()
    assert sorted(verdict.delivery for verdict in ended) == sorted(one.id for one in offered)
    assert {verdict.state for verdict in ended} == {VerdictState.DELIVERED}
    assert {verdict.attempts.count for verdict in ended} == {1}
    assert ended[0].attempts.last[0].receipt == "ok"
    assert engine.uncommitted() == 0
    engine.close(role)
    assert sink.closed == 1


def test_a_verdict_has_its_target_as_key_and_its_state_in_a_header(engine: Engine) -> None:
    engine.apply(OPS)
    engine.offer([delivery(1)])
    role = engine.start(plain=Scripted())
    engine.settle(role)
    (record,) = engine.records("verdicts")
    assert record.key == b"ops"
    assert headers(record)["state"] == "delivered"


def test_the_batch_size_is_that_of_the_kind_unless_the_target_sets_it(engine: Engine) -> None:
    engine.apply(
        {"id": "ops", "kind": "plain", "concurrency": 1},
        {"id": "few", "kind": "other", "batch": 3},
    )
    plain, other = Scripted(), Scripted()
    engine.offer([delivery(number) for number in range(100)])
    engine.offer([delivery(number, "few") for number in range(7)])
    role = engine.start(40, plain=plain, other=other)
    engine.settle(role)
    assert sorted(plain.batches) == [20, 40, 40]
    assert sorted(other.batches) == [1, 3, 3]


def test_a_failed_delivery_waits_on_the_wheel_until_it_succeeds(engine: Engine) -> None:
    engine.apply({**OPS, "retry": {"first": 10, "jitter": "none"}})
    outcomes: list[Outcome] = [BROKEN, BROKEN, Delivered()]
    sink = Scripted(lambda _: outcomes.pop(0))
    role, wheel = engine.start(plain=sink), engine.start_wheel()
    engine.offer([delivery(1)])
    engine.settle(role)
    (waits,) = engine.waiting()
    assert waits.wait is not None
    assert waits.wait.due == engine.clock.now() + 10_000
    assert waits.attempts.count == 1
    assert waits.id == delivery(1).id
    for _ in range(400):
        engine.clock.advance(0.1)
        wheel.step(0.0)
        engine.settle(role)
    (verdict,) = engine.verdicts()
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
    assert engine.uncommitted() == 0


def test_a_delivery_without_attempts_left_becomes_a_dead_letter(engine: Engine) -> None:
    engine.apply({**OPS, "retry": AT_ONCE})
    role, wheel = engine.start(plain=Scripted(lambda _: BROKEN)), engine.start_wheel()
    engine.offer([delivery(7)])
    for _ in range(10):
        engine.settle(role)
        engine.clock.advance(1)
        wheel.step(0.0)
    (letter,) = engine.dead_letters()
    assert letter.value == delivery(7).event
    assert read_delivery(letter).attempts.count == 3
    assert read_delivery(letter).wait is None
    found = headers(letter)
    assert found["errorCode"] == "unreachable"
    assert found["errorMessage"] == "nobody there"
    assert found["exhaustedRetryCondition"] == "tries"
    assert found["retryAttempts"] == "3"
    assert int(found["firstAttemptAt"]) < int(found["lastAttemptAt"])
    (verdict,) = engine.verdicts()
    assert (verdict.state, verdict.exhausted, verdict.attempts.count) == (VerdictState.DEAD, "tries", 3)


def test_a_rejected_delivery_is_not_retried(engine: Engine) -> None:
    engine.apply(OPS)
    refused = Rejected(Reason(ReasonCode.REFUSED, "x" * 5000, 410))
    sink = Scripted(lambda _: refused)
    role = engine.start(plain=sink)
    engine.offer([delivery(1)])
    engine.settle(role)
    (letter,) = engine.dead_letters()
    assert headers(letter)["exhaustedRetryCondition"] == "rejected"
    assert len(headers(letter)["errorMessage"]) == 500
    (verdict,) = engine.verdicts()
    assert verdict.exhausted == "rejected"
    assert len(sink.seen) == 1


@pytest.mark.parametrize("sink", [Throwing(), Short()])
def test_a_sink_with_a_bug_affects_only_its_own_target(engine: Engine, sink: Sink) -> None:
    engine.apply(OPS, {"id": "well", "kind": "well"})
    role = engine.start(10, plain=sink, well=Scripted())
    engine.offer([delivery(number, target) for number in range(30) for target in ("ops", "well")])
    engine.settle(role)
    assert {verdict.target for verdict in engine.verdicts()} == {"well"}
    tried = [
        *engine.waiting(),
        *(read_delivery(one) for one in engine.records(DELIVERIES) if one.header("attempts")),
    ]
    assert len(tried) >= 30
    assert {one.attempts.last[-1].reason.code for one in tried if one.attempts.last[-1].reason} == {
        ReasonCode.BUG
    }


def test_a_sink_that_cancels_itself_leaves_nothing_in_flight(engine: Engine) -> None:
    class Cancelling(Scripted):
        async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
            raise asyncio.CancelledError

    engine.apply({**OPS, "retry": {"first": 100, "jitter": "none"}})
    role = engine.start(plain=Cancelling())
    engine.offer([delivery(1)])
    engine.settle(role)
    assert len(engine.waiting()) == 1


def test_deliveries_in_flight_at_a_crash_are_sent_again_with_the_same_id(engine: Engine) -> None:
    engine.apply(OPS, {"id": "hangs", "kind": "hangs"})
    hangs, well = Hanging(), Scripted()
    first = engine.start(plain=well, hangs=hangs)
    engine.offer([delivery(number, target) for number in range(20) for target in ("ops", "hangs")])
    engine.turn(first, lambda: len(engine.verdicts()) == 20 and len(hangs.seen) == 8)
    engine.kill_member()
    again, unharmed = Scripted(), Scripted()
    second = engine.start(plain=unharmed, hangs=again)
    engine.settle(second)
    assert sorted(one.id for one in again.seen) == sorted(
        delivery(number, "hangs").id for number in range(20)
    )
    assert not unharmed.seen
    assert engine.uncommitted() == 0
    hangs.release()


def test_close_waits_for_deliveries_in_flight_and_leaves_the_others(engine: Engine) -> None:
    class Slow(Scripted):
        async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
            outcomes = await super().deliver(batch)
            await asyncio.sleep(0.05)
            return outcomes

    engine.apply({**OPS, "concurrency": 2})
    slow = Slow()
    role = engine.start(plain=slow)
    engine.offer([delivery(number) for number in range(10)])
    engine.turn(role, lambda: len(slow.seen) >= 2)
    engine.close(role)
    assert sorted(verdict.delivery for verdict in engine.verdicts()) == sorted(one.id for one in slow.seen)
    rest = Scripted()
    successor = engine.start(plain=rest)
    engine.settle(successor)
    assert {one.id for one in rest.seen}.isdisjoint(one.id for one in slow.seen)
    assert len(rest.seen) + len(slow.seen) == 10


def test_a_revoked_partition_is_delivered_by_its_new_owner(engine: Engine) -> None:
    engine.apply({"id": "dead", "kind": "dead"})
    dead, other = Hanging(), Scripted()
    first = engine.start(dead=dead)
    for partition in range(4):
        engine.offer([delivery(100 * partition + number, "dead") for number in range(100)], partition)
    engine.turn(first, lambda: len(dead.seen) == 8)
    second = engine.start(dead=other)
    for _ in range(3):
        first.step(0.0)
        second.step(0.0)
    engine.turn(second, lambda: len(other.seen) == 200)
    dead.release()
    engine.turn(first, lambda: not first.busy())
    engine.turn(second, lambda: not second.busy())
    assert {verdict.delivery for verdict in engine.verdicts()} == {
        delivery(number, "dead").id for number in range(400)
    }
    assert engine.uncommitted() == 0


def test_deliveries_of_a_deleted_target_become_dead_letters(engine: Engine) -> None:
    engine.apply(OPS)
    engine.apply({"id": "gone", "kind": "plain"}, name="gone")
    engine.delete("gone")
    role = engine.start(plain=Scripted())
    engine.offer([delivery(1, "gone", "gone"), delivery(2, "ops", "gone"), delivery(3)])
    engine.settle(role)
    letters = {read_delivery(record).source.offset: headers(record) for record in engine.dead_letters()}
    assert {number: found["errorMessage"] for number, found in letters.items()} == {
        1: "the target was deleted"
    }
    assert {found["exhaustedRetryCondition"] for found in letters.values()} == {"no-target"}
    assert sorted(verdict.state for verdict in engine.verdicts()) == ["dead", "delivered", "delivered"]


def test_deliveries_of_a_disabled_subscription_are_still_sent(engine: Engine) -> None:
    engine.apply(OPS)
    engine.apply(OPS, enabled=False)
    role = engine.start(plain=Scripted())
    engine.offer([delivery(1)])
    engine.settle(role)
    assert [verdict.state for verdict in engine.verdicts()] == [VerdictState.DELIVERED]


def test_changed_settings_build_a_new_sink_and_close_the_old_one(engine: Engine) -> None:
    built: list[tuple[str, Hanging]] = []

    def build(settings: Any, _sink_context: SinkContext) -> Sink:
        built.append((settings.note, Hanging()))
        return built[-1][1]

    engine.apply({**OPS, "note": "old"})
    role = engine.start_with({"plain": SinkKind(Settings, build)})
    engine.offer([delivery(1)])
    engine.turn(role, lambda: bool(built and built[0][1].seen))
    version = engine.apply({**OPS, "note": "new"})
    engine.offer([delivery(2, configuration=version)])
    engine.turn(role, lambda: len(built) == 2 and bool(built[1][1].seen))
    assert [note for note, _ in built] == ["old", "new"]
    assert not built[0][1].closed
    built[0][1].release()
    engine.turn(role, lambda: built[0][1].closed == 1)
    built[1][1].release()
    engine.settle(role)
    assert len(engine.verdicts()) == 2
    engine.close(role)
    assert [hanging.closed for _, hanging in built] == [1, 1]


def test_a_delivery_waits_for_the_configuration_that_it_was_matched_under(engine: Engine) -> None:
    version = engine.apply({"id": "other", "kind": "plain"}, name="other")
    role = engine.start(plain=Scripted())
    engine.offer([delivery(1, configuration=version + 1)], 0)
    engine.offer([delivery(2, "other", "other", configuration=version)], 0)
    engine.turn(role, lambda: len(engine.verdicts()) == 1)
    assert not engine.dead_letters()
    assert role.busy()
    assert engine.apply(OPS) == version + 1
    engine.clock.advance(1)
    engine.settle(role)
    assert {verdict.state for verdict in engine.verdicts()} == {VerdictState.DELIVERED}
    assert len(engine.verdicts()) == 2


def test_a_lost_configuration_version_is_awaited_for_thirty_seconds(engine: Engine) -> None:
    version = engine.apply(OPS)
    role = engine.start(plain=Scripted())
    engine.offer([delivery(1, configuration=version + 9), delivery(2, "gone", configuration=version + 9)], 0)
    for _ in range(29):
        role.step(0)
        engine.clock.advance(1)
    assert not engine.verdicts()
    engine.clock.advance(1)
    engine.settle(role)
    ended = {verdict.target: verdict.state for verdict in engine.verdicts()}
    assert ended == {"ops": VerdictState.DELIVERED, "gone": VerdictState.DEAD}
    engine.offer([delivery(3, configuration=version + 9)], 0)
    engine.settle(role)
    assert len(engine.verdicts()) == 3, "a version known to be lost is awaited once"
    assert engine.uncommitted() == 0


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ({"id": "ops", "kind": "plane"}, "kind 'plane': expected one of missing, plain"),
        ({"id": "ops", "kind": "plain", "note": 5}, "note: Input should be a valid string"),
        ({"id": "ops", "kind": "plain", "token": "s3cret"}, "token: Extra inputs are not permitted"),
        ({"id": "ops", "kind": "missing"}, "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_deliveries_to_a_sink_that_cannot_be_built_are_retried(
    engine: Engine, target: dict[str, Any], problem: str
) -> None:
    def missing(_settings: Any, _sink_context: SinkContext) -> Sink:
        raise ModuleNotFoundError("No module named 'nowhere'")

    engine.apply({**target, "retry": {"first": 100, "jitter": "none"}})
    role = engine.start_with({**kinds(plain=Scripted()), "missing": SinkKind(Settings, missing)})
    engine.offer([delivery(1), delivery(2)])
    engine.settle(role)
    reasons = [one.attempts.last[-1].reason for one in engine.waiting()]
    assert reasons == [Reason(ReasonCode.MISCONFIGURED, problem)] * 2


def test_a_record_that_is_no_delivery_goes_to_rejects(engine: Engine) -> None:
    engine.apply(OPS)
    role = engine.start(plain=Scripted())
    bad = (("delivery", b"1"), ("source", b"nowhere"))
    engine.bus.append(
        [NewRecord(DELIVERIES, b"junk", None, (), 0), NewRecord(DELIVERIES, b"junk", b"k", bad, 0)]
    )
    engine.offer([delivery(1)], 0)
    engine.settle(role)
    assert len(engine.verdicts()) == 1
    rejected = engine.records(REJECTS)
    assert [record.value for record in rejected] == [b"junk", b"junk"]
    assert all((record.header("reason") or b"").startswith(b"not a delivery: ") for record in rejected)
    assert engine.uncommitted() == 0


def test_nothing_is_sent_while_verdicts_cannot_be_stored(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.apply(OPS)
    sink = Scripted()
    role = engine.start(plain=sink)
    engine.offer([delivery(1)])
    role.step(0.0)

    def full(*_: object) -> NoReturn:
        raise BusFull("no space")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryConsumer, "done", full)
        with pytest.raises(BusFull):
            engine.turn(role, lambda: False)
        engine.offer([delivery(2)])
        for _ in range(3):
            with pytest.raises(BusFull):
                role.step(0.0)
    assert len(sink.seen) == 1
    engine.settle(role)
    assert sorted(verdict.delivery for verdict in engine.verdicts()) == sorted(
        [delivery(1).id, delivery(2).id]
    )


def test_a_retry_is_due_at_the_same_time_after_a_restart(clock: ManualClock) -> None:
    """Jitter depends on the delivery's id and attempt, so a repeat after a crash has the same."""
    due: list[int] = []
    for _ in range(2):
        one = Engine(MemoryBus(clock), clock)
        one.apply({**OPS, "retry": {"first": 1000}})
        role = one.start(plain=Scripted(lambda _: Retry(Reason(ReasonCode.TIMED_OUT))))
        one.offer([delivery(5)])
        one.settle(role)
        due += [each.wait.due for each in one.waiting() if each.wait]
        one.close()
    assert len(due) == 2
    assert due[0] == due[1]


def test_a_delivery_has_sixteen_tries_by_default() -> None:
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
def test_a_record_with_a_hostile_header_goes_to_rejects(engine: Engine, name: str, value: bytes) -> None:
    engine.apply(OPS)
    role = engine.start(plain=Scripted())
    headers = {**dict(delivery_headers(delivery(1))), name: value}
    engine.bus.append([NewRecord(DELIVERIES, b"junk", b"k", tuple(headers.items()), 0)])
    engine.offer([delivery(2)], 0)
    engine.settle(role)
    assert [record.value for record in engine.records(REJECTS)] == [b"junk"]
    assert len(engine.verdicts()) == 1
    assert engine.uncommitted() == 0
