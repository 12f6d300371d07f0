"""A receiver on loopback that sends the bytes a test gives it and keeps the requests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

from schemas.delivery import Delivery
from schemas.record import Position

LOOPBACK = (ip_network("127.0.0.0/8"),)
EVENT = (
    b'{"ver":"1.0", "id":"5E-1","product":"ECS","resourceId":"acs:ecs:cn-hangzhou:1690:disk/d-1","level":"CRITICAL",'
    b'"name":"Disk:Stalled:Executing","userId":"1690","eventTime":"20190409T121826.922+0800","extra":true,'
    b'"regionId":"cn-hangzhou","content":{"diskId": "d-1", "text":"\xc3\xa9 & = \\" +"}}'
)


def delivery(number: int = 1, event: bytes = EVENT) -> Delivery:
    source = Position("events.ecs.disk", 0, number)
    return Delivery(
        id=f"id{number}",
        source=source,
        subscription="sub",
        target="ops",
        resource="acs:ecs:cn-hangzhou:1690:disk/d-1",
        event=event,
        event_time=1_554_783_506_922,
        configuration=1,
    )


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list[Request])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


Reply = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def receiving(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Receiver]:
    """Answers every request with `reply`: bytes, or a coroutine function that writes them."""
    receiver = Receiver()
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        receiver.connections += 1
        try:
            while True:
                receiver.requests.append(await _read_request(reader))
                if isinstance(reply, bytes):
                    writer.write(reply)
                else:
                    await reply(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            return
        finally:
            conversations.discard(task)
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(conversations):
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest)}
    assert len(headers) == len(rest), f"a header came twice: {rest}"
    return Request(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
