"""Names of topics."""

from __future__ import annotations

from schemas.topics import EVENTS_OTHER, event_topic, valid_name


def test_an_event_whose_topic_name_would_be_too_long_goes_to_events_other() -> None:
    assert event_topic("RDS", "Instance", ["events.rds.*"]) == "events.rds.instance"
    assert event_topic("RDS", "x" * 300, ["events.rds.*"]) == EVENTS_OTHER
    assert valid_name(event_topic("数据库", "..", ["events.*"]))
