"""The report of a chaos run: figures that add up over rounds."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from heliograph.chaos.faults import Fault
from heliograph.demo.reconcile import Finding, Problem, Run, count_repeats
from schemas.delivery import VerdictState


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over rounds.

    `accepted`: events; `states`: deliveries by their verdict; `repeats`: deliveries that a target took again;
    `archived`: records; `latencies`: seconds from an event's append to the first request with it; `findings`: problems.
    """

    rounds: int = 0
    faults: Mapping[Fault, int] = {}
    accepted: int = 0
    states: Mapping[VerdictState, int] = {}
    repeats: int = 0
    archived: int = 0
    latencies: Sequence[float] = ()
    findings: Sequence[Finding] = ()

    @property
    def lost(self) -> int:
        """The number of lost events, verdicts, deliveries and archived records."""
        return sum(1 for finding in self.findings if finding.problem is Problem.LOST)

    @property
    def kills(self) -> int:
        """The number of processes killed in the middle of work."""
        return self.faults.get(Fault.KILL, 0)

    def plus(self, other: Report) -> Report:
        """Returns the sum of this report and another."""
        return Report(
            rounds=self.rounds + other.rounds,
            faults=Counter(self.faults) + Counter(other.faults),
            accepted=self.accepted + other.accepted,
            states=Counter(self.states) + Counter(other.states),
            repeats=self.repeats + other.repeats,
            archived=self.archived + other.archived,
            latencies=[*self.latencies, *other.latencies],
            findings=[*self.findings, *other.findings],
        )

    def line(self) -> str:
        """Formats the report in one line."""
        delivered = self.states.get(VerdictState.DELIVERED, 0)
        return (
            f"{self.kills} kills, {sum(self.faults.values())} faults, {self.accepted} events, {delivered} delivered,"
            f" {self.repeats} repeats, {self.lost} lost, {len(self.findings)} findings"
        )

    def row(self) -> dict[str, Any]:
        """Returns the report as one JSON object."""
        return {
            "rounds": self.rounds,
            "accepted": self.accepted,
            **{state.value: self.states.get(state, 0) for state in VerdictState},
            "repeats": self.repeats,
            "lost": self.lost,
            "archived_once": self.archived,
            "latency_ms": self.percentiles(),
            "faults": {fault.value: self.faults[fault] for fault in Fault if fault in self.faults},
            "wrong": [{"what": finding.problem.value, "detail": finding.detail} for finding in self.findings],
        }

    def percentiles(self) -> Mapping[str, float]:
        """Returns percentiles of the latencies in milliseconds; none for fewer than two latencies."""
        if len(self.latencies) < 2:
            return {}
        cuts = statistics.quantiles(self.latencies, n=100, method="inclusive")
        found = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(self.latencies)}
        return {name: round(seconds * 1000, 1) for name, seconds in found.items()}


def build_report(
    run: Run, *, faults: Mapping[Fault, int], appended: Mapping[bytes, float], findings: Sequence[Finding]
) -> Report:
    """Builds the report of one round. `appended`: monotonic time in seconds of each event's append."""
    first: dict[bytes, float] = {}
    for arrival in run.arrivals:
        first.setdefault(arrival.body, arrival.at)
    return Report(
        rounds=1,
        faults=faults,
        accepted=len(run.accepted),
        states=Counter(verdict.state for verdict in run.read_verdicts().values()),
        repeats=count_repeats(run),
        archived=len(run.archived),
        latencies=[first[value] - at for value, at in appended.items() if value in first],
        findings=findings,
    )
