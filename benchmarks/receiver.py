"""A receiver of callbacks in its own process, fast enough that benchmarks measure the sender."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple, cast

import msgspec
import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_REQUEST = re.compile(
    rb"POST (\S+) .*?\r\ncontent-length: *(\d+)\r\n(?:.*?\r\n)?\r\n", re.DOTALL | re.IGNORECASE
)
_HEAD_END = b"\r\n\r\n"


class Arrival(NamedTuple):
    """A request: its path, the id of the notification in it, and its time of arrival by `time.monotonic`."""

    path: str
    id: str
    at: float


class Receiver:
    """The handle of the receiver in the process of the benchmark. `url`: without a path."""

    def __init__(self, url: str, pipe: Connection) -> None:
        self.url = url
        self._pipe = pipe

    def arrivals(self) -> list[Arrival]:
        """Returns the requests that the receiver has answered since the last call."""
        self._pipe.send(None)
        found: list[Arrival] = self._pipe.recv()
        return found


@contextmanager
def receiving(hanging: str = "", seconds: float = 0.0) -> Generator[Receiver]:
    """Runs a receiver on a free loopback port. It answers requests for the path `hanging` after `seconds`, others at
    once."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, hanging, seconds), daemon=True)
    process.start()
    try:
        yield Receiver(f"http://127.0.0.1:{ours.recv()}", ours)
    finally:
        process.kill()
        process.join()


class _Identity(msgspec.Struct):
    id: str


_decode = msgspec.json.Decoder(_Identity).decode


def identity(body: bytes) -> str:
    """Reads the id of a notification."""
    return _decode(body).id


class _Arrivals:
    """Requests that the event loop adds, until the reporting thread takes them."""

    def __init__(self, hanging: str, seconds: float) -> None:
        self.hanging = hanging
        self.seconds = seconds
        self.seen: deque[Arrival] = deque()

    def take(self) -> list[Arrival]:
        return [self.seen.popleft() for _ in range(len(self.seen))]


class _Conversation(asyncio.Protocol):
    """One connection with one request at a time: an HTTP/1.1 client without pipelining."""

    def __init__(self, arrivals: _Arrivals) -> None:
        self._arrivals = arrivals
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if _HEAD_END not in self._buffer:
            return
        head = _REQUEST.match(self._buffer)
        assert head is not None
        if len(self._buffer) < head.end() + int(head[2]):
            return
        path, body = head[1].decode(), self._buffer[head.end() :]
        self._buffer = b""
        if path == self._arrivals.hanging:
            asyncio.get_running_loop().call_later(self._arrivals.seconds, self._transport.write, _ANSWER)
            return
        self._arrivals.seen.append(Arrival(path, identity(body), time.monotonic()))
        self._transport.write(_ANSWER)


def _serve(pipe: Connection, hanging: str, seconds: float) -> None:
    arrivals = _Arrivals(hanging, seconds)
    threading.Thread(target=uvloop.run, args=(_listen(pipe, arrivals),), daemon=True).start()
    while True:
        pipe.recv()
        pipe.send(arrivals.take())


async def _listen(pipe: Connection, arrivals: _Arrivals) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Conversation(arrivals), "127.0.0.1", 0, backlog=2048)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()
