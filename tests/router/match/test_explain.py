"""The clauses of a filter, checked one by one."""

from __future__ import annotations

import pytest

from router.match.explain import explain
from tests.router.events import routing, subscription


def failed(event_changes: dict[str, object], **filter_: object) -> list[str]:
    return [one.name for one in explain(subscription(**filter_), routing(**event_changes)) if not one.held]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event_changes", "wanted", "clauses"),
    [
        ({}, {}, []),
        ({}, {"enabled": False}, ["enabled"]),
        ({}, {"product": "ecs"}, []),
        ({}, {"product": "RDS"}, ["product"]),
        ({}, {"event_types": ["StatusNotification"]}, []),
        ({}, {"event_types": ["Exception"], "levels": ["WARN"]}, ["event_types", "levels"]),
        ({"name": "Instance:SystemFailure.Reboot:Executing"}, {"event_types": ["Exception"]}, []),
        (
            {"name": "Instance:AccountUnbalanced.Stop:Avoided"},
            {"event_types": ["Exception"]},
            ["event_types"],
        ),
        ({"name": "Instance:AccountUnbalanced.Stop:Avoided"}, {"event_types": ["*"]}, []),
        ({"name": "Instance:AccountUnbalanced.Stop:Avoided"}, {}, []),
        ({}, {"levels": ["CRITICAL", "INFO"]}, []),
        ({}, {"names": ["Instance:*"]}, []),
        ({}, {"names": ["instance:statechange"]}, ["names"]),
        ({}, {"names": ["Disk:*", "*Change"]}, []),
        ({}, {"resources": {"ids": ["i-one"]}}, []),
        ({}, {"resources": {"ids": ["i-on"]}}, ["resources"]),
        ({}, {"resources": {"ids": ["i-two"], "arns": ["acs:ecs:cn-hangzhou:1690:instance/i-one"]}}, []),
        ({}, {"resources": {"ids": ["i-one"], "regions": ["cn-beijing"]}}, ["resources.regions"]),
        ({"regionId": "cn-beijing"}, {"resources": {"regions": ["cn-beijing"]}}, []),
    ],
)
def test_each_clause_is_checked_by_itself(
    event_changes: dict[str, object], wanted: dict[str, object], clauses: list[str]
) -> None:
    assert failed(event_changes, **wanted) == clauses


def test_a_clause_has_the_wanted_and_the_found_values() -> None:
    levels = next(
        one for one in explain(subscription(levels=["WARN", "CRITICAL"]), routing()) if one.name == "levels"
    )
    assert (levels.held, levels.wanted, levels.found) == (False, "WARN, CRITICAL", "INFO")


def test_a_missing_clause_wants_any_and_a_missing_value_is_none() -> None:
    event = routing(name="Instance:AccountUnbalanced.Stop:Avoided")
    types = next(one for one in explain(subscription(), event) if one.name == "event_types")
    assert (types.held, types.wanted, types.found) == (True, "any", "none")
