"""The report of a chaos run."""

from __future__ import annotations

from heliograph.chaos.faults import Fault
from heliograph.chaos.report import Report
from heliograph.demo.reconcile import Finding, Problem
from schemas.delivery import VerdictState

LOST = Finding(Problem.LOST, "events.ecs.disk:0:17 to hook: no verdict")
ONE = Report(
    rounds=1,
    faults={Fault.KILL: 2, Fault.STALL: 1},
    accepted=100,
    states={VerdictState.DELIVERED: 400, VerdictState.DEAD: 100},
    repeats=3,
    archived=700,
    latencies=[0.001 * number for number in range(101)],
)


def test_reports_of_rounds_are_added() -> None:
    two = ONE.plus(ONE)
    assert (two.rounds, two.kills, two.accepted, two.repeats, two.archived) == (2, 4, 200, 6, 1400)
    assert two.states == {VerdictState.DELIVERED: 800, VerdictState.DEAD: 200}
    assert Report().plus(ONE).row() == ONE.row()


def test_percentiles_of_the_latencies_are_in_milliseconds() -> None:
    assert ONE.percentiles() == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    assert Report(latencies=[0.5]).percentiles() == {}


def test_lost_counts_only_the_findings_of_lost_things() -> None:
    found = Report(findings=[LOST, Finding(Problem.TWICE, "archived"), LOST])
    assert (found.lost, len(found.findings)) == (2, 3)
