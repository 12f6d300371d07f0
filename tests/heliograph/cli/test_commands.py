"""Commands that publish, list, explain and keep a home, each on a home of its own."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from heliograph.bus.open import open_bus
from producers.examples import EXAMPLES
from schemas.catalogue import CATALOGUE
from schemas.record import NewRecord
from tests.heliograph.cli.conftest import Commands

APPLIED = b"""
[[subscription]]
name = "running"
names = ["Instance:StateChange"]
[[subscription.target]]
id = "queue"
kind = "topic"
topic = "queue"

[[subscription]]
name = "nobody"
levels = ["CRITICAL"]
[[subscription.target]]
id = "gone"
kind = "callback"
url = "http://127.0.0.1:1/nobody-listens"
retry = { tries = 1 }
"""
RUN = ("run", "--until-idle")


@pytest.fixture
def with_events(call: Commands) -> Commands:
    """Commands on a home with two subscriptions, a delivered event and one with a dead letter."""
    call.done("subscriptions", "apply", "-", feed=APPLIED)
    call.emit()
    call.done(
        "emit",
        "Instance:StateChange",
        "--resource",
        "i-2",
        "--content",
        "state=Stopped",
        "--level",
        "CRITICAL",
    )
    call.done(*RUN)
    return call


def test_every_name_of_the_catalogue_can_be_emitted(call: Commands) -> None:
    for name in CATALOGUE:
        words = ("emit", name, "--resource", "x-1", "--json")
        answer = call(*words)
        if answer.status == 2:
            asked = re.findall(r"(\w+) \(([^)]*)\)", answer.err.partition("content lacks ")[2])
            assert asked, answer.err
            given = [f"{field}={_sample(what)}" for field, what in asked]
            answer = call.done(*words, *(word for one in given for word in ("--content", one)))
        value = json.loads(answer.rows[0]["value"])
        assert value["name"] == name
        assert value["level"] in {CATALOGUE[name].level, *CATALOGUE[name].other_levels}
    built = (
        call.done("tail", "events.ecs.instance", "--json").out
        + call.done("tail", "events.ecs.disk", "--json").out
    )
    values = [json.loads(line)["value"] for line in built.splitlines()]
    assert call.done("validate", "-", feed="\n".join(values).encode()).err.endswith("0 rejected\n")


def _sample(what: str) -> str:
    """Returns a value that fits the description of a field."""
    if what.startswith("a UTC time"):
        return "2019-04-09T04:18:26Z"
    return what.split(" or ", maxsplit=1)[0]


def test_a_file_is_appended_byte_for_byte_and_counted(call: Commands) -> None:
    answer = call(
        "emit", "--file", "-", "--json", feed=b"\n".join([*EXAMPLES, b'{"ver":"1.0"}', b"nonsense"])
    )
    assert answer.status == 1
    assert answer.rows == [{"accepted": len(EXAMPLES), "rejected": 2}]
    assert answer.err.count("rejected: item") == 2
    rejects = call.done("tail", "rejects", "--json").rows
    assert {row["value"] for row in rejects} == {'{"ver":"1.0"}', "nonsense"}
    assert all(row["headers"]["reason"] for row in rejects)
    assert "id: " in call.done("tail", "rejects").out


@pytest.mark.parametrize("feed", [b"", b"  \n\n", b"[]"])
def test_an_empty_input_has_counts_of_zero(call: Commands, feed: bytes) -> None:
    assert call.done("emit", "--file", "-", "--json", feed=feed).rows == [{"accepted": 0, "rejected": 0}]
    assert call.done("validate", "-", feed=feed).out.count("\n") == 1


def test_validate_appends_nothing(call: Commands) -> None:
    answer = call("validate", "-", "--json", feed=b'{"ver":"1.0"}\n' + EXAMPLES[0])
    assert answer.status == 1
    assert [row["number"] for row in answer.rows if row["state"] == "rejected"] == [1]
    assert call.done("topics", "--json").rows == []


def test_a_dead_delivery_is_listed_and_shown_as_delivery_and_dead_letter(with_events: Commands) -> None:
    rows = with_events.done("deliveries", "list", "--json").rows
    assert sorted((row["target"], row["state"]) for row in rows) == [
        ("gone", "dead"), ("queue", "delivered"), ("queue", "delivered"),
    ]  # fmt: skip
    (dead,) = with_events.done("deliveries", "list", "--state", "dead", "--json").rows
    assert with_events.done("deliveries", "show", dead["delivery"], "--json").rows == [dead]
    assert with_events.done(
        "deliveries", "list", "--event", dead["source"], "--target", "gone", "--json"
    ).rows == [dead]
    (letter,) = with_events.done("dead-letters", "list", "--json").rows
    assert letter["delivery"] == dead["delivery"]
    assert json.loads(letter["event"])["level"] == "CRITICAL"
    (shown,) = with_events.done("dead-letters", "show", dead["delivery"], "--json").rows
    assert shown == {**letter, "by": "", "why": ""}
    assert with_events.done("dead-letters", "list", "--target", "queue", "--json").rows == []


def test_deliveries_are_filtered_by_the_time_they_ended(with_events: Commands) -> None:
    def found(*words: str) -> int:
        return len(with_events.done("deliveries", "list", *words, "--json").rows)

    assert found("--since", "1h") == 3
    assert found("--until", "1h") == found("--subscription", "nobody", "--state", "delivered") == 0


def test_a_delivery_is_shown_with_its_attempts(with_events: Commands) -> None:
    (dead,) = with_events.done("deliveries", "list", "--state", "dead", "--json").rows
    (attempt,) = dead["attempts"]
    assert (attempt["number"], attempt["outcome"], dead["tries"]) == (1, "unreachable", 1)
    text = with_events.done("deliveries", "show", dead["delivery"]).out
    assert f"state          {dead['state']}" in text
    assert "redrive" not in text, "empty fields are not printed for people"
    assert text.splitlines()[-1].startswith(f"1       {attempt['at']}")
    assert attempt["answer"] in text


def test_archived_deliveries_are_listed_after_the_bus_is_lost(with_events: Commands) -> None:
    everything = with_events.done("deliveries", "list", "--json").rows
    (with_events.home / "bus.db").unlink()
    assert sorted(with_events.done("deliveries", "list", "--json").rows, key=str) == sorted(
        everything, key=str
    )
    assert with_events.done("deliveries", "show", everything[0]["delivery"], "--json").rows == everything[:1]
    (letter,) = with_events.done("dead-letters", "list", "--json").rows
    assert letter["archived"]


def test_why_answers_for_an_archived_event_by_its_position(
    with_events: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = with_events.done("events", "list", "--json").rows
    before = [with_events.done("why", event["position"], "--json").rows for event in events]
    with closing(open_bus(f"sqlite://{with_events.home}/bus.db", reserve=0, retention=0.0)) as bus:
        bus.maintain()
    assert with_events.done("events", "list", "--json").rows == []
    assert [with_events.done("why", event["position"], "--json").rows for event in events] == before
    assert (
        with_events.done("events", "show", events[0]["position"], "--json").rows[0]["position"]
        == events[0]["position"]
    )
    assert "find an archived event by its position" in with_events.refused("why", events[0]["id"])
    monkeypatch.setenv("HELIOGRAPH_ARCHIVE_URL", f"file://{with_events.home}/bus.db")
    assert "the archive cannot be read" in with_events.refused("why", events[0]["position"])


def test_why_shows_the_answer_of_each_subscription(with_events: Commands) -> None:
    events = with_events.done("events", "list", "--level", "info", "--json").rows
    (event,) = events
    by_position = with_events.done("events", "why", event["position"], "--json").rows
    assert with_events.done("events", "why", event["id"], "--json").rows == by_position
    assert with_events.done("why", event["id"], "--json").rows == by_position
    matched = {row["subscription"]: row for row in by_position}
    assert (matched["running"]["matched"], matched["running"]["state"]) == (True, "delivered")
    assert [one["outcome"] for one in matched["running"]["attempts"]] == ["delivered"]
    assert not matched["nobody"]["matched"]
    assert "CRITICAL" in matched["nobody"]["because"]
    explained = with_events.done("subscriptions", "explain", event["position"], "--json").rows
    assert {row["subscription"]: row["matches"] for row in explained} == {"running": True, "nobody": False}
    value = with_events.done("events", "show", event["id"], "--json").rows[0]["value"]
    assert with_events.done("subscriptions", "explain", "-", "--json", feed=value.encode()).rows == explained


def test_why_names_the_original_of_a_duplicate_and_of_a_muted_event(call: Commands) -> None:
    muting = APPLIED.replace(b'name = "running"', b'name = "running"\nmute_for = "1h"')
    call.done("subscriptions", "apply", "-", feed=muting)
    first = call.emit()
    value = call.done("events", "show", first, "--json").rows[0]["value"].encode()
    repeat = call.done("emit", "--file", "-", "--json", feed=value).rows[0]
    second = call.emit("Stopped")
    call.done(*RUN)
    assert repeat["accepted"] == 1
    assert {second: "muted"} == {
        row["source"]: row["state"]
        for row in call.done("deliveries", "list", "--state", "muted", "--json").rows
    }
    (why,) = (row for row in call.done("events", "why", second, "--json").rows if row["matched"])
    assert (why["state"], why["because"]) == ("muted", f"muted by the event at {first}")
    event = call.done("events", "show", first, "--json").rows[0]
    rows = call.done("events", "why", json.loads(event["value"])["id"], "--json").rows
    duplicates = [row["because"] for row in rows if row["state"] == "duplicate"]
    assert duplicates == [f"repeats {first}; only the first is routed"]
    assert any(row["state"] == "delivered" for row in rows)


def test_events_are_filtered(with_events: Commands) -> None:
    def found(*words: str) -> int:
        return len(with_events.done("events", "list", *words, "--json").rows)

    assert found() == 2
    assert found("--resource", "i-2") == found("--level", "CRITICAL") == 1
    assert found("--name", "Instance:*", "--since", "1h") == 2
    assert found("--until", "1h") == found("--name", "Disk:*") == 0


def test_a_test_delivery_shows_outcomes_and_leaves_no_record(with_events: Commands) -> None:
    assert with_events.done("subscriptions", "test", "running", "--json").rows[0]["outcome"] == "delivered"
    answer = with_events("subscriptions", "test", "nobody", "--json")
    assert answer.status == 1
    assert answer.rows[0]["outcome"] == "would be retried"
    assert len(with_events.done("deliveries", "list", "--json").rows) == 3


def test_subscriptions_are_disabled_enabled_deleted_and_applied_again(with_events: Commands) -> None:
    def states() -> dict[str, bool]:
        return {
            row["name"]: row["enabled"] for row in with_events.done("subscriptions", "list", "--json").rows
        }

    with_events.done("subscriptions", "disable", "running")
    assert states() == {"running": False, "nobody": True}
    with_events.done("subscriptions", "enable", "running")
    with_events.done("subscriptions", "delete", "nobody")
    assert states() == {"running": True}
    assert with_events.done("subscriptions", "show", "running", "--json").rows[0]["name"] == "running"
    applied = with_events.done("subscriptions", "apply", "-", "--json", feed=APPLIED).rows
    assert {row["subscription"]: row["state"] for row in applied} == {
        "running": "unchanged",
        "nobody": "created",
    }


def test_the_history_of_subscriptions_is_listed(with_events: Commands) -> None:
    with_events.done("subscriptions", "disable", "running")
    rows = with_events.done("subscriptions", "history", "--json").rows
    assert [(row["version"], row["change"], row["subscription"]) for row in rows] == [
        (1, "created", "running"),
        (2, "created", "nobody"),
        (3, "disabled", "running"),
    ]
    assert rows[0]["time"].endswith("Z")


def test_archived_records_are_read_queried_and_verified(with_events: Commands, tmp_path: Path) -> None:
    archived = with_events.done("archive", "read", "events.ecs.instance", "--json").rows
    assert archived == with_events.done("tail", "events.ecs.instance", "--json").rows
    assert with_events.done("archive", "read", "--until", "1h", "--json").rows == []
    assert (
        with_events.done("archive", "read", "--since", "1h", "--json").rows
        == with_events.done("archive", "read", "--json").rows
    )
    assert with_events.done("query", "select count(*) as n from events", "--json").rows == [{"n": 2}]
    shown = with_events.done(
        "query", "select value from events where name = 'Instance:StateChange' limit 1", "--json"
    ).rows
    assert json.loads(shown[0]["value"])["name"] == "Instance:StateChange"
    heads = with_events.done("archive", "heads").out.splitlines()
    expected = [word for head in heads for word in ("--expect-head", head)]
    with_events.done("archive", "verify", *expected)
    segments = sorted((with_events.home / "archive").rglob("*.avro"))
    segments[0].unlink()
    assert with_events("archive", "verify", *expected).status == 1


def test_a_new_epoch_begins_after_the_bus_was_lost(with_events: Commands) -> None:
    (with_events.home / "bus.db").unlink()
    with_events.emit("Stopped")
    broken = with_events(*RUN)
    assert broken.status == 1
    assert "new-epoch" in broken.err
    for topic in {row["topic"] for row in with_events.done("archive", "list", "--json").rows}:
        with_events.done("archive", "new-epoch", topic)
    with_events.done(*RUN)
    with_events.done("archive", "verify")
    assert len(with_events.done("archive", "read", "events.ecs.instance", "--json").rows) == 3


def test_control_characters_are_escaped(call: Commands) -> None:
    call("emit", "--file", "-", feed=b'{"\x1b]0;owned\x07"}')
    shown = call.done("tail", "rejects").out
    assert "\\x1b]0;owned\\x07" in shown
    assert "\x1b" not in shown


def test_a_home_is_made_checked_backed_up_and_restored(call: Commands, tmp_path: Path) -> None:
    call.done("init")
    assert "exists and was not changed" in call.done("init").out
    position = call.emit()
    assert {row["state"] for row in call.done("doctor", "--json").rows} == {"ok", "warning"}
    call.done("backup", str(tmp_path / "backup"))
    call.emit()
    call.refused("restore", str(tmp_path / "backup"))
    call.done("restore", str(tmp_path / "backup"), "--force")
    assert [row["position"] for row in call.done("events", "list", "--json").rows] == [position]


def test_lag_and_topics_count_records(with_events: Commands) -> None:
    assert {row["lag"] for row in with_events.done("lag", "--json").rows} == {0}
    topics = {row["topic"]: row["records"] for row in with_events.done("topics", "--json").rows}
    assert (topics["events.ecs.instance"], topics["verdicts"], topics["dead-letters"]) == (2, 3, 1)


def test_tail_starts_at_from_and_stops_at_limit(with_events: Commands) -> None:
    def tailed(*words: str) -> int:
        return len(with_events.done("tail", "verdicts", *words, "--json").rows)

    assert tailed() == tailed("--from", "1h") == 3
    assert tailed("--limit", "2") == 2
    assert tailed("--from", "latest") == tailed("--from", "100") == 0


def test_records_that_are_no_notifications_are_skipped(call: Commands) -> None:
    position = call.emit()
    with closing(open_bus(f"sqlite://{call.home}/bus.db", reserve=0)) as bus:
        bus.append(
            [
                NewRecord("events.other", value)
                for value in (b"junk", b'{"id":"\\u0061","x":' + b"[" * 100_000)
            ]
        )
    assert [row["position"] for row in call.done("events", "list", "--json").rows] == [position]
    assert "not in the topics" in call.refused("events", "show", "a")
