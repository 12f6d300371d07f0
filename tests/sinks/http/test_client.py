import asyncio
import socket
import ssl
import threading
from collections.abc import Coroutine, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop
from yarl import URL

from schemas.delivery import Reason, ReasonCode
from sinks.http.client import KEPT, READ, GuardedClient, Lookup, look_up
from sinks.http.guard import Address, Network
from sinks.outcomes import Answer
from tests.sinks.receiver import LOOPBACK, Reply, answer, receiving

T = TypeVar("T")


def run(work: Coroutine[None, None, T]) -> T:
    """Run on the loop that production uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def ask(
    url: str, allowed: Sequence[Network] = LOOPBACK, limit: float = 30.0, lookup: Lookup | None = None
) -> Answer | Reason:
    client = GuardedClient(allowed, limit, lookup)
    try:
        return await client.send("POST", URL(url), {"x-test": "1"}, b"body")
    finally:
        await client.close()


def ask_replying(reply: Reply, limit: float = 30.0) -> Answer | Reason:
    async def work() -> Answer | Reason:
        async with receiving(reply) as receiver:
            return await ask(receiver.url, limit=limit)

    return run(work())


def finds(*addresses: str) -> Lookup:
    return lambda host: [ip_address(one) for one in addresses]


def test_the_answer_and_nothing_added_to_the_request() -> None:
    async def work() -> None:
        async with receiving(answer(201, b"made", "Retry-After: 7")) as receiver:
            assert await ask(receiver.url) == Answer(201, b"made", "7")
            (request,) = receiver.requests
            assert request.line == "POST /hook HTTP/1.1"
            assert request.body == b"body"
            assert set(request.headers) == {"host", "x-test", "content-length"}

    run(work())


def test_a_connection_is_used_again() -> None:
    async def work() -> None:
        async with receiving(answer(200, b"x" * (READ - 1))) as receiver:
            client = GuardedClient(LOOPBACK, 30)
            for _ in range(20):
                assert await client.send("POST", URL(receiver.url), {}, b"") == Answer(200, b"x" * KEPT)
            await client.close()
            assert (receiver.connections, len(receiver.requests)) == (1, 20)

    run(work())


def test_cookies_are_not_kept() -> None:
    async def work() -> None:
        async with receiving(answer(200, b"", "Set-Cookie: a=b")) as receiver:
            client = GuardedClient(LOOPBACK, 30)
            for _ in range(2):
                await client.send("POST", URL(receiver.url), {}, b"")
            await client.close()
            assert "cookie" not in receiver.requests[1].headers

    run(work())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer(status: int) -> None:
    async def work() -> None:
        async with (
            receiving(answer(200)) as other,
            receiving(answer(status, b"", f"Location: {other.url}")) as receiver,
        ):
            assert await ask(receiver.url) == Answer(status)
            assert other.connections == 0

    run(work())


def test_the_environments_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver, receiving(answer(502)) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv("NO_PROXY", "")
            assert await ask(receiver.url) == Answer(200)
            assert proxy.connections == 0

    run(work())


def test_an_address_that_is_not_allowed_is_not_connected_to() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"):
                refused = await ask(f"http://{host}:{receiver.port}/", allowed=[ip_network("10.0.0.0/8")])
                assert isinstance(refused, Reason)
                assert refused.code is ReasonCode.FORBIDDEN
                assert "loopback address; [delivery] allow_networks" in refused.detail
            assert receiver.connections == 0

    run(work())


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1", "127.0.0.1.", "0"]
)
def test_an_oddly_written_address_is_not_connected_to_even_where_it_is_allowed(host: str) -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            refused = await ask(f"http://{host}:{receiver.port}/")
            assert isinstance(refused, Reason)
            assert refused.code is ReasonCode.FORBIDDEN
            assert receiver.connections == 0

    run(work())


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "fd00:ec2::254", "::ffff:192.168.0.1", "100.100.100.200"]
)
def test_a_name_of_private_addresses_is_refused(address: str) -> None:
    refused = run(ask("http://ops.test/", allowed=(), lookup=finds(address, "127.0.0.1")))
    assert isinstance(refused, Reason)
    assert refused.code is ReasonCode.FORBIDDEN
    assert refused.detail.startswith(f"ops.test resolves to {ip_address(address)}, a ")


def test_only_the_allowed_addresses_of_a_name_are_connected_to() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            url = f"http://ops.test:{receiver.port}/"
            only = [ip_network("127.0.0.1/32")]
            found = finds("10.255.255.1", "127.0.0.2", "::1", "127.0.0.1")
            assert await ask(url, allowed=only, lookup=found) == Answer(200)
            assert receiver.requests[0].headers["host"] == f"ops.test:{receiver.port}"

    run(work())


def test_a_name_that_changes_between_check_and_connection_changes_nothing() -> None:
    """The system does not know `rebind.test`, so that an answer proves that nobody asked it again."""
    answers = [[ip_address("127.0.0.1")], [ip_address("127.0.0.2")]]
    asked: list[str] = []

    def rebinding(host: str) -> Sequence[Address]:
        asked.append(host)
        return answers[len(asked) - 1]

    async def work() -> None:
        async with receiving(answer(200, b"", "Connection: close")) as receiver:
            assert await ask(
                f"http://rebind.test:{receiver.port}/", [ip_network("127.0.0.1/32")], lookup=rebinding
            ) == Answer(200)
            assert asked == ["rebind.test"]
            client = GuardedClient([ip_network("127.0.0.1/32")], 30, rebinding)
            refused = await client.send("POST", URL(f"http://rebind.test:{receiver.port}/"), {}, b"")
            await client.close()
            assert isinstance(refused, Reason)
            assert refused.code is ReasonCode.FORBIDDEN

    run(work())


def test_a_name_without_an_address() -> None:
    def unknown(host: str) -> Sequence[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert run(ask("http://gone.test/", lookup=unknown)) == Reason(
        ReasonCode.UNREACHABLE, "the host has no address: Name or service not known"
    )
    assert run(ask("http://gone.test/", lookup=finds())) == Reason(
        ReasonCode.UNREACHABLE, "the host has no address: gone.test has no address"
    )


def test_a_look_up_that_hangs_ends_with_the_time_limit() -> None:
    release = threading.Event()

    def hangs(host: str) -> Sequence[Address]:
        release.wait(60)
        return [ip_address("127.0.0.1")]

    try:
        reason = run(ask("http://slow.test/", limit=0.1, lookup=hangs))
    finally:
        release.set()
    assert reason == Reason(ReasonCode.TIMED_OUT, "no answer within 0.1 s")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    reason = run(ask(f"http://127.0.0.1:{port}/"))
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.UNREACHABLE
    assert reason.detail.startswith("no connection: ")


def test_a_receiver_that_is_silent() -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    assert ask_replying(silent, limit=0.1) == Reason(ReasonCode.TIMED_OUT, "no answer within 0.1 s")


def test_a_receiver_that_sends_its_head_forever() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    reason = ask_replying(drip, limit=0.2)
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.TIMED_OUT


def test_a_receiver_that_closes_without_an_answer() -> None:
    async def leave(writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert ask_replying(leave) == Reason(
        ReasonCode.UNREACHABLE, "the connection was closed without an answer"
    )


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
        b"\x00" * 1000,
    ],
)
def test_an_answer_that_is_not_http_or_has_too_much_of_a_head(reply: bytes) -> None:
    reason = ask_replying(reply)
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.RECEIVER_FAILED
    assert reason.detail.startswith("the answer is not HTTP: ")
    assert len(reason.detail) <= 200


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked", b"Connection: close", b"Content-Length: 999999999999"]
)
def test_a_body_without_end_does_not_hold_its_status(head: bytes) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oh\r\n" + head + b"\r\n\r\n")
        while True:
            writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await writer.drain()

    result = ask_replying(endless)
    assert isinstance(result, Answer)
    assert result.status == 500
    assert len(result.beginning) == KEPT


def test_a_body_that_never_comes_does_not_change_its_status() -> None:
    async def stuck(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await asyncio.sleep(60)

    assert ask_replying(stuck, limit=0.2) == Answer(200)


def test_a_body_that_breaks_off_does_not_change_its_status() -> None:
    async def torn(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Oh\r\nContent-Length: 10\r\nRetry-After: 9\r\n\r\nabc")
        writer.close()

    result = ask_replying(torn)
    assert isinstance(result, Answer)
    assert (result.status, result.retry_after) == (503, "9")


def test_a_packed_body_is_not_unpacked() -> None:
    assert ask_replying(answer(200, b"\x1f\x8b bomb", "Content-Encoding: gzip")) == Answer(
        200, b"\x1f\x8b bomb"
    )


def test_a_certificate_that_nobody_signed() -> None:
    async def work() -> Answer | Reason:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(Path(__file__).with_name("untrusted.pem"))
        async with receiving(answer(200), tls) as receiver:
            return await ask(f"https://127.0.0.1:{receiver.port}/")

    reason = asyncio.run(work())
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.UNREACHABLE
    assert reason.detail == "TLS: self-signed certificate"


def test_a_receiver_that_does_not_speak_tls() -> None:
    async def work() -> Answer | Reason:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 This is plain HTTP\r\nContent-Length: 0\r\n\r\n")
            await reader.read()
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            return await ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    reason = run(work())
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.UNREACHABLE
    assert reason.detail.startswith("TLS: ")


def test_the_machines_own_names_are_found() -> None:
    assert ip_address("127.0.0.1") in look_up("localhost")


def test_closing_what_was_never_opened() -> None:
    asyncio.run(GuardedClient((), 1.0).close())
