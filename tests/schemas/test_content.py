"""Models and checks of `content`."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.content import CHECKS, FAMILIES, TIMES, field_problems, fields_of
from schemas.times import content_time

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.integers(0, 4_000_000_000_000).map(content_time),
    st.sampled_from(["2019-11-11T11:00Z", "2019-11-11", "2019-02-30T00:00:00Z", "2020-02-29T00:00:00Z\n"]),
)


@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_the_fast_check_and_field_problems_agree(data: st.DataObject, family: str) -> None:
    keys = st.sampled_from([*fields_of(family), "unknown"])
    content = data.draw(st.dictionaries(keys, VALUES, max_size=4))
    try:
        CHECKS[family](msgspec.json.encode(content))
        accepted = True
    except msgspec.ValidationError:
        accepted = False
    assert accepted is not any(field_problems(family, content))


@pytest.mark.parametrize("family", FAMILIES)
def test_fields_are_camel_case_and_times_are_recognised_by_name(family: str) -> None:
    for field in fields_of(family):
        assert field[0].islower()
        assert "_" not in field
        assert (field in TIMES) == field.endswith(("Time", "Before", "Start", "End"))


def test_problems_name_the_field_and_the_expected_form() -> None:
    problems = dict(
        field_problems("system-event", {"eventId": 5, "notBefore": "soon", "extra": 1, "instanceId": "i"})
    )
    assert set(problems) == {"eventId", "notBefore"}
    assert problems["eventId"] == "text"
    assert "UTC time" in problems["notBefore"]
