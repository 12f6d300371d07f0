"""What an answer over HTTP means for a delivery: one table."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from schemas.delivery import Delivered, Outcome, Reason, ReasonCode, Rejected, Retry

DETAIL_LIMIT = 200
"""Characters kept of what a receiver says."""
LONGEST_WAIT = 86_400.0
"""Seconds: a receiver that asks for more is tried again after this."""


class Answer(msgspec.Struct, frozen=True):
    """What a receiver answered. `beginning`: the first bytes of the body."""

    status: int
    beginning: bytes = b""
    retry_after: str | None = None


class _Rule(NamedTuple):
    statuses: range
    outcome: type[Delivered | Retry | Rejected]
    code: ReasonCode = ReasonCode.REFUSED


_RULES = (
    _Rule(range(200, 300), Delivered),
    _Rule(range(408, 409), Retry, ReasonCode.RECEIVER_FAILED),
    _Rule(range(429, 430), Retry, ReasonCode.THROTTLED),
    _Rule(range(300, 500), Rejected),
    _Rule(range(502, 505), Retry, ReasonCode.THROTTLED),
    _Rule(range(500, 600), Retry, ReasonCode.RECEIVER_FAILED),
)
"""The first rule that has the status holds; a status in none is no answer of HTTP, and tried again."""
_NO_RULE = _Rule(range(0), Retry, ReasonCode.RECEIVER_FAILED)

_NEVER_AGAIN = frozenset({ReasonCode.FORBIDDEN, ReasonCode.REFUSED, ReasonCode.TOO_LARGE})


def answered(answer: Answer, now: int) -> Outcome:
    """The outcome of a delivery that was answered. `now`: milliseconds since the epoch."""
    rule = next((rule for rule in _RULES if answer.status in rule.statuses), _NO_RULE)
    text = one_line(answer.beginning)
    if rule.outcome is Delivered:
        return Delivered(text)
    reason = Reason(rule.code, _detail(answer.status, text), answer.status)
    if rule.outcome is Rejected:
        return Rejected(reason)
    return Retry(reason, asked_wait(answer.retry_after, now))


def unanswered(reason: Reason) -> Outcome:
    """The outcome of a delivery that no answer came to."""
    return Rejected(reason) if reason.code in _NEVER_AGAIN else Retry(reason)


def asked_wait(retry_after: str | None, now: int) -> float | None:
    """Seconds that a header Retry-After (RFC 9110, 10.2.3: seconds or a date) asks for; None if it says nothing."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:20]), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    wait = when.replace(tzinfo=when.tzinfo or UTC).timestamp() - now / 1000
    return min(max(wait, 0.0), LONGEST_WAIT)


def one_line(body: bytes) -> str:
    """What a receiver said as one printable line."""
    text = " ".join(body.decode(errors="replace").split())
    return "".join(char if char.isprintable() else "�" for char in text[:DETAIL_LIMIT])


def _detail(status: int, text: str) -> str:
    if 300 <= status < 400:
        text = "redirects are not followed: name the final URL"
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "not a status of HTTP"
    return f"{status} {phrase}: {text}"[:DETAIL_LIMIT] if text else f"{status} {phrase}"
