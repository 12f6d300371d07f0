"""The guarded client against a receiver."""

import asyncio
import errno
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

import pytest
from yarl import URL

from schemas.delivery import Reason, ReasonCode
from sinks.http import client as module
from sinks.http.client import GuardedClient
from sinks.http.guard import Address
from sinks.http.request import BODY_KEPT
from sinks.http.response import BODY_READ, Response
from sinks.http.url import Origin, find_origin
from tests.sinks.http.asking import (
    ask,
    ask_replying,
    client_of,
    finds,
    kept,
    listening,
    looks_up,
    request,
    run,
    until,
)
from tests.sinks.receiver import LOOPBACK, answer, receiving


def test_the_receiver_reads_the_request_and_the_client_its_response() -> None:
    async def work() -> None:
        async with receiving(answer(201, b"made", "Retry-After: 7")) as receiver:
            address = f"127.0.0.1:{receiver.port}"
            assert await ask(receiver.url) == Response(
                201, b"made", {"content-length": "4", "retry-after": "7"}, address
            )
            (found,) = receiver.requests
            assert (found.line, found.body) == ("POST /hook HTTP/1.1", b"body")
            assert found.headers == {
                "host": "ops.test",
                "user-agent": "heliograph",
                "accept": "*/*",
                "accept-encoding": "identity",
                "content-length": "4",
            }

    run(work())


def test_a_connection_is_reused_and_its_address_reported() -> None:
    async def work() -> None:
        async with receiving(answer(200, b"x" * (BODY_READ - 1))) as receiver:
            client = client_of(f"http://ops.test:{receiver.port}/", lookup=finds("127.0.0.1"))
            expected = Response(
                200, b"x" * BODY_KEPT, {"content-length": str(BODY_READ - 1)}, f"127.0.0.1:{receiver.port}"
            )
            for _ in range(20):
                assert await client.send(request()) == expected
            await client.close()
            assert (receiver.connections, len(receiver.requests)) == (1, 20)

    run(work())


def test_parallel_requests_use_own_connections_and_share_a_look_up() -> None:
    asked: list[str] = []
    go = threading.Event()

    def slow(host: str) -> Sequence[Address]:
        asked.append(host)
        go.wait(30)
        return [ip_address("127.0.0.1")]

    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            client = client_of(f"http://ops.test:{receiver.port}/", lookup=slow)
            tasks = [asyncio.create_task(client.send(request())) for _ in range(5)]
            await asyncio.sleep(0)
            go.set()
            assert {(await task).status for task in tasks} == {200}
            assert (asked, receiver.connections) == (["ops.test"], 5)
            await client.close()

    run(work())


def test_a_connection_idle_for_too_long_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            client = client_of(receiver.url)
            for idle in (15.0, -1.0, 15.0):
                monkeypatch.setattr(module, "IDLE", idle)
                assert (await client.send(request())).status == 200
            await client.close()
            assert receiver.connections == 2

    run(work())


def test_idle_connections_are_closed_without_a_further_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IDLE", 0.05)
    go, ended = asyncio.Event(), 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"body"):
                await go.wait()
                writer.write(answer(200))
        ended += 1
        writer.close()

    async def work() -> None:
        async with listening(talk) as port:
            client = client_of(f"http://127.0.0.1:{port}/")
            calls = [asyncio.create_task(client.send(request())) for _ in range(3)]
            await asyncio.sleep(0)
            go.set()
            await asyncio.gather(*calls)
            await until(lambda: ended == 3)
            assert not kept(client)
            assert isinstance(await client.send(request()), Response)
            await until(lambda: ended == 4)
            await client.close()

    run(work())


def test_a_connection_closed_by_the_receiver_is_not_reused() -> None:
    async def work() -> None:
        async def once(writer: asyncio.StreamWriter) -> None:
            writer.write(answer(200))
            await writer.drain()
            writer.close()

        async with receiving(once) as receiver:
            client = client_of(receiver.url)
            for expected in (1, 2):
                assert (await client.send(request())).status == 200
                assert receiver.connections == expected
                await until(lambda: not kept(client)[-1].open)
            await client.close()

    run(work())


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.0 200 OK\r\nContent-Length: 0", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0"],
)
def test_connections_with_close_or_http_1_0_are_not_reused(head: bytes) -> None:
    async def work() -> None:
        async with receiving(head + b"\r\n\r\n") as receiver:
            client = client_of(receiver.url)
            for _ in range(2):
                assert (await client.send(request())).status == 200
            await client.close()
            assert receiver.connections == 2

    run(work())


def test_addresses_are_tried_in_turn_and_the_reached_one_is_reported() -> None:
    async def work() -> None:
        async with receiving(answer(200)) as receiver:
            url = f"http://ops.test:{receiver.port}/"
            found = await ask(url, lookup=finds("127.0.0.3", "127.0.0.2", "127.0.0.1"))
            assert found == Response(200, b"", {"content-length": "0"}, f"127.0.0.1:{receiver.port}")

    run(work())


