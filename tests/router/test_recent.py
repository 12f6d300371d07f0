"""What is remembered, against a list of all that was put."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.recent import Recent

SPAN = 10
LIMIT = 4


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), max_size=60))
def test_what_is_recent_is_remembered_and_the_rest_is_bounded(puts: list[tuple[int, int]]) -> None:
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


def test_the_old_are_forgotten() -> None:
    recent = Recent[str, int](SPAN, 1000)
    for at in range(100):
        recent.put(str(at), at, at)
    assert recent.get("99") == 99
    assert recent.get("70") is None
    assert len(recent) <= 2 * SPAN + 2
