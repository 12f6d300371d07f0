"""Subscription files, and how subscriptions come into force."""

from __future__ import annotations

import threading

import pytest
from pydantic import BaseModel, ConfigDict

from heliograph.bus.memory import MemoryBus
from heliograph.operations.subscriptions import (
    Confirmed,
    apply,
    await_routers,
    check_targets,
    delete,
    doubts,
    read_file,
    set_enabled,
)
from router.configuration import Configuration
from router.routing import ROUTERS, routed_record
from schemas.errors import InvalidSubscription, NotFound
from schemas.record import FORMAT
from schemas.subscription import Subscription
from schemas.topics import SUBSCRIPTIONS
from sinks.base import SinkKind
from tests.router.events import KINDS, subscription

FILE = """
[[subscription]]
name = "critical-maintenance"
product = "ECS"
event_types = ["Maintenance", "Exception"]
levels = ["CRITICAL", "WARN"]
names = ["Instance:SystemMaintenance.*", "Disk:Stalled:Executing"]
resources = { regions = ["cn-hangzhou"], ids = [], arns = [] }

[[subscription.target]]
id = "ops"
kind = "note"
text = "hello"
retry = { tries = 3 }
"""


class AnySettings(BaseModel):
    model_config = ConfigDict(extra="allow")


TARGET = '[[subscription.target]]\nid = "ops"\nkind = "note"\ntext = "hello"\n'


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidSubscription) as caught:
        read_file(text)
    return caught.value.problems


def in_force(bus: MemoryBus) -> dict[str, Subscription]:
    configuration = Configuration(bus)
    configuration.refresh()
    return dict(configuration.subscriptions)


def test_a_file_is_read() -> None:
    (one,) = read_file(FILE)
    assert (one.name, one.product, one.levels) == ("critical-maintenance", "ECS", ("CRITICAL", "WARN"))
    assert one.event_types == ("Maintenance", "Exception")
    assert one.resources.regions == ("cn-hangzhou",)
    (target,) = one.target
    assert (target.id, target.kind, target.settings, target.retry.tries) == (
        "ops",
        "note",
        {"text": "hello"},
        3,
    )


