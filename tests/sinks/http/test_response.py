"""Reading of HTTP responses."""

from hypothesis import given
from hypothesis import strategies as st

from sinks.http.request import BODY_KEPT
from sinks.http.response import BODY_READ, HEAD_LIMIT, Response, ResponseReader

STATUSES = st.sampled_from([200, 204, 302, 410, 429, 500, 503, 599])
CUTS = st.lists(st.integers(0, 400), max_size=8)


def fed(*pieces: bytes) -> ResponseReader:
    reader = ResponseReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


def cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    """Cuts the bytes into pieces, none of them empty."""
    ends = sorted({*(one for one in cuts if 0 < one < len(whole)), len(whole)})
    return [whole[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True) if begin < end]


@given(
    STATUSES,
    st.binary(max_size=2 * BODY_KEPT),
    st.none() | st.integers(0, 10**9),
    st.booleans(),
    st.integers(0, 3),
    CUTS,
)
def test_a_response_is_the_same_in_any_pieces(
    status: int, body: bytes, after: int | None, chunked: bool, interim: int, cuts: list[int]
) -> None:
    body = b"" if status == 204 else body
    lines = [b"HTTP/1.1 %d Words" % status]
    lines += [] if after is None else [b"RETRY-AFTER: %d" % after]
    if status == 204:
        framed = b""
    elif chunked:
        lines.append(b"Transfer-Encoding: chunked")
        framed = (
            b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (body[:7], body[7:]) if one) + b"0\r\n\r\n"
        )
    else:
        lines.append(b"Content-Length: %d" % len(body))
        framed = body
    whole = (
        b"HTTP/1.1 103 Soon\r\nRetry-After: 99\r\n\r\n" * interim + b"\r\n".join(lines) + b"\r\n\r\n" + framed
    )
    reader = fed(*cut(whole, cuts))
    assert (reader.ended, reader.reusable, reader.problem) == (True, True, "")
    found = reader.response("somewhere")
    assert (found.status, found.body, found.address) == (status, body[:BODY_KEPT], "somewhere")
    assert found.headers.get("retry-after") == (None if after is None else str(after))
    reader.begin()
    assert not reader.feed(whole[:12])


@given(st.binary(max_size=400), CUTS)
def test_any_bytes_are_a_response_a_problem_or_incomplete(junk: bytes, cuts: list[int]) -> None:
    reader = fed(*cut(junk, cuts))
    if reader.ended:
        assert (reader.status != 0) or (reader.problem != "")


@given(st.binary(min_size=1, max_size=200))
def test_bytes_after_a_response_are_ignored_and_end_the_connection(more: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    together = fed(head + more)
    apart = fed(head, more)
    for reader in (together, apart):
        assert reader.response("") == Response(200, b"ok", {"content-length": "2"})
        assert not reader.reusable or more.strip(b"\r\n") == b""
    assert not apart.reusable


def test_headers_after_a_response_are_ignored() -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    for second in (
        b"HTTP/1.1 503 No\r\nRetry-After: 9\r\nWebhook-Delivery: disable\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 103 Soon\r\nWebhook-Delivery: disable\r\n\r\n",
    ):
        reader = fed(first + second)
        assert reader.response("") == Response(200, b"ok", {"content-length": "2"})
        assert not reader.reusable


def test_trailers_do_not_become_headers() -> None:
    reader = fed(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nWebhook-Delivery: disable\r\n\r\n"
    )
    assert reader.response("") == Response(200, b"a", {"transfer-encoding": "chunked"})
    assert reader.ended


def test_a_head_above_64_kib_is_a_problem() -> None:
    padding = b"X: " + b"y" * 1000 + b"\r\n"
    fits = (HEAD_LIMIT - 100) // len(padding)
    assert fed(b"HTTP/1.1 200 OK\r\n" + padding * fits + b"Content-Length: 0\r\n\r\n").status == 200
    for pieces in (
        [b"HTTP/1.1 200 OK\r\n" + padding * (fits + 1) + b"Content-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n", *[padding] * (fits + 1)],
        [b"HTTP/1.1 200 OK\r\n" + padding * 3 * fits],
        [b"HTTP/1.1 103 Soon\r\n\r\n"] * (HEAD_LIMIT // 21 + 1),
    ):
        reader = fed(*pieces)
        assert (reader.ended, reader.reusable, reader.status) == (True, False, 0)
        assert reader.problem == "its head has more than 64 KiB"


def test_the_body_does_not_count_towards_the_limit_of_the_head() -> None:
    reader = fed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_READ + b"x" * BODY_READ)
    assert (reader.ended, reader.reusable) == (True, True)
    assert reader.response("").body == b"x" * BODY_KEPT


def test_a_body_is_read_up_to_its_limit() -> None:
    reader = fed(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"x" * BODY_READ)
    assert not reader.ended
    assert reader.feed(b"x")
    assert not reader.reusable
    assert reader.response("").body == b"x" * BODY_KEPT


def test_a_change_of_protocol_is_a_problem() -> None:
    reader = fed(b"HTTP/1.1 101 Go\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")
    assert (reader.status, reader.problem) == (0, "it changes to another protocol")


@given(st.binary(max_size=300), st.integers(0, 400), CUTS)
def test_the_body_is_kept_up_to_the_bytes_that_the_request_asks_for(
    body: bytes, kept: int, cuts: list[int]
) -> None:
    reader = ResponseReader()
    reader.begin(body_kept=kept)
    for piece in cut(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, cuts):
        reader.feed(piece)
    assert (reader.ended, reader.reusable) == (True, True)
    assert reader.response("").body == body[:kept]


def test_a_large_body_is_read_whole_on_request() -> None:
    body = b"x" * (3 * BODY_READ)
    reader = ResponseReader()
    reader.begin(body_kept=len(body))
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert (reader.response("").body, reader.reusable) == (body, True)


def test_of_several_headers_of_one_name_the_last_counts() -> None:
    reader = fed(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")
    assert reader.response("").headers == {"x-a": "2", "content-length": "0"}
