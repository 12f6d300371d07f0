from __future__ import annotations

import msgspec
import pytest

from router.deliver.lane import SMALLEST_LIMIT, Lane
from router.deliver.waiting import Parcel
from schemas.record import Position
from schemas.subscription import Target
from tests.router.deliver.sinks import delivery


def lane(concurrency: int = 8, batch: int = 1) -> Lane:
    return of(batch, concurrency=concurrency)


def of(batch: int = 1, number: int = 0, **settings: object) -> Lane:
    return Lane(Target.model_validate({"id": "ops", "kind": "plain", **settings}), number, batch, 0.0)


def filled(number: int, into: Lane | None = None) -> Lane:
    into = into or lane()
    for offset in range(number):
        into.put(Parcel(Position("deliveries", offset % 2, offset), delivery(offset)))
    return into


@pytest.mark.parametrize(
    ("concurrency", "batch", "limit"), [(8, 1, 100), (1, 1, 100), (8, 500, 8000), (100, 1, 200)]
)
def test_the_limit_is_two_rounds_of_all_workers(concurrency: int, batch: int, limit: int) -> None:
    assert lane(concurrency, batch).limit == limit


def test_hands_out_in_order_and_no_more_than_fits() -> None:
    one = filled(SMALLEST_LIMIT + 10)
    taken = one.take(0.0)
    assert [parcel.position.offset for parcel in taken] == list(range(SMALLEST_LIMIT))
    assert one.full
    assert one.take(0.0) == []
    assert (one.waiting, set(one.holds)) == (10, {0, 1})
    one.ended(taken[:3], answered=True, now=0.0)
    assert len(one.take(0.0)) == 3


def test_large_events_count_by_their_bytes() -> None:
    one = filled(10)
    assert 0 < len(one.take(0.0, room=20)) < 10
    assert one.full


def test_only_an_answer_keeps_a_full_lane_moving() -> None:
    one = filled(SMALLEST_LIMIT + 50)
    taken = one.take(10.0)
    assert not one.newly_stuck(10.9)
    one.ended(taken[:1], answered=True, now=10.9)
    one.take(10.9)
    assert not one.newly_stuck(11.8)
    one.ended(taken[1:2], answered=False, now=11.8)
    one.take(11.8)
    assert one.newly_stuck(11.9)


def test_a_stuck_lane_moves_again_when_half_of_it_has_ended() -> None:
    one = filled(SMALLEST_LIMIT)
    taken = one.take(0.0)
    assert one.newly_stuck(1.0)
    one.ended(taken[:49], answered=True, now=2.0)
    assert not one.newly_stuck(2.0)
    assert one.stuck
    one.ended(taken[49:50], answered=True, now=2.0)
    assert not one.stuck


def test_an_idle_time_is_not_a_standstill() -> None:
    one = filled(1)
    one.ended(one.take(0.0), answered=True, now=0.0)
    filled(SMALLEST_LIMIT + 1, one)
    one.take(500.0)
    assert not one.newly_stuck(500.5)


def test_a_lost_partition_is_forgotten() -> None:
    one = filled(10)
    assert one.forget(frozenset([0])) == 5
    assert (one.waiting, set(one.holds)) == (5, {1})
    assert {parcel.position.partition for parcel in one.take(0.0)} == {1}


def test_what_comes_back_untried_goes_out_first() -> None:
    one = filled(10)
    taken = one.take(0.0)
    filled(3, one)
    one.returned(taken[4:])
    assert one.in_flight == 4
    assert set(one.holds) == {0, 1}
    assert [parcel.position.offset for parcel in one.take(0.0)] == [*range(4, 10), 0, 1, 2]
    assert not set(one.holds)


def test_limits_are_shared_out_among_lanes() -> None:
    lanes = [of(number=number, lanes=3, concurrency=8, in_flight=10, rate=6) for number in range(3)]
    assert [lane.concurrency for lane in lanes] == [3, 3, 2]
    assert [lane.limit for lane in lanes] == [4, 3, 3]
    assert [lane.rate for lane in lanes] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(("rate", "limit"), [(0.01, 1), (1, 2), (20, 40), (1000, 100)])
def test_a_lane_with_a_rate_takes_in_two_seconds_of_it(rate: float, limit: int) -> None:
    assert of(rate=rate).limit == limit


def test_what_a_rate_puts_off_comes_back_at_its_pace() -> None:
    one = of(rate=10)
    assert [one.slot(5000) for _ in range(4)] == [6100, 6200, 6300, 6400]
    assert one.slot(60_000) == 61_100


def test_a_probe_is_one_delivery_when_nothing_else_is_in_flight() -> None:
    one = filled(5)
    (first,) = one.probe(0.0)
    assert one.probe(0.0) == []
    one.ended([first], answered=True, now=0.0)
    assert len(one.probe(0.0)) == 1


def test_a_lane_of_an_ordered_target_holds_its_partitions_only_when_too_much_waits() -> None:
    one = of(ordered=True, in_flight=2)
    filled(2, one)
    assert not set(one.holds)
    filled(2, one)
    assert set(one.holds) == {0, 1}


def test_a_lane_of_an_ordered_target_hands_out_one_delivery_of_a_resource_at_a_time() -> None:
    one = of(ordered=True)
    for offset in range(2):
        same = msgspec.structs.replace(delivery(offset), resource="i-1")
        one.put(Parcel(Position("deliveries", 0, offset), same))
    (first,) = one.take(0.0)
    assert one.take(0.0) == []
    one.ended([first], answered=True, now=0.0)
    (second,) = one.take(0.0)
    assert (first.position.offset, second.position.offset) == (0, 1)
