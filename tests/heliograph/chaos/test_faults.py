"""A seed is its faults."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from heliograph.chaos.faults import FAULTS, LONGEST_STEP, Fault, Ground, Stroke, schedule

GROUNDS = st.frozensets(st.sampled_from(Ground))


def first(seed: int, grounds: frozenset[Ground], count: int = 200) -> list[Stroke]:
    return list(islice(schedule(seed, grounds), count))


@given(st.integers(), GROUNDS)
def test_the_same_seed_makes_the_same_faults(seed: int, grounds: frozenset[Ground]) -> None:
    assert first(seed, grounds) == first(seed, grounds)


@given(st.integers(), GROUNDS)
def test_a_fault_is_as_its_data_says(seed: int, grounds: frozenset[Ground]) -> None:
    for stroke in first(seed, grounds):
        kind = FAULTS[stroke.fault]
        shortest, longest = kind.seconds
        assert stroke.place in kind.places
        assert shortest <= stroke.seconds <= longest
        assert kind.needs is None or kind.needs in grounds
        assert abs(stroke.step) <= LONGEST_STEP
        assert stroke.role == stroke.place or stroke.place not in ("router", "deliverer", "archiver")


def test_every_fault_is_made_and_kills_are_most() -> None:
    made = Counter(stroke.fault for stroke in first(1, frozenset(Ground), 2000))
    assert set(made) == set(Fault)
    assert made[Fault.KILL] > made.total() / 2
    assert first(1, frozenset(Ground)) != first(2, frozenset(Ground))
