"""Outcomes of HTTP responses."""

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.delivery import Delivered, Outcome, Reason, ReasonCode, Rejected, Retry
from sinks.http.lines import DETAIL_LIMIT, one_line
from sinks.http.outcomes import LONGEST_WAIT, judge_failure, judge_response, parse_retry_after
from sinks.http.response import Response

NOW = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC


def expected(status: int) -> tuple[type[Outcome], ReasonCode | None]:
    if 200 <= status <= 299:
        return Delivered, None
    if status in {429, 502, 504}:
        return Retry, ReasonCode.THROTTLED
    if status == 410:
        return Rejected, ReasonCode.GONE
    if status == 408 or not 300 <= status <= 499:
        return Retry, ReasonCode.RECEIVER_FAILED
    return Rejected, ReasonCode.REFUSED


@pytest.mark.parametrize("status", range(1000))
def test_every_status_has_its_outcome(status: int) -> None:
    outcome = judge_response(Response(status, b"because"), NOW)
    kind, code = expected(status)
    assert type(outcome) is kind
    if not isinstance(outcome, Delivered):
        assert outcome.reason.code is code
        assert outcome.reason.status == status
        assert str(status) in outcome.reason.detail


def test_the_receipt_is_the_body_of_the_response() -> None:
    assert judge_response(Response(200, b" thank\r\nyou ", {}, "a:1"), NOW) == Delivered(
        "thank you", 200, "a:1"
    )
    assert judge_response(Response(204), NOW) == Delivered("", 204)


def test_the_detail_is_the_phrase_of_the_status_and_the_body() -> None:
    assert judge_response(Response(404, b"no such hook"), NOW) == Rejected(
        Reason(ReasonCode.REFUSED, "404 Not Found: no such hook", 404)
    )
    assert judge_response(Response(599), NOW) == Retry(
        Reason(ReasonCode.RECEIVER_FAILED, "599 not a status of HTTP", 599)
    )


def test_the_detail_of_a_redirect_says_what_to_do() -> None:
    outcome = judge_response(Response(302, b"moved"), NOW)
    assert isinstance(outcome, Rejected)
    assert outcome.reason.detail == "302 Found: redirects are not followed: name the final URL"


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("9" * 400, LONGEST_WAIT),
        ("86401", LONGEST_WAIT),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 0.0),
        ("Tue, 14 Nov 2000 22:13:20 GMT", 0.0),
        ("Tue, 14 Nov 2123 22:13:20 GMT", LONGEST_WAIT),
        ("Tue, 14 Nov 99999999 22:13:20 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(retry_after: str | None, seconds: float | None) -> None:
    assert parse_retry_after(retry_after, NOW) == seconds
    headers = {} if retry_after is None else {"retry-after": retry_after}
    assert judge_response(Response(503, b"", headers), NOW) == Retry(
        Reason(ReasonCode.RECEIVER_FAILED, "503 Service Unavailable", 503), seconds
    )


@pytest.mark.parametrize("status", [200, 302, 404, 410, 429, 503])
def test_webhook_delivery_disable_rejects_with_any_status(status: int) -> None:
    for wish in ("disable", " Disable "):
        outcome = judge_response(
            Response(status, b"bye", {"retry-after": "9", "webhook-delivery": wish}, "a:1"), NOW
        )
        assert isinstance(outcome, Rejected)
        assert (outcome.reason.code, outcome.reason.status, outcome.reason.address) == (
            ReasonCode.GONE,
            status,
            "a:1",
        )
        assert outcome.reason.detail.startswith(f"webhook-delivery: disable, {status} ")


def test_webhook_delivery_abort_message_prevents_retries() -> None:
    for status in (302, 404, 408, 410, 429, 500, 503):
        outcome = judge_response(
            Response(status, b"", {"retry-after": "9", "webhook-delivery": "abort-message"}), NOW
        )
        assert isinstance(outcome, Rejected)
        assert (outcome.reason.code, outcome.reason.status) == (ReasonCode.REFUSED, status)
        assert outcome.reason.detail.startswith(f"webhook-delivery: abort-message, {status} ")
    assert judge_response(Response(200, b"", {"webhook-delivery": "abort-message"}), NOW) == Delivered(
        "", 200
    )


@given(st.text(max_size=20), st.sampled_from([200, 404, 503]))
def test_other_values_of_webhook_delivery_change_nothing(wish: str, status: int) -> None:
    if wish.strip().lower() not in {"disable", "abort-message"}:
        assert judge_response(Response(status, b"", {"webhook-delivery": wish}), NOW) == judge_response(
            Response(status), NOW
        )


@given(st.text(max_size=60))
def test_any_retry_after_is_a_bounded_wait(text: str) -> None:
    wait = parse_retry_after(text, NOW)
    assert wait is None or 0 <= wait <= LONGEST_WAIT


@given(st.binary(max_size=1000))
def test_any_body_becomes_one_printable_line(body: bytes) -> None:
    line = one_line(body)
    assert len(line) <= DETAIL_LIMIT
    assert not line or line.isprintable()


@pytest.mark.parametrize("code", list(ReasonCode))
def test_a_missing_response_rejects_only_if_its_cause_lasts(code: ReasonCode) -> None:
    final = code in {ReasonCode.FORBIDDEN, ReasonCode.REFUSED, ReasonCode.GONE, ReasonCode.TOO_LARGE}
    assert judge_failure(Reason(code)) == (Rejected(Reason(code)) if final else Retry(Reason(code)))


def test_every_known_status_is_named_by_its_phrase() -> None:
    for status in HTTPStatus:
        outcome = judge_response(Response(int(status)), NOW)
        if not isinstance(outcome, Delivered):
            assert outcome.reason.detail.startswith(f"{int(status)} {status.phrase}")
