"""The index of subscriptions, compared with the clauses checked one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.match import index
from router.match.explain import explain
from router.match.index import Table
from schemas.notification import Routing
from schemas.subscription import Subscription
from tests.router.events import routing, subscription

PRODUCTS = ("ECS", "ecs", "RDS")
NAMES = (
    "Instance:StateChange",
    "Disk:Stalled:Executing",
    "Instance:SystemMaintenance.Reboot:Scheduled",
    "Instance:SystemFailure.Reboot:Executing",
    "Instance:InstanceExpiration.Release:Scheduled",
    "Instance:Unheard:Of",
    "Instance:Unheard\nOf",
)
PATTERNS = (
    "*",
    "Instance:*",
    "*:Executing",
    "Instance:System*.Reboot:*",
    "*S*t*e*",
    "Disk:*:Disk",
    "**",
    "*.*",
)
REGIONS = ("cn-hangzhou", "cn-beijing", "us-east-1")
IDS = ("i-one", "i-two", "d-one", "deep/one", "i-bp1********go")
ARNS = tuple(f"acs:ecs:{region}:1690:instance/{one}" for region in REGIONS[:2] for one in IDS)


def some(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=3)


@st.composite
def subscriptions(draw: st.DrawFn) -> list[Subscription]:
    return [
        subscription(
            f"s{number}",
            enabled=draw(st.integers(0, 5)) > 0,
            product=draw(st.none() | st.sampled_from(PRODUCTS)),
            event_types=draw(some(("StatusNotification", "Exception", "Maintenance", "*"))),
            levels=draw(some(("CRITICAL", "WARN", "INFO"))),
            names=draw(some(NAMES[:-1] + PATTERNS)),
            resources={"regions": draw(some(REGIONS)), "ids": draw(some(IDS)), "arns": draw(some(ARNS))},
        )
        for number in range(draw(st.integers(0, 6)))
    ]


EVENTS = st.builds(
    Routing,
    product=st.sampled_from(PRODUCTS),
    level=st.sampled_from(("CRITICAL", "WARN", "INFO")),
    name=st.sampled_from(NAMES) | st.text(alphabet="Sate:.\n", max_size=12),
    resource_id=st.sampled_from(ARNS),
    region_id=st.sampled_from(REGIONS),
    user_id=st.just("1690"),
)


def names(table: Table, event: Routing) -> list[str]:
    return sorted(match.subscription for match in table.match(event))


@given(subscriptions(), st.lists(EVENTS, min_size=1, max_size=8))
def test_the_index_agrees_with_the_clauses(wanted: list[Subscription], events: list[Routing]) -> None:
    table = Table(wanted)
    for event in events * 2:
        plain = [one.name for one in wanted if all(clause.held for clause in explain(one, event))]
        assert names(table, event) == plain


def test_a_match_has_every_target_of_its_subscription() -> None:
    targets = [{"id": one, "kind": "note", "text": one} for one in ("first", "second")]
    (match,) = Table([subscription("both", target=targets)]).match(routing())
    assert match.subscription == "both"
    assert [target.id for target in match.targets] == ["first", "second"]


def test_a_resource_in_many_lists_of_one_subscription_matches_once() -> None:
    event = routing()
    resources = {"ids": ["i-one", "i-one"], "arns": [event.resource_id, event.resource_id]}
    assert names(Table([subscription("once", resources=resources)]), event) == ["once"]


def test_subscriptions_by_id_are_not_checked_for_another_resource() -> None:
    table = Table(subscription(f"s{number}", resources={"ids": [f"i-{number}"]}) for number in range(2000))
    event = routing(resourceId="acs:ecs:cn-hangzhou:1690:instance/i-77")
    judged = 0
    wants = index.Entry.wants

    def counted(*arguments: object) -> bool:
        nonlocal judged
        judged += 1
        return bool(wants(*arguments))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index.Entry, "wants", counted)
        assert names(table, event) == ["s77"]
    assert judged == 1


def test_remembered_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_REMEMBERED", 10)
    table = Table([subscription("all"), subscription("some", names=["N:1*"])])
    for number in range(100):
        event = routing(product="RDS", name=f"N:{number}")
        expected = ["all", "some"] if str(number).startswith("1") else ["all"]
        assert names(table, event) == expected
        assert len(vars(table)["_remembered"]) <= 10


def test_a_hostile_pattern_takes_linear_time() -> None:
    pattern = "*a" * 60 + "*b"
    assert (
        names(
            Table([subscription("slow", product="RDS", names=[pattern])]),
            routing(product="RDS", name="a" * 500),
        )
        == []
    )
