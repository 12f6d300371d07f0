"""The schedule of faults that a seed makes."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from heliograph.chaos.faults import FAULTS, LONGEST_STEP, Fault, PlannedFault, Requirement, schedule

REQUIREMENTS = st.frozensets(st.sampled_from(Requirement))


def first(seed: int, met: frozenset[Requirement], count: int = 200) -> list[PlannedFault]:
    return list(islice(schedule(seed, met), count))


@given(st.integers(), REQUIREMENTS)
def test_the_same_seed_makes_the_same_faults(seed: int, met: frozenset[Requirement]) -> None:
    assert first(seed, met) == first(seed, met)


@given(st.integers(), REQUIREMENTS)
def test_a_planned_fault_keeps_to_the_limits_of_its_kind(seed: int, met: frozenset[Requirement]) -> None:
    for planned in first(seed, met):
        plan = FAULTS[planned.fault]
        shortest, longest = plan.seconds
        assert planned.component in plan.components
        assert shortest <= planned.seconds <= longest
        assert plan.needs is None or plan.needs in met
        assert abs(planned.step) <= LONGEST_STEP
        assert planned.role == planned.component or planned.component not in (
            "router",
            "deliverer",
            "archiver",
        )


def test_every_fault_is_planned_and_most_are_kills() -> None:
    made = Counter(planned.fault for planned in first(1, frozenset(Requirement), 2000))
    assert set(made) == set(Fault)
    assert made[Fault.KILL] > made.total() / 2
    assert first(1, frozenset(Requirement)) != first(2, frozenset(Requirement))
