"""Encoding of HTTP requests, and what must not be encoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from sinks.http.request import FRAMING, Request, build_head

HEAD = build_head("POST", URL("https://ops.test/hook?a=b"), {"X-Token": "t"})


def test_a_request_is_encoded_as_http_writes_it() -> None:
    assert Request(HEAD, {"webhook-id": "1"}, b"body").encode() == (
        b"POST /hook?a=b HTTP/1.1\r\nhost: ops.test\r\nuser-agent: heliograph\r\naccept: */*\r\n"
        b"accept-encoding: identity\r\nx-token: t\r\nwebhook-id: 1\r\ncontent-length: 4\r\n\r\nbody"
    )


def test_get_has_no_body_and_post_says_that_its_body_is_empty() -> None:
    assert b"content-length" not in Request(build_head("GET", URL("http://ops.test/"))).encode()
    assert b"content-length: 0\r\n" in Request(HEAD).encode()


def test_the_same_head_serves_another_path() -> None:
    other = HEAD.with_target_of(URL("https://ops.test/elsewhere"))
    assert Request(other).encode() == Request(HEAD).encode().replace(b"/hook?a=b", b"/elsewhere")


def test_a_callers_header_replaces_the_default_whatever_its_case() -> None:
    encoded = Request(build_head("POST", URL("http://ops.test:81/"), {"User-Agent": "mine"})).encode()
    assert encoded.count(b"user-agent") == 1
    assert b"user-agent: mine\r\n" in encoded
    assert b"host: ops.test:81\r\n" in encoded


@pytest.mark.parametrize(
    "value", ["", "a\nb", "a\r\nX-Evil: 1", "a\0", "\x7f", "\ud800", "a\r\n\r\nGET / HTTP/1.1"]
)
def test_header_values_with_line_breaks_or_control_characters_are_refused(value: str) -> None:
    for encode in (
        lambda: Request(HEAD, {"x-a": value}).encode(),
        lambda: build_head("POST", URL("http://a/"), {"x-a": value}),
    ):
        with pytest.raises(ValueError, match="the value of x-a ") as refused:
            encode()
        assert value == "" or value not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "a\r\nb", "ä", *sorted(FRAMING), "Content-Length", "HOST"]
)
def test_invalid_and_framing_header_names_are_refused(name: str) -> None:
    for encode in (
        lambda: Request(HEAD, {name: "1"}).encode(),
        lambda: build_head("POST", URL("http://a/"), {name: "1"}),
    ):
        with pytest.raises(ValueError, match="is not a header that a request may set"):
            encode()


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nhost: evil\r\n\r\nGET", "PO ST"])
def test_a_method_that_would_be_another_request_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="is not an HTTP method"):
        build_head(method, URL("http://a/"))


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx-evil: 1", "/\u00e9"])
def test_a_path_that_is_not_escaped_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not escaped"):
        build_head("POST", URL.build(scheme="http", host="a", path=path, encoded=True))


@given(st.dictionaries(st.from_regex(r"x-[a-z]{1,8}", fullmatch=True), st.text()), st.binary(max_size=50))
def test_any_header_values_make_exactly_one_request(headers: dict[str, str], body: bytes) -> None:
    try:
        encoded = Request(HEAD, headers, body).encode()
    except ValueError:
        return
    head, _, rest = encoded.partition(b"\r\n\r\n")
    assert rest == body
    assert len(head.split(b"\n")) == len(head.split(b"\r\n")) == 7 + len(headers)
