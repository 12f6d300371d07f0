"""The commands below `heliograph targets`."""

from __future__ import annotations

import pytest

from tests.heliograph.cli.conftest import Commands

TWO = """
[[subscription]]
name = "all"
target = [{ id = "ops", kind = "topic", topic = "ops" }, { id = "audit", kind = "logs", project = "au", logstore = "ev" }]

[[subscription]]
name = "some"
levels = ["CRITICAL"]
target = [{ id = "ops", kind = "topic", topic = "ops" }]
"""

PAGES = """
[[subscription]]
name = "pages"

[[subscription.target]]
id = "pager"
kind = "callback"
url = "https://pager.example.com/in"
headers = { X-Team = "compute", X-Ref = "env:PAGER_REF" }
"""


@pytest.fixture
def with_targets(call: Commands) -> Commands:
    call.done("subscriptions", "apply", "-", feed=TWO.encode())
    return call


def test_targets_are_listed_with_their_subscriptions(with_targets: Commands) -> None:
    audit, ops = with_targets.done("targets", "list", "--json").rows
    assert (audit["target"], audit["kind"], audit["state"]) == ("audit", "logs", "active")
    assert (ops["target"], ops["state"], ops["subscriptions"]) == ("ops", "active", ["all", "some"])
    assert with_targets.done("targets").out == with_targets.done("targets", "list").out


def test_a_target_is_shown_with_its_defaults(with_targets: Commands) -> None:
    (ops,) = with_targets.done("targets", "show", "ops", "--json").rows
    assert ops["definition"]["topic"] == "ops"
    assert ops["definition"]["retry"]["tries"] == 16
    assert "breaker" in ops["definition"]


@pytest.mark.parametrize("shown", [("targets", "show", "pager"), ("subscriptions", "show", "pages")])
def test_header_values_are_masked_wherever_a_target_is_shown(call: Commands, shown: tuple[str, ...]) -> None:
    call.done("subscriptions", "apply", "-", feed=PAGES.encode())
    for arguments in (shown, (*shown, "--json")):
        out = call.done(*arguments).out
        assert "compute" not in out
        assert "env:PAGER_REF" in out
        assert "***" in out
    assert "compute" not in call.done("subscriptions", "list").out


def test_deliveries_of_a_suspended_target_become_dead_letters_until_it_is_resumed(
    with_targets: Commands,
) -> None:
    with_targets.done("targets", "suspend", "ops", "--why", "maintenance")
    with_targets.emit()
    with_targets.done("run", "--until-idle")
    (_, ops) = with_targets.done("targets", "list", "--json").rows
    assert (ops["state"], ops["why"], ops["until"]) == ("suspended", "maintenance", "")
    assert "@" in ops["by"]
    assert ops["since"]
    (letter,) = with_targets.done("dead-letters", "list", "--json").rows
    assert (letter["target"], letter["exhausted"], letter["error"]) == ("ops", "suspended", "suspended")
    assert letter["message"] == "maintenance"
    assert letter["tries"] == 0
    answer = with_targets.done("targets", "resume", "ops")
    assert "lifted: suspended" in answer.out
    assert "dead-letters list --target ops" in answer.err
    assert "nothing to lift" in with_targets.done("targets", "resume", "ops").out
    with_targets.emit()
    with_targets.done("run", "--until-idle")
    states = [
        row["state"] for row in with_targets.done("deliveries", "list", "--target", "ops", "--json").rows
    ]
    assert sorted(states) == ["dead", "delivered"]


@pytest.mark.parametrize("command", [("show",), ("resume",), ("suspend", "--why", "x")])
def test_an_unknown_target_is_named_with_a_suggestion(
    with_targets: Commands, command: tuple[str, ...]
) -> None:
    answer = with_targets("targets", command[0], "opps", *command[1:])
    assert answer.status != 0
    assert "'opps'" in answer.err
    assert "ops" in answer.err.partition("'opps'")[2]
