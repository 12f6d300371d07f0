"""`heliograph topics --plan`."""

from __future__ import annotations

import pytest

from tests.heliograph.cli.conftest import Commands


@pytest.fixture
def with_cluster(call: Commands, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Commands on a home whose configuration names a cluster that cannot be reached."""
    monkeypatch.setenv("HELIOGRAPH_BUS_URL", "kafka://127.0.0.1:1?replication=3")
    monkeypatch.setenv("HELIOGRAPH_BUS_NAMESPACE", "site")
    monkeypatch.setenv("HELIOGRAPH_BUS_RETENTION_HOURS", "2")
    monkeypatch.setenv("HELIOGRAPH_EVENTS_TOPICS", "events.rds.*,events.oss.bucket")
    return call


def test_the_plan_has_topics_and_acls_of_the_configuration(with_cluster: Commands) -> None:
    answer = with_cluster.done("topics", "--plan", "--json")
    topics = {row["topic"]: row for row in answer.rows if "topic" in row}
    events = topics["site.events.oss.bucket"]
    assert (events["partitions"], events["replication"]) == (12, 3)
    assert "retention.ms=7200000" in events["settings"].split()
    assert "retention.ms=-1" in topics["site.deliveries"]["settings"].split()
    rights = {(row["role"], row["name"]): row["allow"] for row in answer.rows if "role" in row}
    assert rights["archiver", "site.events.*"] == "Read, Describe"
    assert "'events.rds.*'" in answer.err


def test_the_plan_is_printed_as_two_tables(with_cluster: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_BUS_PARTITIONS", "24")
    tables = with_cluster.done("topics", "--plan").out
    assert [line.split()[0] for line in tables.splitlines() if line.startswith(("TOPIC", "ROLE"))] == [
        "TOPIC",
        "ROLE",
    ]
    assert "site.events.ecs.disk " in tables
    assert " 24 " in tables


def test_another_bus_than_kafka_needs_no_plan(call: Commands) -> None:
    assert "nothing to create" in call.done("topics", "--plan").out
    assert not (call.home / "bus.db").exists()
    answer = call.done("topics", "--plan", "--json")
    assert (answer.out, "nothing to create" in answer.err) == ("", True)
