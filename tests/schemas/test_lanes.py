"""Lanes of a target: keys, partitions and shares of limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.partition import partition_for
from schemas.lanes import lane_key, lane_of, share
from schemas.subscription import Target

IDS = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)


@given(IDS, st.integers(1, 64), st.integers(1, 64))
def test_lanes_share_a_partition_only_if_there_are_more_lanes_than_partitions(
    target: str, lanes: int, partitions: int
) -> None:
    keys = [lane_key(target, lane, partitions, partition_for) for lane in range(lanes)]
    assert keys[0] == target.encode()
    assert len(set(keys)) == lanes
    taken = {partition_for(key, partitions) for key in keys}
    assert len(taken) == min(lanes, partitions)


@given(IDS, st.integers(1, 64), st.text(max_size=30))
def test_a_resource_keeps_its_lane(target: str, lanes: int, resource: str) -> None:
    one = Target(id=target, kind="topic", lanes=lanes, concurrency=64)
    assert lane_of(one, resource) == lane_of(one, resource) < lanes


@given(st.integers(1, 1000), st.integers(1, 64))
def test_shares_of_all_lanes_add_up_to_the_total(total: int, lanes: int) -> None:
    shares = [share(total, lanes, lane) for lane in range(lanes)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
