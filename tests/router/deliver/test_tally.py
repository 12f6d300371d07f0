from __future__ import annotations

from prometheus_client import REGISTRY

from router.deliver.settle import Again, Ended
from router.deliver.tally import Tally
from schemas.delivery import Delivered, Reason, ReasonCode, Rejected, Retry, VerdictState
from tests.router.deliver.sinks import delivery

REASON = Reason(ReasonCode.REFUSED)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"heliograph_{name}_total", {"target": "tallied", **labels}) or 0.0


def test_what_came_of_calls_is_added_once() -> None:
    tally = Tally()
    ended = Ended(VerdictState.DELIVERED, ())
    tally.add("tallied", [Delivered(), Retry(REASON)], [ended, Again(delivery(1))])
    tally.add("tallied", [Delivered(), Rejected(REASON)], [ended, Ended(VerdictState.DEAD, ())])
    assert metric("attempts", outcome="delivered") == 0, "not before it is shown"
    for _ in range(2):
        tally.show()
        assert [metric("attempts", outcome=name) for name in ("delivered", "retry", "rejected")] == [2, 1, 1]
        assert [metric("verdicts", state=name) for name in ("delivered", "dead")] == [2, 1]
        assert metric("retried") == 1
