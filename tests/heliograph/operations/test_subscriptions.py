"""Subscriptions: what is in force, how it changes, and how routers confirm it."""

from __future__ import annotations

import threading

import pytest
from pydantic import BaseModel, ConfigDict

from heliograph.bus.memory import MemoryBus
from heliograph.operations.delivery_settings import put
from heliograph.operations.subscription_file import read_file
from heliograph.operations.subscriptions import (
    ChangeKind,
    Confirmed,
    apply,
    await_routers,
    delete,
    explain_match,
    find_subscription,
    list_changes,
    list_subscriptions,
    plan,
    set_enabled,
)
from router.routing import ROUTERS, routed_record
from schemas.clock import ManualClock
from schemas.delivery_settings import BucketDelivery, DeliverySettings
from schemas.errors import InvalidSubscription, NotFound
from schemas.record import FORMAT, NewRecord
from schemas.subscription import Subscription
from schemas.topics import SUBSCRIPTIONS
from sinks.base import SinkKind
from tests.router.events import KINDS, event, subscription

FILE = """
[[subscription]]
name = "dated"

[[subscription.target]]
id = "ops"
kind = "note"
text = 2020-01-01
"""


class AnySettings(BaseModel):
    model_config = ConfigDict(extra="allow")


def in_force(bus: MemoryBus) -> dict[str, Subscription]:
    return {one.name: one for one in list_subscriptions(bus)}


def test_only_new_and_changed_subscriptions_are_appended() -> None:
    bus = MemoryBus()
    first = apply(bus, [subscription("a"), subscription("b")], KINDS)
    assert first == (2, ("a", "b"), (), (), ())
    second = apply(bus, [subscription("a"), subscription("b", levels=["INFO"]), subscription("c")], KINDS)
    assert second == (4, ("c",), ("b",), ("a",), ())
    assert apply(bus, [subscription("c"), subscription("a")], KINDS) == (4, (), (), ("c", "a"), ())
    assert in_force(bus)["b"].levels == ("INFO",)


def test_a_plan_says_what_apply_does_and_appends_nothing() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a"), subscription("b")], KINDS)
    given = [subscription("a"), subscription("b", levels=["INFO"]), subscription("c")]
    assert plan(bus, given, KINDS) == (2, ("c",), ("b",), ("a",), ())
    assert [one.version for one in list_changes(bus)] == [1, 2]
    assert apply(bus, given, KINDS) == (4, ("c",), ("b",), ("a",), ())


def test_the_history_has_each_change_with_its_version_and_time() -> None:
    clock = ManualClock()
    bus = MemoryBus(clock)
    began = clock.now()
    apply(bus, [subscription("a")], KINDS)
    clock.advance(1)
    apply(bus, [subscription("a", levels=["INFO"])], KINDS)
    set_enabled(bus, "a", False)
    set_enabled(bus, "a", True)
    delete(bus, "a")
    put(bus, DeliverySettings(region="r", bucket=BucketDelivery(url="memory://")))
    bus.append([NewRecord(SUBSCRIPTIONS, b"junk", b"b")])
    apply(bus, [subscription("a")], KINDS)
    changes = list(list_changes(bus))
    assert [(one.version, one.kind, one.name) for one in changes] == [
        (1, ChangeKind.CREATED, "a"),
        (2, ChangeKind.CHANGED, "a"),
        (3, ChangeKind.DISABLED, "a"),
        (4, ChangeKind.ENABLED, "a"),
        (5, ChangeKind.DELETED, "a"),
        (6, ChangeKind.SETTINGS, ""),
        (7, ChangeKind.UNREADABLE, "b"),
        (8, ChangeKind.CREATED, "a"),
    ]
    assert [one.at - began for one in changes[:2]] == [0, 1000]
    assert changes[1].subscription == subscription("a", levels=["INFO"])
    assert changes[4].subscription is None


def test_an_explanation_names_the_clauses_that_do_not_hold() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("yes"), subscription("no", levels=["CRITICAL"], names=["Disk:*"])], KINDS)
    yes, no = explain_match(bus, event())
    assert (yes.subscription, list(yes.failed)) == ("yes", [])
    assert [clause.name for clause in no.failed] == ["levels", "names"]


def test_a_subscription_is_found_by_its_name() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    assert find_subscription(bus, "a") == subscription("a")
    with pytest.raises(NotFound, match="no subscription named 'b'"):
        find_subscription(bus, "b")


