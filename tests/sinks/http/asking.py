"""Helpers for tests of the guarded client: one request, on the event loop that production uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TypeVar

import uvloop
from yarl import URL

from schemas.delivery import Reason
from sinks.http.client import GuardedClient
from sinks.http.connection import Connection
from sinks.http.guard import Network
from sinks.http.names import Lookup, look_up
from sinks.http.request import Request, build_head
from sinks.http.response import Response
from sinks.http.tls import TlsSettings
from sinks.http.url import find_origin
from tests.sinks.receiver import LOOPBACK, Reply, receiving

T = TypeVar("T")


def run(work: Coroutine[None, None, T]) -> T:
    """Runs a coroutine on the event loop that production uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def request(body: bytes = b"body") -> Request:
    return Request(build_head("POST", URL("http://ops.test/hook")), body=body)


def client_of(
    url: str,
    allowed: Sequence[Network] = LOOPBACK,
    limit: float = 30.0,
    lookup: Lookup = look_up,
    tls: TlsSettings = TlsSettings(),  # noqa: B008 - immutable
) -> GuardedClient:
    return GuardedClient(find_origin(URL(url)), allowed, timeout=limit, tls=tls, lookup=lookup)


async def ask(
    url: str,
    allowed: Sequence[Network] = LOOPBACK,
    limit: float = 30.0,
    lookup: Lookup = look_up,
    tls: TlsSettings = TlsSettings(),  # noqa: B008 - immutable
) -> Response | Reason:
    client = client_of(url, allowed, limit, lookup, tls)
    try:
        return await client.send(request())
    finally:
        await client.close()


def ask_replying(reply: Reply, limit: float = 30.0) -> Response | Reason:
    async def work() -> Response | Reason:
        async with receiving(reply) as receiver:
            found = await ask(receiver.url, limit=limit)
            assert found.address in {"", f"127.0.0.1:{receiver.port}"}
            return found

    return run(work())


def finds(*addresses: str) -> Lookup:
    return lambda host: [ip_address(one) for one in addresses]


def kept(client: GuardedClient) -> list[Connection]:
    """Returns the connections that the client would reuse."""
    return [connection for _, connection in client._idle]  # pyright: ignore[reportPrivateUsage]


def looks_up(client: GuardedClient) -> bool:
    return client._resolver._under_way is not None  # pyright: ignore[reportPrivateUsage]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - no event announces the state
        await asyncio.sleep(0.001)


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncGenerator[int]:
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
