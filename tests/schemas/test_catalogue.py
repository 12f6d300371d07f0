"""The catalogue of notification names."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from schemas.catalogue import CATALOGUE, ELSEWHERE, complete, event_type_of, lookup
from schemas.content import FAMILIES
from schemas.errors import NotFound

SPECIFICATION = Path(__file__).parents[3] / "shared" / "spec" / "event_catalogue.tsv"


def test_the_catalogue_has_ninety_names_built_from_type_code_and_status() -> None:
    assert len(CATALOGUE) == 90
    for name, entry in CATALOGUE.items():
        parts = [entry.resource_type, entry.code, entry.status]
        assert name == entry.name == ":".join(part for part in parts if part)
        assert entry.family in FAMILIES
        assert entry.level_source
        assert entry.event_type_source


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason="the specification is not beside this checkout")
def test_names_and_event_types_match_the_specification() -> None:
    with SPECIFICATION.open(encoding="utf-8") as file:
        rows = {row["full_name"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert set(rows) == set(CATALOGUE)
    for name, row in rows.items():
        assert CATALOGUE[name].event_type == row["subscription_event_type"], name
        said = {row[column] for column in row if column.startswith("level_")} - {""}
        assert said <= set(CATALOGUE[name].levels), name


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("Instance:InstanceExpiration.Stop:Avoided", "INFO"),
        ("Instance:InstanceExpiration.Stop:Executed", "CRITICAL"),
        ("Instance:PreemptibleInstanceInterruption", "WARN"),
        ("Instance:PerformanceModeChange", "INFO"),
        ("Instance:Security.TpmAlert:Executing", "WARN"),
    ],
)
def test_one_level_is_chosen_where_sources_disagree(name: str, level: str) -> None:
    assert CATALOGUE[name].level == level


@pytest.mark.parametrize(
    ("name", "event_type"),
    [
        ("Instance:SystemMaintenance.Reboot:Scheduled", "Maintenance"),
        ("Disk:Stalled:Executed", "Exception"),
        ("Instance:AccountUnbalanced.Stop:Executed", ""),
        ("Instance:AccountUnbalanced.PerformanceAffect:Failed", ""),
        ("Instance:SystemMaintenance.CleanReleasedDisks", "Maintenance"),
        ("Instance:SystemMaintenance.Other:Scheduled", "Maintenance"),
        ("Disk:Degraded:Executing", "Exception"),
        ("Image:StateChange", "StatusNotification"),
        ("Snapshot:SnapshotDeleted", "StatusNotification"),
        ("Instance_Failover", "StatusNotification"),
    ],
)
def test_every_name_has_an_event_type(name: str, event_type: str) -> None:
    assert event_type_of(name) == event_type


def test_names_of_other_sources_are_not_among_the_ninety() -> None:
    assert ELSEWHERE.keys().isdisjoint(CATALOGUE)
    for name, elsewhere in ELSEWHERE.items():
        assert not elsewhere.event_type or event_type_of(name) == elsewhere.event_type


def test_completion_ignores_case_and_keeps_the_order() -> None:
    assert list(complete("disk:st")) == ["Disk:Stalled:Executing", "Disk:Stalled:Executed"]
    assert len(complete("")) == 90
    assert complete("Nothing") == []


def test_an_unknown_name_is_refused_with_suggestions() -> None:
    with pytest.raises(NotFound, match="did you mean Instance:StateChange"):
        lookup("instance:stateChanged")
    with pytest.raises(NotFound) as refused:
        lookup("qqqqqqqq")
    assert "did you mean" not in str(refused.value)


def test_the_description_of_a_name_lists_its_content_fields() -> None:
    described = lookup("Disk:DiskOperationCompleted").describe()
    assert described["content"] == ["diskId", "operation", "result"]
    assert described["levels"] == ["INFO", "WARN"]
