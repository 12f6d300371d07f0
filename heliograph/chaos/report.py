"""What a run of chaos came to, in figures that add up over rounds."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from heliograph.chaos.books import Books, Finding, Wrong, repeats
from heliograph.chaos.faults import Fault
from schemas.delivery import VerdictState


class Report(msgspec.Struct, frozen=True):
    """Sums over rounds. `accepted`: events; `states`: deliveries by how they ended; `repeats`: what a target took again;
    `archived`: records; `latencies`: seconds from an event's append to the first request with it; `findings`: what is
    wrong."""

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
        """How many things are lost: events, verdicts, what was delivered, records of the archive."""
        return sum(1 for finding in self.findings if finding.wrong is Wrong.LOST)

    @property
    def kills(self) -> int:
        """How often a process was killed in the middle of work."""
        return self.faults.get(Fault.KILL, 0)

    def plus(self, other: Report) -> Report:
        """Both together."""
        return Report(
            self.rounds + other.rounds,
            Counter(self.faults) + Counter(other.faults),
            self.accepted + other.accepted,
            Counter(self.states) + Counter(other.states),
            self.repeats + other.repeats,
            self.archived + other.archived,
            [*self.latencies, *other.latencies],
            [*self.findings, *other.findings],
        )

    def line(self) -> str:
        """The report in a line."""
        delivered = self.states.get(VerdictState.DELIVERED, 0)
        return (
            f"{self.kills} kills, {sum(self.faults.values())} faults, {self.accepted} events, {delivered} delivered,"
            f" {self.repeats} repeats, {self.lost} lost, {len(self.findings)} findings"
        )

    def row(self) -> dict[str, Any]:
        """The report as one object."""
        return {
            "rounds": self.rounds,
            "accepted": self.accepted,
            **{state.value: self.states.get(state, 0) for state in VerdictState},
            "repeats": self.repeats,
            "lost": self.lost,
            "archived_once": self.archived,
            "latency_ms": self.percentiles(),
            "faults": {fault.value: self.faults[fault] for fault in Fault if fault in self.faults},
            "wrong": [{"what": finding.wrong.value, "detail": finding.what} for finding in self.findings],
        }

    def percentiles(self) -> Mapping[str, float]:
        """Of the latencies, in milliseconds; empty with less than two."""
        if len(self.latencies) < 2:
            return {}
        cuts = statistics.quantiles(self.latencies, n=100, method="inclusive")
        found = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(self.latencies)}
        return {name: round(seconds * 1000, 1) for name, seconds in found.items()}


def report(
    books: Books, faults: Mapping[Fault, int], appended: Mapping[bytes, float], found: Sequence[Finding]
) -> Report:
    """Of one round. `appended`: when each value was appended, seconds of the monotonic clock."""
    first: dict[bytes, float] = {}
    for arrival in books.arrivals:
        first.setdefault(arrival.body, arrival.at)
    return Report(
        rounds=1,
        faults=faults,
        accepted=len(books.accepted),
        states=Counter(verdict.state for verdict in books.verdicts().values()),
        repeats=repeats(books),
        archived=len(books.archived),
        latencies=[first[value] - at for value, at in appended.items() if value in first],
        findings=found,
    )
