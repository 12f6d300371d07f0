"""The settlement of outcomes: verdicts, waits and dead letters."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from router.deliver.settle import Ended, RetryLater, Settlement, defer, expired, settle, waiting_record
from schemas.delivery import (
    Delivered,
    Delivery,
    Exhausted,
    Outcome,
    Reason,
    ReasonCode,
    Rejected,
    Retry,
    VerdictState,
    Wait,
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


def waiting(settlement: Settlement) -> Delivery:
    """Returns the delivery as it is read back from the wheel."""
    assert isinstance(settlement, RetryLater)
    record = waiting_record(settlement.delivery, NOW)
    assert record.topic == DELIVERIES or record.topic.startswith("retries.")
    assert_small(record)
    return read_back(record)


def assert_small(record: NewRecord) -> None:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    assert headers + len(record.value) < RECORD_LIMIT // 4


@given(st.lists(outcomes, min_size=1, max_size=30), st.integers(1, 20))
def test_a_delivery_is_retried_until_it_has_one_verdict_and_fits_a_record(
    results: list[Outcome], tries: int
) -> None:
    policy = RetryPolicy(tries=tries)
    one = delivery(1)
    for made, outcome in enumerate(results, 1):
        settlement = settle(one, outcome, policy, at=NOW, took=0.25, now=NOW)
        if isinstance(settlement, RetryLater):
            assert isinstance(outcome, Retry)
            assert made < tries
            one = waiting(settlement)
            assert (one.id, one.event, one.attempts.count) == (delivery(1).id, delivery(1).event, made)
            continue
        for record in settlement.records:
            assert_small(record)
        verdict = read_verdict(settlement.records[-1].value)
        assert settlement.records[-1].topic == VERDICTS
        assert (verdict.delivery, verdict.state, verdict.attempts.count) == (one.id, settlement.state, made)
        delivered = isinstance(outcome, Delivered)
        assert (settlement.state is VerdictState.DELIVERED) == delivered
        assert [record.topic for record in settlement.records[:-1]] == ([] if delivered else [DEAD_LETTERS])
        return


def test_a_deferral_keeps_the_attempts_and_an_attempt_resets_the_deferrals() -> None:
    policy = RetryPolicy(first=60, jitter="none")
    retry = Retry(Reason(ReasonCode.TIMED_OUT))
    tried = waiting(settle(delivery(1), retry, policy, at=NOW, took=0.1, now=NOW))
    assert tried.wait is not None
    assert waiting_record(tried, NOW).topic == retry_topic(16)
    deferred = waiting(defer(waiting(defer(tried, policy, NOW)), policy, NOW))
    assert deferred.attempts == tried.attempts
    assert deferred.wait is not None
    assert (deferred.wait.deferrals, deferred.wait.began) == (2, NOW)
    assert 1 <= deferred.wait.total <= 2
    again = waiting(settle(deferred, retry, policy, at=NOW + 5, took=0.1, now=NOW))
    assert again.wait is not None
    assert (again.wait.deferrals, again.wait.began) == (0, NOW)
    assert again.attempts.count == 2


def test_a_deferral_beyond_the_age_limit_ends_the_delivery() -> None:
    policy = RetryPolicy(age=5)
    old = msgspec.structs.replace(delivery(1), wait=Wait(NOW, 1.0, 1, NOW - 3000))
    ended = defer(old, policy, NOW + 1001)
    assert isinstance(ended, Ended)
    assert (ended.state, ended.exhausted) == (VerdictState.DEAD, Exhausted.AGE)
    assert isinstance(defer(old, policy, NOW), RetryLater)
    assert isinstance(defer(old, policy, NOW, NOW + 2001), Ended)


def test_a_receiver_that_is_gone_is_not_a_rejection() -> None:
    gone = Rejected(Reason(ReasonCode.GONE, "no more", 410))
    ended = settle(delivery(1), gone, RetryPolicy(), at=NOW, took=0.1, now=NOW)
    assert isinstance(ended, Ended)
    assert ended.exhausted is Exhausted.SUSPENDED
    assert isinstance(
        settle(delivery(1), gone, RetryPolicy(statuses=(410,)), at=NOW, took=0.1, now=NOW), RetryLater
    )


def test_an_attempt_keeps_status_and_address() -> None:
    ended = settle(
        delivery(1), Delivered("ok", 202, "192.0.2.7:443"), RetryPolicy(), at=NOW, took=0.1, now=NOW
    )
    assert isinstance(ended, Ended)
    (attempt,) = read_verdict(ended.records[0].value).attempts.last
    assert (attempt.status, attempt.address) == (202, "192.0.2.7:443")
    refused = Rejected(Reason(ReasonCode.REFUSED, "no", 404, "192.0.2.7:443"))
    dead = settle(delivery(1), refused, RetryPolicy(), at=NOW, took=0.1, now=NOW)
    assert isinstance(dead, Ended)
    (attempt,) = read_verdict(dead.records[1].value).attempts.last
    assert attempt.reason is not None
    assert (attempt.reason.status, attempt.reason.address) == (404, "192.0.2.7:443")


def test_an_expired_delivery_has_a_verdict_and_no_dead_letter() -> None:
    (record,) = expired(delivery(1), NOW).records
    assert read_verdict(record.value).state is VerdictState.EXPIRED
