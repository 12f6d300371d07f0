"""`heliograph chaos`: the report of a run, and the options that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from heliograph.chaos import rounds
from heliograph.chaos.faults import Fault
from heliograph.chaos.report import Report
from heliograph.demo.reconcile import Finding, Problem
from schemas.delivery import VerdictState
from tests.heliograph.cli.conftest import Commands

LOST = Finding(Problem.LOST, "events.ecs.disk:0:17 to hook: no verdict")
WHOLE = Report(
    rounds=1,
    faults={Fault.KILL: 2, Fault.STALL: 1},
    states={VerdictState.DELIVERED: 400},
    latencies=[0.001 * number for number in range(101)],
)


def returning(report: Report) -> Callable[..., Report]:
    def run_chaos(*_: object, **__: object) -> Report:
        return report

    return run_chaos


def test_the_command_succeeds_when_nothing_is_wrong(call: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run_chaos", returning(WHOLE))
    (row,) = call.done("chaos", "--json", "--seed", "7").rows
    assert (row["seed"], row["delivered"], row["muted"], row["lost"], row["wrong"]) == (7, 400, 0, 0, [])
    assert row["faults"] == {"kill": 2, "stall": 1}
    shown = call.done("chaos").out
    assert "kill 2, stall 1" in shown
    assert "p50 50.0, p90 90.0, p99 99.0, max 100.0" in shown


def test_the_command_fails_and_lists_what_is_wrong(call: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "run_chaos", returning(Report(rounds=1, findings=[LOST] * 60)))
    answer = call("chaos")
    assert answer.status == 1
    assert answer.out.count("no verdict") == 50
    assert "and 10 more" in answer.out
    answer = call("chaos", "--json")
    assert answer.status == 1
    assert json.loads(answer.out)["wrong"] == [{"what": "lost", "detail": LOST.detail}] * 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--for", "soon"), "duration 'soon'"),
        (("--for", "0s"), "--for 0s: is too short"),
        (("--bus", "sqlite:///tmp/bus.db"), "--bus: write kafka://"),
        (("--archive", "memory://"), "--archive: write s3://"),
        (("--broker-pid", "4194305"), "--broker-pid 4194305: No such process"),
        (("--kills", "-1"), "--kills"),
    ],
)
def test_wrong_input_is_refused_before_anything_begins(
    call: Commands, words: tuple[str, ...], says: str
) -> None:
    assert says in call.refused("chaos", *words)
