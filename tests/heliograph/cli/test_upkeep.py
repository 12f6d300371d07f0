"""`heliograph archive compact`, `retention` and `erase`, with the checks that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from archiver.format.manifest import DAY
from heliograph.cli.archive import app
from heliograph.store.folder import FolderStore
from schemas.errors import InputError, NotFound
from tests.archiver.compacting import FIRST_DAY, add, fill, keys, records_of
from tests.archiver.making import TOPIC


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """Returns the archive of a home whose records are years old."""
    monkeypatch.setenv("HELIOGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HELIOGRAPH_ARCHIVE_URL", (tmp_path / "archive").as_uri())
    return FolderStore(tmp_path / "archive")


def rows(*words: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def failure(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, InputError)
    return str(result.exception)


def test_compact_merges_days_and_then_removes_segments(store: FolderStore) -> None:
    before = fill(store)
    days = rows("compact", TOPIC)
    assert next((day["topic"], day["day"], day["records"]) for day in days) == (TOPIC, FIRST_DAY, 14)
    assert len(keys(store, "topics/")) == 14
    assert rows("compact", "events.*", "--grace", "0") == []
    assert len(keys(store, "topics/")) == 2
    assert records_of(store) == before
    assert rows("verify")[0]["sound"]
    assert all(row["file"] for row in rows("list"))


def test_retention_removes_only_with_apply(store: FolderStore) -> None:
    before = fill(store)
    expected = [{"topic": TOPIC, "chains": 2, "segments": 12, "records": len(before) - 2}]
    assert rows("retention", TOPIC, "--keep", "365d") == expected
    assert records_of(store) == before
    assert rows("retention", TOPIC, "--keep", "365d", "--apply", "--grace", "0") == expected
    assert len(records_of(store)) == 2
    assert rows("verify")[0]["retired"] == len(before) - 2


def test_erase_changes_records_only_with_apply(store: FolderStore) -> None:
    add(store, 0, value=b'{"userId":"1690"}')
    add(store, DAY)
    rows("compact")
    [said] = rows("erase", "--user", "1690")
    assert (said["records"], said["waiting"]) == (1, 0)
    assert b"1690" in records_of(store)[0].value
    assert rows("erase", "--user", "1690", "--apply", "--reason", "asked for", "--grace", "0") == [said]
    assert records_of(store)[0].value == b""
    assert rows("verify")[0]["erased"] == 1


def test_heads_include_those_of_the_manifests(store: FolderStore) -> None:
    fill(store)
    rows("compact")
    heads = [f"--expect-head={head['key']}={head['sha256']}" for head in rows("heads")]
    assert len(heads) == 3
    rows("compact", "--grace", "0")
    assert rows("verify", *heads)[0]["sound"]


def test_errors_name_the_option_and_the_remedy(store: FolderStore) -> None:
    fill(store)
    assert "resource, user: give either the ARN of a resource" in failure("erase")
    assert "reason: is missing" in failure("erase", "--user", "1", "--apply")
    assert "--grace 'x': expected a span of time" in failure("compact", "--grace", "x")
    assert "2026-01-01" in failure("retention", TOPIC, "--keep", "x")
    result = CliRunner().invoke(app, ["compact", "events.none"])
    assert isinstance(result.exception, NotFound)
