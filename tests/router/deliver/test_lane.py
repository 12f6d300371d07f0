"""The limits of a lane, and when it is full or stuck."""

from __future__ import annotations

import msgspec
import pytest

from router.deliver.lane import SMALLEST_LIMIT, Lane
from router.deliver.queues import ClaimedDelivery
from schemas.delivery import Delivered, Reason, ReasonCode, Retry
from schemas.record import Position
from schemas.subscription import Target
from tests.router.deliver.sinks import delivery

ANSWERED = [Delivered()]
TIMED_OUT = [Retry(Reason(ReasonCode.TIMED_OUT))]


def lane(concurrency: int = 8, batch: int = 1) -> Lane:
    return open_lane(batch, concurrency=concurrency)


def open_lane(batch: int = 1, number: int = 0, **settings: object) -> Lane:
    return Lane(Target.model_validate({"id": "ops", "kind": "plain", **settings}), number, batch, 0.0)


def filled(number: int, into: Lane | None = None) -> Lane:
    into = into or lane()
    for offset in range(number):
        into.put(ClaimedDelivery(Position("deliveries", offset % 2, offset), delivery(offset)))
    return into


@pytest.mark.parametrize(
    ("concurrency", "batch", "limit"), [(8, 1, 100), (1, 1, 100), (8, 500, 8000), (100, 1, 200)]
)
def test_the_limit_is_two_batches_for_each_worker(concurrency: int, batch: int, limit: int) -> None:
    assert lane(concurrency, batch).limit == limit


def test_a_lane_takes_deliveries_in_order_up_to_its_limit() -> None:
    one = filled(SMALLEST_LIMIT + 10)
    taken = one.take(0.0)
    assert [claimed.position.offset for claimed in taken] == list(range(SMALLEST_LIMIT))
    assert one.full
    assert one.take(0.0) == []
    assert (one.waiting, set(one.partitions_to_hold)) == (10, {0, 1})
    one.complete(taken[:3], ANSWERED, 0.0)
    assert len(one.take(0.0)) == 3


def test_the_bytes_of_events_in_flight_are_limited() -> None:
    one = filled(10)
    assert 0 < len(one.take(0.0, bytes_limit=20)) < 10
    assert one.full


def test_a_full_lane_is_stuck_after_a_second_without_an_answer() -> None:
    one = filled(SMALLEST_LIMIT + 50)
    taken = one.take(10.0)
    assert not one.becomes_stuck(10.9)
    one.complete(taken[:1], ANSWERED, 10.9)
    one.take(10.9)
    assert not one.becomes_stuck(11.8)
    one.complete(taken[1:2], TIMED_OUT, 11.8)
    one.take(11.8)
    assert one.becomes_stuck(11.9)


def test_a_lane_is_stuck_until_half_of_its_deliveries_have_ended() -> None:
    one = filled(SMALLEST_LIMIT)
    taken = one.take(0.0)
    assert one.becomes_stuck(1.0)
    one.complete(taken[:49], ANSWERED, 2.0)
    assert not one.becomes_stuck(2.0)
    assert one.stuck
    one.complete(taken[49:50], ANSWERED, 2.0)
    assert not one.stuck


def test_idle_time_does_not_make_a_lane_stuck() -> None:
    one = filled(1)
    one.complete(one.take(0.0), ANSWERED, 0.0)
    filled(SMALLEST_LIMIT + 1, one)
    one.take(500.0)
    assert not one.becomes_stuck(500.5)


def test_a_revoked_partition_is_dropped() -> None:
    one = filled(10)
    assert one.drop_partitions(frozenset([0])) == 5
    assert (one.waiting, set(one.partitions_to_hold)) == (5, {1})
    assert {claimed.position.partition for claimed in one.take(0.0)} == {1}


def test_recalled_deliveries_are_sent_first() -> None:
    one = filled(10)
    taken = one.take(0.0)
    filled(3, one)
    one.put_back(taken[4:])
    assert one.in_flight == 4
    assert set(one.partitions_to_hold) == {0, 1}
    assert [claimed.position.offset for claimed in one.take(0.0)] == [*range(4, 10), 0, 1, 2]
    assert not set(one.partitions_to_hold)


def test_lanes_of_one_target_share_its_limits() -> None:
    lanes = [open_lane(number=number, lanes=3, concurrency=8, in_flight=10, rate=6) for number in range(3)]
    assert [lane.concurrency for lane in lanes] == [3, 3, 2]
    assert [lane.limit for lane in lanes] == [4, 3, 3]
    assert [lane.rate for lane in lanes] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(("rate", "limit"), [(0.01, 1), (1, 2), (20, 40), (1000, 100)])
def test_a_lane_with_a_rate_has_two_seconds_of_it_in_flight(rate: float, limit: int) -> None:
    assert open_lane(rate=rate).limit == limit


def test_deferred_deliveries_come_back_at_the_rate() -> None:
    one = open_lane(rate=10)
    assert [one.take_slot(5000) for _ in range(4)] == [6100, 6200, 6300, 6400]
    assert one.take_slot(60_000) == 61_100


def test_a_probe_is_one_delivery_with_nothing_else_in_flight() -> None:
    one = filled(5)
    (first,) = one.take_probe(0.0)
    assert one.take_probe(0.0) == []
    one.complete([first], ANSWERED, 0.0)
    assert len(one.take_probe(0.0)) == 1


def test_an_ordered_lane_holds_its_partitions_only_when_crowded() -> None:
    one = open_lane(ordered=True, in_flight=2)
    filled(2, one)
    assert not set(one.partitions_to_hold)
    filled(2, one)
    assert set(one.partitions_to_hold) == {0, 1}


def test_an_ordered_lane_sends_one_delivery_of_a_resource_at_a_time() -> None:
    one = open_lane(ordered=True)
    for offset in range(2):
        same = msgspec.structs.replace(delivery(offset), resource="i-1")
        one.put(ClaimedDelivery(Position("deliveries", 0, offset), same))
    (first,) = one.take(0.0)
    assert one.take(0.0) == []
    one.complete([first], ANSWERED, 0.0)
    (second,) = one.take(0.0)
    assert (first.position.offset, second.position.offset) == (0, 1)