def test_records_of_subscriptions_have_name_and_format() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    delete(bus, "a")
    (partition,) = bus.extents(SUBSCRIPTIONS)
    first, second = bus.read(partition, 0).records
    assert (first.key, first.header(FORMAT)) == (b"a", b"1")
    assert Subscription.model_validate_json(first.value) == subscription("a")
    assert (second.key, second.header(FORMAT), second.value) == (b"a", b"1", b"")


def test_a_value_that_json_writes_differently_is_no_change() -> None:
    bus = MemoryBus()
    (one,) = read_file(FILE)
    kinds = {"note": SinkKind(AnySettings, KINDS["note"].build)}
    assert apply(bus, [one], kinds).created == ("dated",)
    assert apply(bus, [one], kinds).unchanged == ("dated",)


def test_one_wrong_subscription_keeps_all_from_being_applied() -> None:
    bus = MemoryBus()
    bad = subscription("bad", target=[{"id": "x", "kind": "nope"}])
    with pytest.raises(InvalidSubscription):
        apply(bus, [subscription("good"), bad], KINDS)
    assert in_force(bus) == {}


def shared(name: str, text: str) -> Subscription:
    return subscription(name, target=[{"id": "shared", "kind": "note", "text": text}])


def test_subscriptions_share_a_target_only_with_one_definition() -> None:
    bus = MemoryBus()
    apply(bus, [shared("a", "one")], KINDS)
    apply(bus, [shared("a", "two")], KINDS)
    assert apply(bus, [shared("b", "two")], KINDS).created == ("b",)
    with pytest.raises(InvalidSubscription) as caught:
        apply(bus, [shared("a", "three")], KINDS)
    assert caught.value.problems == (
        "subscription 'a': target 'shared': differs from the target of that id in subscription 'b';"
        " give it another id, or both the same settings",
    )
    assert apply(bus, [shared("a", "three"), shared("b", "three")], KINDS).changed == ("a", "b")


def test_ordered_targets_that_a_change_disturbs_are_named() -> None:
    bus = MemoryBus()

    def applied(**settings: object) -> tuple[str, ...]:
        target = {"id": "ops", "kind": "note", "text": "x", **settings}
        return apply(bus, [subscription("one", target=[target])], KINDS).disturbed

    assert applied(ordered=True) == ()
    assert applied(ordered=True, rate=5) == ()
    assert applied(ordered=True, lanes=2) == ("ops",)
    assert applied(lanes=4) == ()
    assert applied(lanes=4, ordered=True) == ("ops",)


def test_a_deleted_subscription_is_no_longer_in_force() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a"), subscription("b")], KINDS)
    assert delete(bus, "a") == 3
    assert list(in_force(bus)) == ["b"]
    with pytest.raises(
        NotFound, match=r"^no subscription named 'a'; `heliograph subscriptions list` lists the names$"
    ):
        delete(bus, "a")


def test_a_subscription_is_disabled_and_enabled_again() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    assert set_enabled(bus, "a", False) == 2
    assert not in_force(bus)["a"].enabled
    assert set_enabled(bus, "a", False) == 2
    assert set_enabled(bus, "a", True) == 3
    assert in_force(bus)["a"] == subscription("a")
    with pytest.raises(NotFound, match="no subscription named 'al'"):
        set_enabled(bus, "al", True)


def test_the_error_for_a_misspelt_name_suggests_the_right_one() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("critical")], KINDS)
    with pytest.raises(NotFound, match=r"^no subscription named 'critcal', did you mean critical\?$"):
        delete(bus, "critcal")


def test_waiting_for_routers_ends_at_once_without_any() -> None:
    assert await_routers(MemoryBus(), 3, 60) == Confirmed(frozenset(), frozenset())


def test_waiting_for_routers_ends_once_each_reports_the_version() -> None:
    bus = MemoryBus()
    one, two = (bus.consumer(["events.*"], ROUTERS) for _ in range(2))
    bus.append([routed_record(one.member, 5, {}, 0.0), routed_record(two.member, 4, {}, 0.0)])
    both = frozenset({one.member, two.member})
    assert await_routers(bus, 5, 0) == Confirmed(both, frozenset({one.member}))
    waiting = threading.Thread(target=lambda: found.append(await_routers(bus, 5, 60)))
    found: list[Confirmed] = []
    waiting.start()
    bus.append([routed_record(two.member, 6, {}, 0.0)])
    waiting.join()
    assert found == [Confirmed(both, both)]


def test_waiting_for_routers_ignores_a_router_that_has_left() -> None:
    bus = MemoryBus()
    bus.consumer(["events.*"], ROUTERS).close()
    assert await_routers(bus, 1, 60).members == frozenset()
