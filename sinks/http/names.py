"""From a host to the addresses that may be reached: looked up once for each connection, every one judged."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address

from sinks.http.guard import Address, Network, explain, literal, refusal

Lookup = Callable[[str], Sequence[Address]]


class Forbidden(Exception):  # noqa: N818 - it is our own refusal, not a failure
    """No address of the host may be reached."""


class Resolver:
    """The addresses of one host. Connections that begin at the same time share a look-up, so that a name server that
    does not answer costs one thread."""

    def __init__(self, host: str, allowed: Sequence[Network], lookup: Lookup) -> None:
        self._host = host
        self._allowed = allowed
        self._lookup = lookup
        self._under_way: asyncio.Future[Sequence[Address]] | None = None

    async def addresses(self) -> Sequence[Address]:
        """Those that may be reached, at least one. Raises Forbidden, and OSError where there is none."""
        try:
            address = literal(self._host)
        except ValueError as error:
            raise Forbidden(str(error)) from None
        if address is not None:
            return permitted(str(address), [address], self._allowed)
        if self._under_way is None:
            self._under_way = _in_thread(partial(self._lookup, self._host))
            self._under_way.add_done_callback(self._looked_up)
        return permitted(self._host, await asyncio.shield(self._under_way), self._allowed)

    def _looked_up(self, done: asyncio.Future[Sequence[Address]]) -> None:
        self._under_way = None
        if not done.cancelled():
            done.exception()  # seen, also when nobody waits for it any more


def permitted(host: str, found: Sequence[Address], allowed: Sequence[Network]) -> Sequence[Address]:
    """Those of the addresses that may be reached. Raises Forbidden, which names the first, if none may."""
    refusals = [refusal(address, allowed) for address in found]
    reachable = [address for address, kind in zip(found, refusals, strict=True) if kind is None]
    if reachable:
        return reachable
    for address, kind in zip(found, refusals, strict=True):
        raise Forbidden(explain(host, address, kind or ""))
    raise socket.gaierror(socket.EAI_NONAME, f"{host} has none")


def with_port(address: Address, port: int) -> str:
    """What is connected to: `192.0.2.7:443`, `[2001:db8::1]:443`."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def look_up(host: str) -> Sequence[Address]:
    """Every address of a name, by the machine's own resolver. Blocks; raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _in_thread(call: Callable[[], Sequence[Address]]) -> asyncio.Future[Sequence[Address]]:
    """Run `call` in a thread of its own, which nobody waits for: a name server that does not answer must neither keep
    other targets from looking up theirs nor the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[Address]] = loop.create_future()

    def run() -> None:
        try:
            result = call()
        except (OSError, ValueError) as error:  # ValueError: a name that no encoding of names takes
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
