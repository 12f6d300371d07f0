"""Targets: their states, and how they are suspended and resumed."""

from __future__ import annotations

import pytest

from heliograph.bus.memory import MemoryBus
from heliograph.operations.subscriptions import apply
from heliograph.operations.targets import (
    find_target,
    list_targets,
    mask_secrets,
    resume_target,
    suspend_target,
)
from schemas.errors import NotFound
from schemas.subscription import Target
from schemas.target_state import TargetStatus
from tests.router.events import KINDS, subscription


@pytest.fixture
def bus() -> MemoryBus:
    bus = MemoryBus()
    shared = {"id": "ops", "kind": "note", "text": "x"}
    own = {"id": "audit", "kind": "note", "text": "y"}
    apply(bus, [subscription("a", target=[shared, own]), subscription("b", target=[shared])], KINDS)
    return bus


def test_targets_are_listed_by_id_with_their_owners(bus: MemoryBus) -> None:
    assert [(one.target.id, one.status, one.owners) for one in list_targets(bus, 1)] == [
        ("audit", TargetStatus.ACTIVE, ["a"]),
        ("ops", TargetStatus.ACTIVE, ["a", "b"]),
    ]


def test_a_target_is_suspended_until_it_is_resumed(bus: MemoryBus) -> None:
    suspend_target(bus, "ops", now=7, by="jo@host", why="maintenance")
    condition = find_target(bus, "ops", 8).condition
    assert condition is not None
    assert (condition.status, condition.since, condition.by, condition.why) == (
        TargetStatus.SUSPENDED,
        7,
        "jo@host",
        "maintenance",
    )
    assert resume_target(bus, "ops") == [TargetStatus.SUSPENDED]
    assert find_target(bus, "ops", 8).condition is None
    assert resume_target(bus, "ops") == []


def test_an_unknown_target_is_not_found_and_a_near_id_suggested(bus: MemoryBus) -> None:
    with pytest.raises(NotFound, match=r"^no target with the id 'oops', did you mean ops\?$"):
        find_target(bus, "oops", 1)
    with pytest.raises(NotFound, match="no target with the id 'none'; `heliograph targets list`"):
        resume_target(bus, "none")
    with pytest.raises(NotFound, match="'none'"):
        suspend_target(bus, "none", now=1, by="jo@host", why="x")


def test_header_values_are_masked_unless_they_are_references() -> None:
    headers = {"X-Team": "hunter2", "Authorization": "env:TOKEN"}
    target = Target.model_validate(
        {"id": "hook", "kind": "callback", "url": "http://ops.test/", "headers": headers}
    )
    masked = mask_secrets(target)["headers"]
    assert masked["Authorization"] == "env:TOKEN"
    assert "hunter2" not in str(masked)
