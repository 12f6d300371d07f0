"""`examine`: tries each part for real, and reports it even if another fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.app.config import load
from heliograph.app.deployment import Deployment
from heliograph.diagnose.doctor import examine
from heliograph.operations.subscription_file import read_file
from heliograph.operations.subscriptions import apply
from sinks.kinds import KINDS

APPLIED = """
[[subscription]]
name = "all"
[[subscription.target]]
id = "{id}"
kind = "topic"
topic = "queue"
"""
CALLED = """
[[subscription]]
name = "all"
[[subscription.target]]
id = "hook"
kind = "callback"
url = "https://hooks.example.com/"
bearer = "env:HOOK_TOKEN"
"""


def found(environment: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {finding.check: (finding.state, finding.detail) for finding in examine(environment)}


def environment(home: Path) -> dict[str, str]:
    return {"HELIOGRAPH_HOME": str(home), "HELIOGRAPH_BUS_RESERVE_MB": "0"}


def test_every_check_of_a_working_home_is_ok(tmp_path: Path) -> None:
    home = environment(tmp_path)
    with Deployment(load(home)) as deployment:
        apply(deployment.bus, read_file(APPLIED.format(id="queue")), KINDS)
    checks = found(home)
    assert {check: state for check, (state, _) in checks.items()} == dict.fromkeys(
        ["configuration", "bus", "disk space", "archive", "objects", "subscriptions", "target queue"], "ok"
    )
    assert not list((tmp_path / "archive").rglob("probe"))


def test_a_missing_secret_fails_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = environment(tmp_path)
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    with Deployment(load(home)) as deployment:
        apply(deployment.bus, read_file(CALLED), KINDS)
    state, detail = found(home)["target hook"]
    assert state == "failed"
    assert detail.startswith("bearer: env:HOOK_TOKEN: the environment has no variable HOOK_TOKEN")
    monkeypatch.setenv("HOOK_TOKEN", "a token")
    assert found(home)["target hook"] == ("ok", "callback")


def test_a_failed_archive_hides_no_other_check(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("not a folder")
    checks = found(environment(tmp_path))
    assert checks["archive"][0] == "failed"
    assert (checks["bus"][0], checks["objects"][0]) == ("ok", "ok")


def test_too_little_disk_space_fails(tmp_path: Path) -> None:
    checks = found({**environment(tmp_path), "HELIOGRAPH_BUS_RESERVE_MB": str(10**12)})
    assert checks["disk space"][0] == "failed"


def test_an_invalid_configuration_gives_a_finding_for_each_problem_and_no_other(tmp_path: Path) -> None:
    findings = list(
        examine({"HELIOGRAPH_HOME": str(tmp_path), "HELIOGRAPH_BUS_PARTITIONS": "x", "HELIOGRAPH_X": ""})
    )
    assert [(one.check, one.state) for one in findings] == [("configuration", "failed")] * 2
    assert findings[0].row()["detail"] == "HELIOGRAPH_X: no such setting"


def test_a_broken_object_store_does_not_hide_the_failure_of_a_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = environment(tmp_path)
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    with Deployment(load(home)) as deployment:
        apply(deployment.bus, read_file(CALLED), KINDS)
    (tmp_path / "objects").write_text("not a folder")
    checks = found(home)
    assert checks["objects"][0] == "failed"
    assert checks["target hook"][1].startswith("bearer: env:HOOK_TOKEN")
