"""What follows from an outcome, as records: a verdict, a wait on the wheel, or a dead letter. Pure."""

from __future__ import annotations

from typing import assert_never

import msgspec

from router.deliver.policy import GiveUp, chance, deferred, gives_up_at, next_attempt
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
"""Characters of a reason or a receipt that are kept: four of them travel in headers."""


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The delivery is over. `records`: its verdict, and its dead letter if it is one."""

    state: VerdictState
    records: tuple[NewRecord, ...]
    exhausted: Exhausted | None = None


class Again(msgspec.Struct, frozen=True, gc=False):
    """The delivery is to be tried again when its wait is over."""

    delivery: Delivery


Settlement = Ended | Again


def settle(
    delivery: Delivery, outcome: Outcome, policy: RetryPolicy, at: int, took: float, now: int
) -> Settlement:
    """What follows from the outcome of an attempt. `at`, `now`: milliseconds since the epoch; `took`: seconds."""
    attempts = delivery.attempts.plus(_attempt(outcome, at, took))
    match outcome:
        case Delivered():
            return Ended(VerdictState.DELIVERED, (_verdict(delivery, VerdictState.DELIVERED, attempts, now),))
        case Retry() | Rejected():
            tried = msgspec.structs.replace(delivery, attempts=attempts)
            match next_attempt(policy, tried, outcome, now, chance(tried)):
                case Wait() as wait:
                    return Again(msgspec.structs.replace(tried, wait=wait))
                case GiveUp(exhausted=exhausted):
                    return dead(tried, outcome.reason, exhausted, now)
                case _ as never:
                    assert_never(never)
        case _ as never:
            assert_never(never)


def dead(delivery: Delivery, reason: Reason, exhausted: Exhausted, now: int) -> Ended:
    """The end of a delivery that will not be tried again: kept whole in `dead-letters`, and a verdict."""
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
    verdict = _verdict(delivery, VerdictState.DEAD, delivery.attempts, now, exhausted)
    return Ended(VerdictState.DEAD, (letter, verdict), exhausted)


def expired(delivery: Delivery, now: int) -> Ended:
    """The end of a delivery whose event is older than its target wants."""
    return Ended(VerdictState.EXPIRED, (_verdict(delivery, VerdictState.EXPIRED, delivery.attempts, now),))


def put_off(delivery: Delivery, policy: RetryPolicy, now: int, not_before: int = 0) -> Settlement:
    """What becomes of a delivery that cannot be tried now: it waits, at least until `not_before`, unless it will have
    grown too old by then. Milliseconds since the epoch."""
    wait = deferred(delivery, now, not_before)
    if wait.due > gives_up_at(policy, delivery, now):
        last = delivery.attempts.last[-1:]
        reason = last[0].reason if last else None
        never = Reason(ReasonCode.UNAVAILABLE, "its target could not be tried")
        return dead(delivery, reason or never, Exhausted.AGE, now)
    return Again(msgspec.structs.replace(delivery, wait=wait))


def waiting_record(delivery: Delivery, now: int) -> NewRecord:
    """A delivery with a wait as a record of the wheel. `now`: milliseconds since the epoch."""
    assert delivery.wait is not None  # noqa: S101 - what `Again` holds has one
    return delivery_record(delivery, topic_for(delivery.wait, now))


def _attempt(outcome: Outcome, at: int, took: float) -> Attempt:
    took = round(took, 6)
    if isinstance(outcome, Delivered):
        return Attempt(at, took, None, _storable(outcome.receipt), outcome.status, outcome.address)
    reason = outcome.reason
    return Attempt(at, took, Reason(reason.code, _storable(reason.detail), reason.status, reason.address))


def _storable(text: str) -> str:
    """Short enough to travel in headers, and without the halves of characters that cannot be written down."""
    text = text[:_DETAIL_LIMIT]
    return text if text.isascii() else text.encode(errors="replace").decode()


def _verdict(
    delivery: Delivery, state: VerdictState, attempts: Attempts, now: int, exhausted: Exhausted | None = None
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
