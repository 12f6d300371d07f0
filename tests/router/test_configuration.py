"""The view of subscriptions in force."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
import structlog.testing

from heliograph.bus.memory import MemoryBus
from heliograph.operations.subscriptions import apply, delete, set_enabled
from router.configuration import Configuration
from schemas.clock import ManualClock
from schemas.record import NewRecord, TopicPartition
from schemas.topics import SUBSCRIPTIONS
from tests.router.events import KINDS, subscription


def names(configuration: Configuration) -> Sequence[str]:
    return list(configuration.subscriptions)


def test_a_refresh_reads_new_subscriptions() -> None:
    bus = MemoryBus()
    configuration = Configuration(bus)
    assert not configuration.refresh()
    assert configuration.version == 0
    version = apply(bus, [subscription("a"), subscription("b")], KINDS).version
    assert names(configuration) == []
    assert configuration.refresh()
    assert (configuration.version, names(configuration)) == (version, ["a", "b"])
    assert set(configuration.read_targets()) == {"a-target", "b-target"}
    assert not configuration.refresh()
    delete(bus, "a")
    assert configuration.refresh()
    assert names(configuration) == ["b"]
    assert set(configuration.read_targets()) == {"b-target"}


def test_targets_of_a_disabled_subscription_are_kept() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    set_enabled(bus, "a", False)
    configuration = Configuration(bus)
    configuration.refresh()
    assert set(configuration.read_targets()) == {"a-target"}


def test_every_version_can_be_read_again() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    apply(bus, [subscription("a", levels=["INFO"]), subscription("b")], KINDS)
    delete(bus, "a")
    configuration = Configuration(bus)
    assert configuration.read_subscriptions_at(0) == {}
    assert configuration.read_subscriptions_at(1) == {"a": subscription("a")}
    assert configuration.read_subscriptions_at(2) == {"a": subscription("a"), "b": subscription("b")}
    assert configuration.read_subscriptions_at(3) == {
        "a": subscription("a", levels=["INFO"]),
        "b": subscription("b"),
    }
    assert set(configuration.read_subscriptions_at(4)) == {"b"}
    assert configuration.version == 0


@pytest.mark.parametrize("value", [b"{", b"\xff", b'{"name": "a"}'])
def test_an_unreadable_record_keeps_the_subscription_before_it(value: bytes) -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a")], KINDS)
    bus.append([NewRecord(SUBSCRIPTIONS, value, b"a"), NewRecord(SUBSCRIPTIONS, b"", None)])
    configuration = Configuration(bus)
    configuration.refresh()
    assert (configuration.version, names(configuration)) == (3, ["a"])


def test_a_topic_without_its_first_records_is_read_from_its_start() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a"), subscription("b")], KINDS)
    bus.truncate(TopicPartition(SUBSCRIPTIONS, 0), 1)
    configuration = Configuration(bus)
    configuration.refresh()
    assert (configuration.version, names(configuration)) == (2, ["b"])


def test_a_topic_without_any_records_is_read_from_its_end() -> None:
    bus = MemoryBus()
    apply(bus, [subscription("a"), subscription("b")], KINDS)
    bus.truncate(TopicPartition(SUBSCRIPTIONS, 0), 2)
    configuration = Configuration(bus)
    configuration.refresh()
    assert (configuration.version, names(configuration)) == (2, [])


def test_more_records_than_one_read_returns_are_read() -> None:
    bus = MemoryBus()
    bus.append([NewRecord(SUBSCRIPTIONS, b"", b"%d" % number) for number in range(5001)])
    apply(bus, [subscription("a")], KINDS)
    configuration = Configuration(bus)
    configuration.refresh()
    assert (configuration.version, names(configuration)) == (5002, ["a"])
    assert configuration.read_subscriptions_at(5001) == {}


def test_an_unreadable_record_is_logged_without_its_values() -> None:
    bus = MemoryBus(ManualClock())
    target = {
        "id": "ops",
        "kind": "callback",
        "concurrency": "hunter2",
        "headers": {"Authorization": "hunter2"},
    }
    bus.append([NewRecord(SUBSCRIPTIONS, msgspec.json.encode({"name": "a", "target": [target]}), b"a")])
    with structlog.testing.capture_logs() as logged:
        Configuration(bus).refresh()
    assert "concurrency" in str(logged)
    assert "hunter2" not in str(logged)
