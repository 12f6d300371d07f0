"""The memory of recent values, compared with a list of all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.recent import Recent

SPAN = 10
LIMIT = 4


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), max_size=60))
def test_recent_values_are_kept_and_the_number_is_bounded(puts: list[tuple[int, int]]) -> None:
    recent = Recent[int, int](SPAN, LIMIT)
    history: list[tuple[int, int, int]] = []
    at = 0
    for number, (key, passes) in enumerate(puts):
        at += passes
        before = [value for other, value, _ in history if other == key]
        assert recent.put(key, number, at) in {None, *before[-1:]}
        history.append((key, number, at))
        assert recent.get(key) == number
        assert len(recent) <= 2 * LIMIT
        last = {other: (value, then) for other, value, then in history}
        for other, (value, then) in last.items():
            since = {later for later, later_value, _ in history if later_value > value}
            found = recent.get(other)
            assert found in {None, value}
            if at - then <= SPAN and len(since) < LIMIT:
                assert found == value


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.integers(0, 6)), max_size=30)
)
def test_put_all_finds_the_same_repeats_as_put(batches: list[tuple[list[int], int]]) -> None:
    recent = Recent[int, int](SPAN, LIMIT)
    history: list[tuple[int, int, int]] = []
    at = 0
    for keys, passes in batches:
        at += passes
        first = len(history)
        repeated = dict(recent.put_all(keys, range(first, first + len(keys)), at))
        for place, key in enumerate(keys):
            before = [(value, then) for other, value, then in history if other == key]
            found = repeated.pop(place, None)
            assert found in {None, *(value for value, _ in before[-1:])}
            if before and at - before[-1][1] <= SPAN and len(history) - before[-1][0] <= LIMIT:
                assert found == before[-1][0]
            history.append((key, first + place, at))
        assert repeated == {}
        assert len(recent) <= 2 * (LIMIT + 6)


def test_old_values_are_dropped() -> None:
    recent = Recent[str, int](SPAN, 1000)
    for at in range(100):
        recent.put(str(at), at, at)
    assert recent.get("99") == 99
    assert recent.get("70") is None
    assert len(recent) <= 2 * SPAN + 2
