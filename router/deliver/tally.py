"""Counts of outcomes and settlements between two updates of the metrics: looking up a metric for each is slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from router.deliver.settle import Ended, Settlement
from schemas.delivery import Delivered, Outcome, Rejected, Retry
from schemas.metrics import ATTEMPTS, RETRIED, VERDICTS


class Tally:
    """Counts by target."""

    def __init__(self) -> None:
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._verdicts: Counter[tuple[str, str]] = Counter()
        self._retried: Counter[str] = Counter()

    def add(self, target: str, outcomes: Sequence[Outcome], settlements: Sequence[Settlement]) -> None:
        """Counts the outcomes of one call of a sink."""
        for outcome in outcomes:
            self._attempts[target, _name(outcome)] += 1
        for settlement in settlements:
            if isinstance(settlement, Ended):
                self._verdicts[target, settlement.state] += 1
            else:
                self._retried[target] += 1

    def publish(self) -> None:
        """Adds the counts to the metrics, and starts again from zero."""
        for (target, outcome), number in self._attempts.items():
            ATTEMPTS.labels(target, outcome).inc(number)
        for (target, state), number in self._verdicts.items():
            VERDICTS.labels(target, state).inc(number)
        for target, number in self._retried.items():
            RETRIED.labels(target).inc(number)
        for counted in (self._attempts, self._verdicts, self._retried):
            counted.clear()


def _name(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Retry():
            return "retry"
        case Rejected():
            return "rejected"
