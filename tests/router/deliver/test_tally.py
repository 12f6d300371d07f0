"""The counts of outcomes for the metrics."""

from __future__ import annotations

from prometheus_client import REGISTRY

from router.deliver.settle import Ended, RetryLater
from router.deliver.tally import Tally
from schemas.delivery import Delivered, Reason, ReasonCode, Rejected, Retry, VerdictState
from tests.router.deliver.sinks import delivery

REASON = Reason(ReasonCode.REFUSED)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"heliograph_{name}_total", {"target": "tallied", **labels}) or 0.0


def test_counts_are_added_to_the_metrics_once() -> None:
    tally = Tally()
    ended = Ended(VerdictState.DELIVERED, ())
    tally.add("tallied", [Delivered(), Retry(REASON)], [ended, RetryLater(delivery(1))])
    tally.add("tallied", [Delivered(), Rejected(REASON)], [ended, Ended(VerdictState.DEAD, ())])
    assert metric("attempts", outcome="delivered") == 0, "metrics change only in publish"
    for _ in range(2):
        tally.publish()
        assert [metric("attempts", outcome=name) for name in ("delivered", "retry", "rejected")] == [2, 1, 1]
        assert [metric("verdicts", state=name) for name in ("delivered", "dead")] == [2, 1]
        assert metric("retried") == 1