def test_every_problem_of_a_file_is_listed() -> None:
    text = f"""
    colour = "red"
    [[subscription]]
    name = "first"
    levels = ["FATAL"]
    event_types = ["Maintenence"]
    mute_for = "soon"
    pattern = {{}}
    resources = {{ groups = ["web"], ids = ["acs:ecs:cn-hangzhou:1:instance/i-1"], arns = ["i-1"] }}
    {TARGET}
    [[subscription]]
    levles = ["INFO"]
    enabled = "yes, please"
    [[subscription]]
    name = "no good"
    names = "Disk:*"
    {TARGET}
    retry = {{ tries = 0, frist = 1 }}
    """
    assert refused(text) == (
        "colour: is not a known key; a file holds [[subscription]] tables",
        "subscription 'first': pattern: not supported yet by this version",
        "subscription 'first': resources.groups: not supported yet by this version",
        "subscription 'first': event_types: 'Maintenence' is not one of StatusNotification, Exception, Maintenance, *",
        "subscription 'first': levels: 'FATAL' is not one of CRITICAL, WARN, INFO",
        "subscription 'first': resources.ids: 'acs:ecs:cn-hangzhou:1:instance/i-1' is an ARN;"
        " put it into `arns`, or only what follows its '/' into `ids`",
        "subscription 'first': resources.arns: 'i-1' must be one whole value,"
        " as in acs:ecs:cn-hangzhou:1234:instance/i-bp1ecr; leave the list empty for all",
        "subscription 'first': mute_for: 'soon' is not a duration; expected the form 90s, 5m or 2h, or seconds as a number",
        "subscription 2: name: is missing",
        "subscription 2: enabled: must be true or false",
        "subscription 2: target: is missing",
        "subscription 2: levles: is not a known key, did you mean levels?",
        'subscription \'no good\': names: must be a list, as in ["a", "b"]',
        "subscription 'no good': name: 'no good' is not a name: 1 to 128 letters, digits, '.', '_' or '-',"
        " the first a letter or digit",
        "subscription 'no good': target[1].retry.tries: must be greater than or equal to 1",
        "subscription 'no good': target[1].retry.frist: is not a known key, did you mean first?",
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("breaker = true", "target[2].breaker: must be a table, or false"),
        ("breaker = { share = 0 }", "target[2].breaker.share: must be greater than 0"),
        ("breaker = { shar = 1 }", "target[2].breaker.shar: is not a known key, did you mean share?"),
        ("lanes = 9", "target[2]: concurrency: each lane needs a share; make it at least `lanes`"),
    ],
)
def test_what_is_wrong_with_a_target_names_the_target_and_the_key(keys: str, problem: str) -> None:
    targets = f'{TARGET}\n[[subscription.target]]\nid = "b"\nkind = "topic"\ntopic = "b"\n{keys}'
    assert refused(f'[[subscription]]\nname = "two"\n{targets}') == (f"subscription 'two': {problem}",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "subscription: a file holds at least one [[subscription]] table"),
        ("subscription = 3", "subscription: a file holds at least one [[subscription]] table"),
        ("[[subscription]", "not TOML: "),
        ('[[subscription]]\nname = "a"\ntarget = []', "subscription 'a': target: must hold at least one"),
        ('[[subscription]]\nname = "a"\ntarget = 3', "subscription 'a': target: must be a list"),
        ('[[subscription]]\nname = "a"\ntarget = [3]', "subscription 'a': target: must be a table"),
        (
            '[[subscription]]\nname = "a"\nresources = 1\n' + TARGET,
            "subscription 'a': resources: must be a table",
        ),
        (
            '[[subscription]]\nname = "a"\nproduct = "*"\n' + TARGET,
            "subscription 'a': product: '*' is not a product",
        ),
        (
            '[[subscription]]\nname = "a"\nnames = ["a b"]\n' + TARGET,
            "subscription 'a': names: 'a b' is not a name",
        ),
        (
            '[[subscription]]\nname = "a"\nresources.arns = ["acs:ecs:*:1:instance/i-1"]\n' + TARGET,
            "subscription 'a': resources.arns: 'acs:ecs:*:1:instance/i-1' must be one whole value",
        ),
        ('[[subscription]]\nname = "a"\n' + TARGET + TARGET, "subscription 'a': target ids must differ: ops"),
        (
            f'[[subscription]]\nname = "a"\n{TARGET}\n[[subscription]]\nname = "a"\n{TARGET}',
            "subscription 'a': name: used 2 times in this file",
        ),
        (
            f'[[subscription]]\nname = "a"\n{TARGET}\n[[subscription]]\nname = "b"\n{TARGET}batch = 3',
            "subscription 'b': target 'ops': differs from the target of that id in subscription 'a';",
        ),
    ],
)
def test_a_file_is_refused(text: str, problem: str) -> None:
    (found,) = refused(text)
    assert found.startswith(problem)


def test_a_masked_id_is_an_id() -> None:
    ids = ["i-bp1ecr********5go2go"]
    arns = ["acs:ecs:cn-hangzhou:169070********30:instance/i-bp1ecr********5go2go"]
    assert subscription(resources={"ids": ids, "arns": arns}).resources.ids == tuple(ids)


def test_targets_are_checked_by_their_kind() -> None:
    targets = [
        {"id": "a", "kind": "nope"},
        {"id": "b", "kind": "note"},
        {"id": "c", "kind": "note", "text": 3, "url": "x", "lane": 2},
    ]
    with pytest.raises(InvalidSubscription) as caught:
        check_targets([subscription("one", target=targets)], KINDS)
    assert caught.value.problems == (
        "subscription 'one': target 'a': kind: 'nope' is not one of note",
        "subscription 'one': target 'b': text: is missing",
        "subscription 'one': target 'c': text: must be text in quotes",
        "subscription 'one': target 'c': url: is not a known key; known are text",
        "subscription 'one': target 'c': lane: is not a known key, did you mean lanes?",
    )