def test_a_name_without_an_address_is_unreachable() -> None:
    def unknown(host: str) -> Sequence[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def unspeakable(host: str) -> Sequence[Address]:
        raise UnicodeError("label too long")

    words = "the host has no address: "
    for lookup, cause in (
        (unknown, "Name or service not known"),
        (finds(), "no address found for ops.test"),
    ):
        found = run(ask("http://ops.test/", lookup=lookup))
        assert found == Reason(ReasonCode.UNREACHABLE, words + cause)
    found = run(ask("http://ops.test/", lookup=unspeakable))
    assert found == Reason(ReasonCode.UNREACHABLE, "no connection: label too long")


def test_a_look_up_that_hangs_ends_with_the_time_limit_and_costs_one_thread() -> None:
    release = threading.Event()
    asked: list[str] = []

    def hangs(host: str) -> Sequence[Address]:
        asked.append(host)
        release.wait(60)
        raise OSError("too late")

    async def work() -> None:
        client = client_of("http://slow.test/", limit=0.05, lookup=hangs)
        for _ in range(3):
            assert await client.send(request()) == Reason(ReasonCode.TIMED_OUT, "no connection within 0.05 s")
        assert asked == ["slow.test"]
        release.set()
        await until(lambda: not looks_up(client))
        await client.close()

    run(work())


def test_a_refused_connection_is_unreachable() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        reason = run(ask(f"http://127.0.0.1:{held.getsockname()[1]}/"))
    assert reason == Reason(ReasonCode.UNREACHABLE, "no connection: Connection refused")


def test_exhausted_file_descriptors_are_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "words of the system")

    async def work() -> Response | Reason:
        async with receiving(answer(200)) as receiver:
            monkeypatch.setattr(socket, "socket", exhausted)
            try:
                return await ask(receiver.url)
            finally:
                monkeypatch.undo()

    assert run(work()) == Reason(ReasonCode.UNREACHABLE, "no connection: Too many open files")


def test_a_silent_receiver_times_out() -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    reason = ask_replying(silent, limit=1.0)
    assert isinstance(reason, Reason)
    assert (reason.code, reason.detail) == (ReasonCode.TIMED_OUT, "no answer within 1 s")
    assert reason.address


def test_a_close_without_a_response_is_unreachable() -> None:
    async def leave(writer: asyncio.StreamWriter) -> None:
        writer.close()

    reason = ask_replying(leave)
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.UNREACHABLE
    assert reason.detail == "the connection was closed without an answer"
    assert reason.address


def test_a_connection_reset_is_unreachable() -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    reason = ask_replying(reset)
    assert isinstance(reason, Reason)
    assert reason.code is ReasonCode.UNREACHABLE
    assert reason.address


def test_a_body_that_stalls_does_not_change_the_status() -> None:
    async def stuck(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await asyncio.sleep(60)

    result = ask_replying(stuck, limit=1.0)
    assert isinstance(result, Response)
    assert (result.status, result.body) == (200, b"abc")


def test_a_body_that_breaks_off_does_not_change_the_status() -> None:
    async def torn(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Oh\r\nContent-Length: 10\r\nRetry-After: 9\r\n\r\nabc")
        writer.close()

    result = ask_replying(torn)
    assert isinstance(result, Response)
    assert (result.status, result.body, result.headers["retry-after"]) == (503, b"abc", "9")


def test_a_cancelled_request_closes_its_connection() -> None:
    async def work() -> None:
        arrived = asyncio.Event()
        gone = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"body")
            arrived.set()
            await reader.read()
            gone.set()
            writer.close()

        async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
            client = client_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            call = asyncio.create_task(client.send(request()))
            await arrived.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await gone.wait()
            assert kept(client) == []
            await client.close()

    run(work())


def test_a_request_that_ends_after_the_close_keeps_no_connection() -> None:
    async def work() -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def wait(writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await go.wait()
            writer.write(answer(200))

        async with receiving(wait) as receiver:
            client = client_of(receiver.url)
            call = asyncio.create_task(client.send(request()))
            await arrived.wait()
            await client.close()
            go.set()
            assert (await call).status == 200
            assert kept(client) == []

    run(work())


def test_an_unused_client_can_be_closed() -> None:
    asyncio.run(GuardedClient(Origin("ops.test", 80, tls=False), LOOPBACK, timeout=1.0).close())


def test_an_origin_has_the_host_port_and_scheme_of_its_url() -> None:
    assert find_origin(URL("https://[::1]/a")) == Origin("::1", 443, tls=True)
    assert find_origin(URL("http://ops.test:81/a")) == Origin("ops.test", 81, tls=False)
