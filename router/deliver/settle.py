"""The settlement of an outcome, as records: a verdict, a wait on the wheel, or a dead letter. Pure functions."""

from __future__ import annotations

from typing import assert_never

import msgspec

from router.deliver.policy import GiveUp, deferral, gives_up_at, jitter_source, next_attempt
from router.deliver.wheel import topic_for
from schemas.delivery import (
    Attempt,
    Attempts,
    Delivered,
    Delivery,
    Exhausted,
    Outcome,
    Reason,
    ReasonCode,
    Rejected,
    Retry,
    Verdict,
    VerdictState,
    Wait,
    delivery_record,
    verdict_record,
)
from schemas.policy import RetryPolicy
from schemas.record import NewRecord
from schemas.topics import DEAD_LETTERS

_DETAIL_LIMIT = 500
"""Longest reason or receipt that is kept, in characters: four of them travel in headers."""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The delivery has ended. `records`: its verdict, and its dead letter if it is dead."""

    state: VerdictState
    records: tuple[NewRecord, ...]
    exhausted: Exhausted | None = None


class RetryLater(msgspec.Struct, frozen=True, gc=False):
    """The delivery waits for its next attempt. `delivery`: the delivery with its wait."""

    delivery: Delivery


Settlement = Ended | RetryLater


def settle(
    delivery: Delivery, outcome: Outcome, policy: RetryPolicy, *, at: int, took: float, now: int
) -> Settlement:
    """Returns the settlement of an attempt that began at `at`.

    `at`, `now`: milliseconds since the epoch; `took`: seconds.
    """
    attempts = delivery.attempts.plus(_attempt(outcome, at, took))
    match outcome:
        case Delivered():
            return Ended(VerdictState.DELIVERED, (_verdict(delivery, VerdictState.DELIVERED, attempts, now),))
        case Retry() | Rejected():
            attempted = msgspec.structs.replace(delivery, attempts=attempts)
            match next_attempt(policy, attempted, outcome, now=now, random=jitter_source(attempted)):
                case Wait() as wait:
                    return RetryLater(msgspec.structs.replace(attempted, wait=wait))
                case GiveUp(exhausted=exhausted):
                    return dead(attempted, outcome.reason, exhausted, now)
                case _ as never:
                    assert_never(never)
        case _ as never:
            assert_never(never)


def dead(delivery: Delivery, reason: Reason, exhausted: Exhausted, now: int) -> Ended:
    """Ends a delivery that will not be attempted again: builds its dead letter, which holds the whole delivery, and its
    verdict."""
    letter = delivery_record(msgspec.structs.replace(delivery, wait=None), DEAD_LETTERS)
    headers = [
        ("errorCode", reason.code.encode()),
        ("errorMessage", _storable(reason.detail).encode()),
        ("exhaustedRetryCondition", exhausted.encode()),
        ("retryAttempts", b"%d" % delivery.attempts.count),
    ]
    if delivery.attempts.first is not None:
        headers.append(("firstAttemptAt", b"%d" % delivery.attempts.first.at))
        headers.append(("lastAttemptAt", b"%d" % delivery.attempts.last[-1].at))
    letter = msgspec.structs.replace(letter, headers=(*letter.headers, *headers))
    verdict = _verdict(delivery, VerdictState.DEAD, delivery.attempts, now, exhausted=exhausted)
    return Ended(VerdictState.DEAD, (letter, verdict), exhausted)


def expired(delivery: Delivery, now: int) -> Ended:
    """Ends a delivery whose event is older than its target accepts."""
    return Ended(VerdictState.EXPIRED, (_verdict(delivery, VerdictState.EXPIRED, delivery.attempts, now),))


def defer(delivery: Delivery, policy: RetryPolicy, now: int, not_before: int = 0) -> Settlement:
    """Defers a delivery without an attempt, at least until `not_before`; ends it if it is too old by then.

    Times are milliseconds since the epoch.
    """
    wait = deferral(delivery, now, not_before)
    if wait.due > gives_up_at(policy, delivery, now):
        last = delivery.attempts.last[-1:]
        reason = last[0].reason if last else None
        never = Reason(ReasonCode.UNAVAILABLE, "the target was unavailable until the delivery was too old")
        return dead(delivery, reason or never, Exhausted.AGE, now)
    return RetryLater(msgspec.structs.replace(delivery, wait=wait))


def waiting_record(delivery: Delivery, now: int) -> NewRecord:
    """Returns a delivery with a wait as a record of the wheel. `now`: milliseconds since the epoch."""
    assert delivery.wait is not None  # noqa: S101 - the delivery of a `RetryLater` has a wait
    return delivery_record(delivery, topic_for(delivery.wait, now))


def _attempt(outcome: Outcome, at: int, took: float) -> Attempt:
    took = round(took, 6)
    if isinstance(outcome, Delivered):
        return Attempt(
            at=at,
            took=took,
            receipt=_storable(outcome.receipt),
            status=outcome.status,
            address=outcome.address,
        )
    reason = outcome.reason
    stored = Reason(reason.code, _storable(reason.detail), reason.status, reason.address)
    return Attempt(at=at, took=took, reason=stored)


def _storable(text: str) -> str:
    """Returns text short enough for headers, without lone surrogates, which UTF-8 cannot encode."""
    text = text[:_DETAIL_LIMIT]
    return text if text.isascii() else text.encode(errors="replace").decode()


def _verdict(
    delivery: Delivery,
    state: VerdictState,
    attempts: Attempts,
    now: int,
    *,
    exhausted: Exhausted | None = None,
) -> NewRecord:
    return verdict_record(
        Verdict(
            delivery=delivery.id,
            state=state,
            source=str(delivery.source),
            subscription=delivery.subscription,
            target=delivery.target,
            resource=delivery.resource,
            at=now,
            configuration=delivery.configuration,
            attempts=attempts,
            exhausted=exhausted,
            redrive=delivery.redrive,
        )
    )
