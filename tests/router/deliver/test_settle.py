from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.settle import put_off, settle
from schemas.delivery import (
    Delivered,
    Delivery,
    Outcome,
    Reason,
    ReasonCode,
    Rejected,
    Retry,
    VerdictState,
    read_delivery,
    read_verdict,
)
from schemas.record import NewRecord, Record
from schemas.subscription import RetryPolicy
from schemas.topics import DEAD_LETTERS, DELIVERIES, RECORD_LIMIT, VERDICTS, retry_topic
from tests.router.deliver.sinks import delivery

NOW = 1_700_000_000_000

texts = st.text(st.characters(), max_size=3000)
reasons = st.builds(Reason, st.sampled_from(ReasonCode), texts, st.integers(0, 599))
outcomes = st.one_of(
    st.builds(Delivered, texts),
    st.builds(Retry, reasons, st.none() | st.floats(0, 1e6)),
    st.builds(Rejected, reasons),
)


def read_back(record: NewRecord) -> Delivery:
    return read_delivery(Record(record.topic, 0, 0, NOW, record.key, record.headers, record.value))


@given(st.lists(outcomes, min_size=1, max_size=30), st.integers(1, 20))
def test_a_delivery_goes_on_until_it_ends_with_one_verdict_and_never_outgrows_a_record(
    results: list[Outcome], tries: int
) -> None:
    policy = RetryPolicy(tries=tries)
    one = delivery(1)
    for made, outcome in enumerate(results, 1):
        settlement = settle(one, outcome, policy, NOW, 0.25, NOW)
        for record in settlement.records:
            headers = sum(len(name) + len(value) for name, value in record.headers)
            assert headers + len(record.value) < RECORD_LIMIT // 4
        if settlement.state is None:
            assert isinstance(outcome, Retry)
            assert made < tries
            (again,) = settlement.records
            assert again.topic == DELIVERIES or again.topic.startswith("retries.")
            one = read_back(again)
            assert (one.id, one.event, one.attempts.count) == (delivery(1).id, delivery(1).event, made)
            continue
        verdict = read_verdict(settlement.records[-1].value)
        assert settlement.records[-1].topic == VERDICTS
        assert (verdict.delivery, verdict.state, verdict.attempts.count) == (one.id, settlement.state, made)
        delivered = isinstance(outcome, Delivered)
        assert (settlement.state is VerdictState.DELIVERED) == delivered
        assert [record.topic for record in settlement.records[:-1]] == ([] if delivered else [DEAD_LETTERS])
        return


def test_a_deferral_keeps_the_attempts_and_a_try_forgets_the_deferrals() -> None:
    retry = Retry(Reason(ReasonCode.TIMED_OUT))
    (record,) = settle(delivery(1), retry, RetryPolicy(first=60, jitter=False), NOW, 0.1, NOW).records
    tried = read_back(record)
    assert record.topic == retry_topic(16)
    deferred = read_back(put_off(read_back(put_off(tried, NOW)), NOW))
    assert deferred.attempts == tried.attempts
    assert deferred.wait is not None
    assert (deferred.wait.deferrals, deferred.wait.total) == (2, 2.0)
    (record,) = settle(deferred, retry, RetryPolicy(), NOW, 0.1, NOW).records
    again = read_back(record).wait
    assert again is not None
    assert again.deferrals == 0
    assert msgspec.structs.replace(read_back(record), wait=None).attempts.count == 2
