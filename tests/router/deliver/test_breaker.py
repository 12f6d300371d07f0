"""The breaker and the throttle of a target."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.deliver.breaker import LONGEST_THROTTLE, FailureWindow, open_condition, throttle_condition
from schemas.policy import BreakerPolicy
from schemas.target_state import Condition, TargetStatus

NOW = 1_700_000_000_000
POLICY = BreakerPolicy(share=0.5, window=10, attempts=4, rest=5, longest=60)

CALLS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3), st.integers(0, 3)), max_size=40)


@given(CALLS)
def test_the_window_trips_as_a_list_of_all_attempts_does(calls: list[tuple[float, int, int]]) -> None:
    """The model also counts in slices of a tenth of the window."""
    window, now = FailureWindow(POLICY), 100.0
    seen: list[tuple[int, int, int]] = []
    for pause, ended, failed in calls:
        now += pause
        window.add(ended, min(failed, ended), now)
        seen.append((int(now), ended, min(failed, ended)))
        recent = [one for one in seen if one[0] > int(now) - 10]
        ended_all, failed_all = sum(one[1] for one in recent), sum(one[2] for one in recent)
        assert window.trips(now) == (ended_all >= 4 and failed_all * 2 >= ended_all)


def test_a_cleared_window_does_not_trip() -> None:
    window = FailureWindow(POLICY)
    window.add(10, 10, 5.0)
    assert window.trips(5.0)
    window.clear()
    assert not window.trips(5.0)


def test_each_failed_probe_doubles_the_rest_up_to_the_longest() -> None:
    before: Condition | None = None
    rests: list[float] = []
    for turn in range(7):
        before = open_condition("ops", POLICY, before, why="unreachable", now=NOW + turn)
        rests.append((before.until - NOW - turn) / 1000)
    assert rests == [5, 10, 20, 40, 60, 60, 60]
    assert before is not None
    assert (before.since, before.times, before.status) == (NOW, 7, TargetStatus.OPEN)


def test_a_throttle_doubles_only_when_the_target_asks_again_after_a_pause() -> None:
    first = throttle_condition("ops", None, 0.0, why="429", now=NOW)
    assert first is not None
    assert first.until == NOW + 1000
    assert throttle_condition("ops", first, 0.0, why="429", now=NOW + 100) is None, (
        "calls in flight at that time ask for the same pause"
    )
    pauses: list[float] = []
    before, now = first, first.until
    for _ in range(8):
        following = throttle_condition("ops", before, 0.0, why="429", now=now)
        assert following is not None
        pauses.append((following.until - now) / 1000)
        before, now = following, following.until
    assert pauses == [2, 4, 8, 16, 32, LONGEST_THROTTLE, LONGEST_THROTTLE, LONGEST_THROTTLE]
    assert before.since == NOW


def test_a_pause_lasts_as_long_as_the_receiver_asks() -> None:
    first = throttle_condition("ops", None, 30.0, why="429", now=NOW)
    assert first is not None
    assert first.until == NOW + 30_000
    assert throttle_condition("ops", first, 29.0, why="429", now=NOW + 500) is None
    longer = throttle_condition("ops", first, 90.0, why="429", now=NOW + 500)
    assert longer is not None
    assert (longer.until, longer.times) == (NOW + 90_500, 1)
