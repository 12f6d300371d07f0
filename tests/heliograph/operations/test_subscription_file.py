"""Subscription files: reading and checking."""

from __future__ import annotations

import pytest

from heliograph.operations.subscription_file import check_targets, find_warnings, read_file
from schemas.errors import InvalidSubscription
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
TARGET = '[[subscription.target]]\nid = "ops"\nkind = "note"\ntext = "hello"\n'


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidSubscription) as caught:
        read_file(text)
    return caught.value.problems


def test_the_tables_of_a_file_become_subscriptions() -> None:
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
        " put it into `arns`, or only the part after its '/' into `ids`",
        "subscription 'first': resources.arns: 'i-1' must be one whole value,"
        " as in acs:ecs:cn-hangzhou:1234:instance/i-bp1ecr; leave the list empty for all",
        "subscription 'first': mute_for: 'soon' is not a duration; expected the form 90s, 5m or 2h, or seconds as a number",
        "subscription 2: name: is missing",
        "subscription 2: enabled: must be true or false",
        "subscription 2: target: is missing",
        "subscription 2: levles: is not a known key, did you mean levels?",
        'subscription \'no good\': names: must be a list, as in ["a", "b"]',
        "subscription 'no good': name: 'no good' is not a name; write 1 to 128 letters, digits, '.', '_' or '-',"
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
def test_a_problem_of_a_target_names_target_and_key(keys: str, problem: str) -> None:
    targets = f'{TARGET}\n[[subscription.target]]\nid = "b"\nkind = "topic"\ntopic = "b"\n{keys}'
    assert refused(f'[[subscription]]\nname = "two"\n{targets}') == (f"subscription 'two': {problem}",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "subscription: a file holds at least one [[subscription]] table"),
        ("subscription = 3", "subscription: a file holds at least one [[subscription]] table"),
        ("[[subscription]", "not TOML: "),
        (
            '[[subscription]]\nname = "a"\ntarget = []',
            "subscription 'a': target: must have at least one item",
        ),
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
        (
            '[[subscription]]\nname = "a"\n' + TARGET + TARGET,
            "subscription 'a': several targets have the same id: ops; give",
        ),
        (
            f'[[subscription]]\nname = "a"\n{TARGET}\n[[subscription]]\nname = "a"\n{TARGET}',
            "subscription 'a': name: is used 2 times in this file; give each subscription its own name",
        ),
        (
            f'[[subscription]]\nname = "a"\n{TARGET}\n[[subscription]]\nname = "b"\n{TARGET}batch = 3',
            "subscription 'b': target 'ops': differs from the target of that id in subscription 'a';",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_problem(text: str, problem: str) -> None:
    (found,) = refused(text)
    assert found.startswith(problem)


def test_an_id_may_have_asterisks() -> None:
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
        "subscription 'one': target 'c': url: is not a known key; the known keys are text",
        "subscription 'one': target 'c': lane: is not a known key, did you mean lanes?",
    )


def test_a_name_missing_from_the_catalogue_gives_a_warning() -> None:
    names = ["Disk:Stalled:Executing", "Disk:Staled:Executing", "Disk:S*", "Instance:Unheard"]
    assert find_warnings(
        [subscription("one", names=names), subscription("two", product="RDS", names=names)]
    ) == [
        "subscription 'one': names: 'Disk:Staled:Executing' is not in the catalogue;"
        " did you mean Disk:Stalled:Executing or Disk:Stalled:Executed?",
        "subscription 'one': names: 'Instance:Unheard' is not in the catalogue",
    ]
