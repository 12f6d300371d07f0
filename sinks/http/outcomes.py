"""The meaning of HTTP responses for deliveries: one table."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

from schemas.delivery import Delivered, Outcome, Reason, ReasonCode, Rejected, Retry
from sinks.http.lines import DETAIL_LIMIT, one_line
from sinks.http.response import Response

LONGEST_WAIT = 86_400.0
"""Longest wait in seconds that a receiver can ask for; a longer one is shortened to this."""


class _Rule(NamedTuple):
    statuses: range
    outcome: type[Delivered | Retry | Rejected]
    code: ReasonCode = ReasonCode.REFUSED


_RULES = (
    _Rule(range(200, 300), Delivered),
    _Rule(range(408, 409), Retry, ReasonCode.RECEIVER_FAILED),
    _Rule(range(429, 430), Retry, ReasonCode.THROTTLED),
    _Rule(range(410, 411), Rejected, ReasonCode.GONE),
    _Rule(range(300, 500), Rejected),
    _Rule(range(502, 503), Retry, ReasonCode.THROTTLED),
    _Rule(range(504, 505), Retry, ReasonCode.THROTTLED),
    _Rule(range(1000), Retry, ReasonCode.RECEIVER_FAILED),
)
"""The first rule that contains the status applies. The last rule is for 5xx, and for numbers that HTTP does not
define."""
_RULE_BY_STATUS = [next(rule for rule in _RULES if status in rule.statuses) for status in range(1000)]

_FINAL = frozenset({ReasonCode.FORBIDDEN, ReasonCode.REFUSED, ReasonCode.GONE, ReasonCode.TOO_LARGE})


def judge_response(response: Response, now: int) -> Outcome:
    """Returns the outcome of a delivery that got a response. `now`: milliseconds since the epoch.

    With any status a receiver may also send `webhook-delivery: disable`, which asks for no further deliveries, or
    `abort-message`, which asks that this one is not retried and has no effect on a delivery that succeeded (proposal
    "Delivery control" to Standard Webhooks, July 2026, as implemented by Svix).
    """
    rule = _RULE_BY_STATUS[response.status]
    text = one_line(response.body)
    control = response.headers.get("webhook-delivery")
    if control is not None:
        wish = control.strip().lower()
        if wish == "disable" or (wish == "abort-message" and rule.outcome is not Delivered):
            code = ReasonCode.GONE if wish == "disable" else ReasonCode.REFUSED
            detail = f"webhook-delivery: {wish}, {_detail(response.status, text)}"[:DETAIL_LIMIT]
            return Rejected(Reason(code, detail, response.status, response.address))
    if rule.outcome is Delivered:
        return Delivered(text, response.status, response.address)
    reason = Reason(rule.code, _detail(response.status, text), response.status, response.address)
    if rule.outcome is Rejected:
        return Rejected(reason)
    return Retry(reason, parse_retry_after(response.headers.get("retry-after"), now))


def judge_failure(reason: Reason) -> Outcome:
    """Returns the outcome of a delivery that got no response."""
    return Rejected(reason) if reason.code in _FINAL else Retry(reason)


def parse_retry_after(value: str | None, now: int) -> float | None:
    """Returns the wait in seconds that a header Retry-After (RFC 9110, 10.2.3: seconds or a date) asks for, or None if
    it asks for none."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:20]), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    wait = when.replace(tzinfo=when.tzinfo or UTC).timestamp() - now / 1000
    return min(max(wait, 0.0), LONGEST_WAIT)


def _detail(status: int, text: str) -> str:
    if 300 <= status < 400:
        text = "redirects are not followed: name the final URL"
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "not a status of HTTP"
    return f"{status} {phrase}: {text}"[:DETAIL_LIMIT] if text else f"{status} {phrase}"
