from __future__ import annotations

import pytest

from router.deliver.lane import SMALLEST_LIMIT, Lane, Parcel
from schemas.record import Position
from schemas.subscription import Target
from tests.router.deliver.sinks import delivery


def lane(concurrency: int = 8, batch: int = 1) -> Lane:
    return Lane(Target(id="ops", kind="plain", concurrency=concurrency), batch, 0.0)


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
    assert one.waiting_in == {0: 5, 1: 5}
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
    assert {parcel.position.partition for parcel in one.waiting} == {1}
    assert one.waiting_in == {1: 5}
