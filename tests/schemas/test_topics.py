from __future__ import annotations

from schemas.topics import EVENTS_OTHER, event_topic, valid_name


def test_a_name_that_is_too_long_for_a_topic_goes_to_the_rest() -> None:
    assert event_topic("RDS", "Instance", ["events.rds.*"]) == "events.rds.instance"
    assert event_topic("RDS", "x" * 300, ["events.rds.*"]) == EVENTS_OTHER
    assert valid_name(event_topic("数据库", "..", ["events.*"]))
