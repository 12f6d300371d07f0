"""The generated stream of notifications."""

from __future__ import annotations

import json
from collections import Counter

from producers.examples import EXAMPLES
from producers.stream import generate
from schemas.catalogue import CATALOGUE
from schemas.notification import check, warnings
from schemas.times import read_event_time

START = 1_700_000_000_000


def test_equal_seeds_generate_equal_streams() -> None:
    assert list(generate(1, 50, START)) == list(generate(1, 50, START))
    assert list(generate(1, 50, START)) != list(generate(2, 50, START))


def test_generated_notifications_are_valid_and_ordered_by_time() -> None:
    values = list(generate(3, 2000, START))
    assert [warning for value in values for warning in warnings(value)] == []
    moments = [read_event_time(json.loads(value)["eventTime"]) for value in values]
    assert moments == sorted(moments)
    assert moments[0] >= START


def test_a_stream_contains_all_resource_types_levels_and_event_types() -> None:
    entries = [CATALOGUE[check(value).name] for value in generate(3, 2000, START)]
    assert {entry.resource_type for entry in entries} == {"Instance", "Disk", "Snapshot", "NetworkInterface"}
    assert {entry.level for entry in entries} == {"CRITICAL", "WARN", "INFO"}
    assert {entry.event_type for entry in entries} == {"StatusNotification", "Exception", "Maintenance"}


def test_resources_recur_and_sizes_match_the_benchmarks() -> None:
    values = list(generate(4, 5000, START))
    assert max(Counter(check(value).resource_id for value in values).values()) > 5
    assert 500 < sum(map(len, values)) / len(values) < 540


def test_the_examples_cover_every_documented_family() -> None:
    families = {CATALOGUE[check(value).name].family for value in EXAMPLES}
    all_families = {entry.family for entry in CATALOGUE.values()}
    assert all_families - families == {"conversion", "undocumented"}
    assert any(warnings(value) for value in EXAMPLES)