def test_names_outside_the_catalogue_are_doubted() -> None:
    names = ["Disk:Stalled:Executing", "Disk:Staled:Executing", "Disk:S*", "Instance:Unheard"]
    assert doubts([subscription("one", names=names), subscription("two", product="RDS", names=names)]) == [
        "subscription 'one': names: 'Disk:Staled:Executing' is not in the catalogue;"
        " did you mean Disk:Stalled:Executing or Disk:Stalled:Executed?",
        "subscription 'one': names: 'Instance:Unheard' is not in the catalogue",
    ]


def test_only_what_differs_is_appended() -> None:
    bus = MemoryBus()
    first = apply(bus, [subscription("a"), subscription("b")], KINDS)
    assert first == (2, ("a", "b"), (), (), ())
    second = apply(bus, [subscription("a"), subscription("b", levels=["INFO"]), subscription("c")], KINDS)
    assert second == (4, ("c",), ("b",), ("a",), ())
    assert apply(bus, [subscription("c"), subscription("a")], KINDS) == (4, (), (), ("c", "a"), ())
    assert in_force(bus)["b"].levels == ("INFO",)


def test_records_of_subscriptions_are_named_and_have_a_format() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    delete(bus, "a")
    (partition,) = bus.extents(SUBSCRIPTIONS)
    first, second = bus.read(partition, 0).records
    assert (first.key, first.header(FORMAT)) == (b"a", b"1")
    assert Subscription.model_validate_json(first.value) == subscription("a")
    assert (second.key, second.header(FORMAT), second.value) == (b"a", b"1", b"")


def test_what_json_writes_differently_is_no_change() -> None:
    bus = MemoryBus()
    (one,) = read_file(FILE.replace('text = "hello"', "text = 2020-01-01"))
    kinds = {"note": SinkKind(AnySettings, KINDS["note"].build)}
    assert apply(bus, [one], kinds).created == ("critical-maintenance",)
    assert apply(bus, [one], kinds).unchanged == ("critical-maintenance",)


def test_a_bad_subscription_keeps_all_out() -> None:
    bus = MemoryBus()
    bad = subscription("bad", target=[{"id": "x", "kind": "nope"}])
    with pytest.raises(InvalidSubscription):
        apply(bus, [subscription("good"), bad], KINDS)
    assert in_force(bus) == {}


def shared(name: str, text: str) -> Subscription:
    return subscription(name, target=[{"id": "shared", "kind": "note", "text": text}])


def test_a_target_is_shared_only_as_one_definition() -> None:
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


def test_what_breaks_the_order_of_a_target_is_named() -> None:
    bus = MemoryBus()

    def applied(**settings: object) -> tuple[str, ...]:
        target = {"id": "ops", "kind": "note", "text": "x", **settings}
        return apply(bus, [subscription("one", target=[target])], KINDS).disturbed

    assert applied(ordered=True) == ()
    assert applied(ordered=True, rate=5) == ()
    assert applied(ordered=True, lanes=2) == ("ops",)
    assert applied(lanes=4) == ()
    assert applied(lanes=4, ordered=True) == ("ops",)


def test_delete() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a"), subscription("b")], KINDS)
    assert delete(bus, "a") == 3
    assert list(in_force(bus)) == ["b"]
    with pytest.raises(NotFound, match=r"^subscription 'a': there is none$"):
        delete(bus, "a")


def test_enable_and_disable() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    assert set_enabled(bus, "a", False) == 2
    assert not in_force(bus)["a"].enabled
    assert set_enabled(bus, "a", False) == 2
    assert set_enabled(bus, "a", True) == 3
    assert in_force(bus)["a"] == subscription("a")
    with pytest.raises(NotFound, match=r"^subscription 'al': there is none$"):
        set_enabled(bus, "al", True)


def test_a_misspelt_name_is_recognised() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("critical")], KINDS)
    with pytest.raises(NotFound, match=r"^subscription 'critcal': there is none, did you mean critical\?$"):
        delete(bus, "critcal")


def test_nobody_to_wait_for() -> None:
    assert await_routers(MemoryBus(), 3, 60) == Confirmed(frozenset(), frozenset())


def test_routers_are_waited_for_until_each_reports_the_version() -> None:
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


def test_a_router_that_has_left_is_not_waited_for() -> None:
    bus = MemoryBus()
    bus.consumer(["events.*"], ROUTERS).close()
    assert await_routers(bus, 1, 60).members == frozenset()
