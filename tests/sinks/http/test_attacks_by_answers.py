"""Attacks by responses of a receiver: none harms the process or a later request."""

import asyncio
import gzip
import tracemalloc

import pytest

from schemas.delivery import Reason, ReasonCode
from sinks.http.connection import Connection
from sinks.http.request import BODY_KEPT
from sinks.http.response import BODY_READ, Response
from tests.sinks.http.asking import ask_replying, client_of, kept, listening, request, run, until
from tests.sinks.receiver import Receiver, answer, receiving

# Responses that are endless, too large, too slow or too many.


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked", b"Connection: close", b"Content-Length: 999999999999"]
)
def test_an_endless_body_does_not_delay_its_status(head: bytes) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 500 Oh\r\n" + head + b"\r\n\r\n")
        while True:
            writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await writer.drain()
            sent += 0x8000

    result = ask_replying(endless)
    assert isinstance(result, Response)
    assert (result.status, len(result.body)) == (500, BODY_KEPT)
    assert sent < 64 * BODY_READ


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"5;a=", b"x" * 4096),
        (b"0\r\nX-A: ", b"x" * 4096),
        (b"0\r\n", b"X-A: b\r\n" * 500),
        (b"", b"1;" + b"x" * 4000 + b"\r\nx\r\n"),
    ],
    ids=["extension", "trailer", "trailers", "extensions"],
)
def test_endless_parts_of_chunks_are_cut_off(begin: bytes, piece: bytes) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begin)
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    result = ask_replying(endless)
    assert isinstance(result, Response)
    assert result.status == 200
    assert sent < 64 * BODY_READ


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked", b"Content-Length: 9999"])
def test_a_slow_body_ends_with_the_time_limit(head: bytes) -> None:
    async def slow(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    result = ask_replying(slow, limit=1.0)
    assert isinstance(result, Response)
    assert result.status == 200
    assert len(result.body) < BODY_KEPT


@pytest.mark.parametrize("piece", [b"x", b"X-A: b\r\n", b"HTTP/1.1 103 Early\r\n\r\n"])
def test_a_slow_head_ends_with_the_time_limit(piece: bytes) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"" if piece.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    reason = ask_replying(drip, limit=1.0)
    assert isinstance(reason, Reason)
    assert (reason.code, reason.detail) == (ReasonCode.TIMED_OUT, "no answer within 1 s")
    assert reason.address


@pytest.mark.parametrize("piece", [b"x" * 4096, b"X-A: b\r\n" * 500, b"HTTP/1.1 100 Go\r\n\r\n" * 200])
def test_an_endless_head_is_cut_off(piece: bytes) -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"" if piece.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    reason = ask_replying(flood)
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.RECEIVER_FAILED
    assert reason.detail == "the answer is not HTTP: its head has more than 64 KiB"
    assert sent < 64 * BODY_READ


def test_an_endless_response_takes_no_memory() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await writer.drain()

    async def work() -> int:
        async with receiving(endless) as receiver:
            client = client_of(receiver.url)
            await client.send(request())
            tracemalloc.start()
            for _ in range(50):
                await client.send(request())
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            await client.close()
            return peak

    assert run(work()) < 50 * BODY_READ


def test_a_compression_bomb_is_not_decompressed() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    for encoding in ("gzip", "deflate", "br", "zstd"):
        result = ask_replying(answer(200, bomb, f"Content-Encoding: {encoding}"))
        assert isinstance(result, Response)
        assert result.body == bomb[:BODY_KEPT]


# Bytes that are not HTTP.


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"220 mail.ops.test ESMTP\r\n",
        b"\x00" * 1000,
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(9000)) + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 -200 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA\x00B: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : c\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_a_response_that_is_not_http_is_a_failure(reply: bytes) -> None:
    reason = ask_replying(reply)
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.RECEIVER_FAILED
    assert reason.detail.startswith("the answer is not HTTP: ")
    assert len(reason.detail) <= 200
    assert reason.address


def test_a_malformed_body_ends_the_connection_and_keeps_the_status() -> None:
    async def work() -> None:
        async with receiving(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n") as receiver:
            client = client_of(receiver.url)
            for _ in range(2):
                assert (await client.send(request())).status == 200
            assert receiver.connections == 2
            await client.close()

    run(work())


# Responses without a request.

GOOD = answer(404, b"no")
EVIL = answer(200, b"evil", "Webhook-Delivery: disable")


async def two_calls(receiver: Receiver, *, late: bool) -> list[int]:
    client = client_of(receiver.url)
    found: list[int] = []
    for _ in range(2):
        result = await client.send(request())
        assert isinstance(result, Response)
        assert "webhook-delivery" not in result.headers
        found.append(result.status)
        if late:
            await until(lambda: not any(connection.open for connection in kept(client)))
    await client.close()
    return found


@pytest.mark.parametrize("more", [EVIL, b"HTTP/1.1 100 Go\r\n\r\n", b"\r\n", b"x", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("late", [False, True])
def test_bytes_after_a_response_are_not_the_next_response(more: bytes, *, late: bool) -> None:
    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(GOOD if late else GOOD + more)
        if late:
            await writer.drain()
            await asyncio.sleep(0.001)
            writer.write(more)

    async def work() -> None:
        async with receiving(reply) as receiver:
            assert await two_calls(receiver, late=late) == [404, 404]

    run(work())


def test_bytes_before_a_request_close_the_connection() -> None:
    async def eager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVIL)
        await writer.drain()
        await reader.read()
        writer.close()

    async def work() -> None:
        async with listening(eager) as port:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection("a:1", 30), "127.0.0.1", port)
            await until(lambda: not connection.open)
            found = await connection.exchange(request().encode(), loop.time() + 30)
            assert found == Reason(
                ReasonCode.UNREACHABLE, "the connection was closed before the request", address="a:1"
            )

    run(work())


def test_a_response_before_the_request_was_read_ends_the_connection() -> None:
    large = request(b"x" * 32_000_000)

    async def work() -> None:
        answered = asyncio.Event()

        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(413))
            await answered.wait()
            writer.close()

        async with listening(early) as port:
            client = client_of(f"http://127.0.0.1:{port}/")
            assert (await client.send(large)).status == 413
            assert kept(client) == []
            answered.set()
            await client.close()

    run(work())
