"""The guarded client: sends requests to one origin, within a time limit, and only to allowed addresses.

It follows no redirects, takes no proxies or credentials from the environment, and neither keeps cookies nor
decompresses. It looks the name up once for each connection, checks every address, and connects to one that passed: a
name whose addresses change between the check and the connection (DNS rebinding) leads to no other address.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from schemas.delivery import Reason, ReasonCode
from sinks.http.connection import Connection
from sinks.http.failures import RAISED, describe_failure
from sinks.http.guard import Address, Network
from sinks.http.names import Lookup, Resolver, look_up, with_port
from sinks.http.request import Request
from sinks.http.response import Response
from sinks.http.tls import Tls, TlsSettings
from sinks.http.url import Origin

IDLE = 15.0
"""Seconds after which an unused connection is closed: receivers close theirs without notice, and a process with many
targets has a limited number of sockets."""


class GuardedClient:
    """Sends requests, and keeps connections for further ones. Belongs to the event loop that first sends.

    `allowed`: networks that may be reached although the guard refuses them by default; `timeout`: seconds for a whole
    request, from the look-up of the name to the last byte that is read.
    """

    def __init__(
        self,
        origin: Origin,
        allowed: Sequence[Network],
        *,
        timeout: float,
        tls: TlsSettings = TlsSettings(),  # noqa: B008 - immutable
        lookup: Lookup = look_up,
    ) -> None:
        self._origin = origin
        self._timeout = timeout
        self._tls = Tls(tls)
        self._resolver = Resolver(origin.host, allowed, lookup)
        self._idle: deque[tuple[float, Connection]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, request: Request) -> Response | Reason:
        """Returns the response, or the reason why there is none. Raises ValueError for a request that cannot be
        encoded."""
        encoded = request.encode()
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + self._timeout
        connection = self._take_idle(now) or await self._connect(deadline)
        if isinstance(connection, Reason):
            return connection
        result = await connection.exchange(encoded, deadline, request.body_kept)
        if self._closed:
            connection.close()
        elif connection.open:
            self._idle.append((loop.time(), connection))
            if self._sweep is None:
                self._sweep = loop.call_later(IDLE, self._close_unused)
        return result

    async def close(self) -> None:
        """Closes every connection that is not in use; the others close when their exchanges end."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._idle.pop()[1].close()

    def _take_idle(self, now: float) -> Connection | None:
        """Returns the open connection that was used last, or None if there is none."""
        self._drop_unused(now)
        while self._idle:
            _, connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def _close_unused(self) -> None:
        """Closes connections unused for IDLE seconds, and schedules itself for the next one."""
        loop = asyncio.get_running_loop()
        self._drop_unused(loop.time())
        self._sweep = loop.call_at(self._idle[0][0] + IDLE, self._close_unused) if self._idle else None

    def _drop_unused(self, now: float) -> None:
        while self._idle and self._idle[0][0] <= now - IDLE:
            self._idle.popleft()[1].close()

    async def _connect(self, deadline: float) -> Connection | Reason:
        """Returns a connection to the first address that accepts one. Each address has an equal share of the time left."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._resolver.find_addresses()
            context = self._tls.read_context() if self._origin.tls else None
        except RAISED as error:
            return describe_failure(error, "", self._timeout)
        result: Connection | Reason = Reason(ReasonCode.UNREACHABLE)
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            now = loop.time()
            result = await self._open(address, context, now + (deadline - now) / left)
            if isinstance(result, Connection):
                break
        return result

    async def _open(
        self, address: Address, context: ssl.SSLContext | None, deadline: float
    ) -> Connection | Reason:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        loop = asyncio.get_running_loop()
        peer = ""
        with ExitStack() as opened:
            try:
                async with asyncio.timeout_at(deadline):
                    stream = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                    stream.setblocking(False)
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    await loop.sock_connect(stream, (str(address), self._origin.port))
                    peer = with_port(address, self._origin.port)
                    _, connection = await loop.create_connection(
                        partial(Connection, peer, self._timeout),
                        sock=stream,
                        ssl=context,
                        server_hostname=None if context is None else self._origin.host.rstrip("."),
                    )
            except RAISED as error:
                return describe_failure(error, peer, self._timeout)
            opened.pop_all()  # the socket is the connection's from here on
            return connection
