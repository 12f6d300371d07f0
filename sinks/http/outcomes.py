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
    """What a receiver answered. `beginning`: the first bytes of the body; `retry_after` and `control`: its headers
    Retry-After and Webhook-Delivery; `address`: as in `Reason`."""

    status: int
    beginning: bytes = b""
    retry_after: str | None = None
    control: str | None = None
    address: str = ""


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
"""The first rule that has the status holds. The last one is for 5xx, and for what is no status of HTTP."""
_RULE_OF = [next(rule for rule in _RULES if status in rule.statuses) for status in range(1000)]

_NEVER_AGAIN = frozenset({ReasonCode.FORBIDDEN, ReasonCode.REFUSED, ReasonCode.GONE, ReasonCode.TOO_LARGE})


def answered(answer: Answer, now: int) -> Outcome:
    """The outcome of a delivery that was answered. `now`: milliseconds since the epoch.

    A receiver may also answer `webhook-delivery: disable`, whatever the status: no delivery any more; or
    `abort-message`: not this one again, which says nothing of one that was taken (proposal "Delivery control" to
    Standard Webhooks, July 2026, as Svix has it).
    """
    rule = _RULE_OF[answer.status]
    text = one_line(answer.beginning)
    if answer.control is not None:
        wish = answer.control.strip().lower()
        if wish == "disable" or (wish == "abort-message" and rule.outcome is not Delivered):
            code = ReasonCode.GONE if wish == "disable" else ReasonCode.REFUSED
            detail = f"webhook-delivery: {wish}, {_detail(answer.status, text)}"[:DETAIL_LIMIT]
            return Rejected(Reason(code, detail, answer.status, answer.address))
    if rule.outcome is Delivered:
        return Delivered(text, answer.status, answer.address)
    reason = Reason(rule.code, _detail(answer.status, text), answer.status, answer.address)
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
    text = " ".join(body.decode(errors="replace").split())[:DETAIL_LIMIT]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "�" for char in text)


def _detail(status: int, text: str) -> str:
    if 300 <= status < 400:
        text = "redirects are not followed: name the final URL"
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "not a status of HTTP"
    return f"{status} {phrase}: {text}"[:DETAIL_LIMIT] if text else f"{status} {phrase}"
