"""Resolves a host to the addresses that may be reached: looks it up once for each connection and checks every address."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address

from sinks.http.guard import Address, Network, explain, parse_address, refusal

Lookup = Callable[[str], Sequence[Address]]


class Forbidden(Exception):  # noqa: N818 - our own refusal, not an error
    """Raised if no address of a host may be reached."""


class Resolver:
    """The addresses of one host. Connections that start at the same time share a look-up, so that a name server that
    does not answer occupies one thread."""

    def __init__(self, host: str, allowed: Sequence[Network], lookup: Lookup) -> None:
        self._host = host
        self._allowed = allowed
        self._lookup = lookup
        self._under_way: asyncio.Future[Sequence[Address]] | None = None

    async def find_addresses(self) -> Sequence[Address]:
        """Returns the addresses that may be reached, at least one. Raises Forbidden, or OSError if the host has none."""
        try:
            address = parse_address(self._host)
        except ValueError as error:
            raise Forbidden(str(error)) from None
        if address is not None:
            return select_permitted(str(address), [address], self._allowed)
        if self._under_way is None:
            self._under_way = _in_thread(partial(self._lookup, self._host))
            self._under_way.add_done_callback(self._looked_up)
        return select_permitted(self._host, await asyncio.shield(self._under_way), self._allowed)

    def _looked_up(self, done: asyncio.Future[Sequence[Address]]) -> None:
        self._under_way = None
        if not done.cancelled():
            done.exception()  # marks the exception as retrieved, also if nobody waits for it any more


def select_permitted(host: str, found: Sequence[Address], allowed: Sequence[Network]) -> Sequence[Address]:
    """Returns the addresses that may be reached. Raises Forbidden, which names the first address, if none may."""
    refusals = [refusal(address, allowed) for address in found]
    reachable = [address for address, kind in zip(found, refusals, strict=True) if kind is None]
    if reachable:
        return reachable
    for address, kind in zip(found, refusals, strict=True):
        raise Forbidden(explain(host, address, kind or ""))
    raise socket.gaierror(socket.EAI_NONAME, f"no address found for {host}")


def with_port(address: Address, port: int) -> str:
    """Returns address and port as `192.0.2.7:443` or `[2001:db8::1]:443`."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def look_up(host: str) -> Sequence[Address]:
    """Returns every address of a name, from the machine's resolver. Blocks; raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _in_thread(call: Callable[[], Sequence[Address]]) -> asyncio.Future[Sequence[Address]]:
    """Runs `call` in a daemon thread of its own: a name server that does not answer must neither delay the look-ups of
    other targets nor keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[Address]] = loop.create_future()

    def run() -> None:
        try:
            result = call()
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded for DNS
            failure = error if isinstance(error, OSError) else OSError(str(error))
            _from_thread(loop, future, partial(future.set_exception, failure))
        else:
            _from_thread(loop, future, partial(future.set_result, result))

    threading.Thread(target=run, name="look-up", daemon=True).start()
    return future


def _from_thread(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Sequence[Address]], settle: Callable[[], None]
) -> None:
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(lambda: None if future.done() else settle())
