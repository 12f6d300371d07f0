"""The guarded client: sends one request to one place, within a time, to no address that the configuration forbids.

No redirects, no proxies or credentials from the environment, no cookies. A name is looked up once for each connection,
every address found is judged, and the connection goes to one of those that passed: a name that changes its mind
between the check and the connection changes nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from schemas.delivery import Reason, ReasonCode
from sinks.http.guard import Address, Network, explain, literal, refusal
from sinks.outcomes import Answer, one_line

KEPT = 500
"""Bytes of an answer's body that are kept."""
READ = 64 * 1024
"""Bytes of an answer's body that are read so that the connection can be used again; beyond, it is closed."""

Lookup = Callable[[str], Sequence[Address]]
T = TypeVar("T")


class _Forbidden(Exception):  # noqa: N818 - never leaves this module
    """No address of the host may be reached."""


class _Failure(NamedTuple):
    kind: type[Exception]
    code: ReasonCode
    words: str


_FAILURES = (
    _Failure(_Forbidden, ReasonCode.FORBIDDEN, "{cause}"),
    _Failure(TimeoutError, ReasonCode.TIMED_OUT, "no answer within {timeout:g} s"),
    _Failure(aiohttp.ClientConnectorDNSError, ReasonCode.UNREACHABLE, "the host has no address: {cause}"),
    _Failure(aiohttp.ClientConnectorCertificateError, ReasonCode.UNREACHABLE, "TLS: {cause}"),
    _Failure(aiohttp.ClientSSLError, ReasonCode.UNREACHABLE, "TLS: {cause}"),
    _Failure(aiohttp.ClientConnectorError, ReasonCode.UNREACHABLE, "no connection: {cause}"),
    _Failure(
        aiohttp.ServerDisconnectedError, ReasonCode.UNREACHABLE, "the connection was closed without an answer"
    ),
    _Failure(aiohttp.ClientResponseError, ReasonCode.RECEIVER_FAILED, "the answer is not HTTP: {cause}"),
    _Failure(aiohttp.InvalidURL, ReasonCode.MISCONFIGURED, "url: cannot be called"),
    _Failure(aiohttp.ClientError, ReasonCode.UNREACHABLE, "the connection failed: {cause}"),
    _Failure(OSError, ReasonCode.UNREACHABLE, "the connection failed: {cause}"),
)
"""What a request may raise, what it means and how it is told; the first that fits holds."""
_RAISED = tuple(failure.kind for failure in _FAILURES)


class GuardedClient:
    """Keeps its connections for further requests. Belongs to the event loop that first sends.

    `allowed`: networks that may be reached though the guard would refuse them; `timeout`: seconds for a whole
    request, from the look-up of the name to the last byte that is read.
    """

    def __init__(self, allowed: Sequence[Network], timeout: float, lookup: Lookup | None = None) -> None:
        self._allowed = allowed
        self._timeout = timeout
        self._lookup = lookup or look_up
        self._session: aiohttp.ClientSession | None = None
        self._judged = ""

    async def send(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer | Reason:
        """The answer, or why there is none. Once a status has come that is the answer, whatever its body does."""
        answer: Answer | None = None
        try:
            self._judge_literal(url)
            async with asyncio.timeout(self._timeout):
                response = await self._open().request(
                    method, url, headers=headers, data=body, allow_redirects=False
                )
                answer = Answer(response.status, retry_after=response.headers.get("Retry-After"))
                beginning = await _beginning(response)
        except _RAISED as error:
            return answer or _reason(error, self._timeout)
        return Answer(answer.status, beginning, answer.retry_after)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, resolver=_Resolver(self._allowed, self._lookup))
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
                trust_env=False,
            )
        return self._session

    def _judge_literal(self, url: URL) -> None:
        """Names are judged when they are looked up; an address never is."""
        host = url.raw_host or ""
        if host == self._judged:
            return
        try:
            address = literal(host)
        except ValueError as error:
            raise _Forbidden(str(error)) from None
        if address is not None:
            _permitted(str(address), [address], self._allowed)
        self._judged = host


class _Resolver(AbstractResolver):
    """Gives the connector only addresses that may be reached."""

    def __init__(self, allowed: Sequence[Network], lookup: Lookup) -> None:
        self._allowed = allowed
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # every address of the host is judged
        found = await _in_thread(lambda: self._lookup(host))
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in _permitted(host, found, self._allowed)
        ]

    async def close(self) -> None:
        """Nothing is kept."""


def look_up(host: str) -> Sequence[Address]:
    """Every address of a name, by the machine's own resolver. Blocks; raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _permitted(host: str, found: Sequence[Address], allowed: Sequence[Network]) -> list[Address]:
    refusals = [refusal(address, allowed) for address in found]
    permitted = [address for address, kind in zip(found, refusals, strict=True) if kind is None]
    if permitted:
        return permitted
    for address, kind in zip(found, refusals, strict=True):
        raise _Forbidden(explain(host, address, kind or ""))
    raise OSError(f"{host} has no address")


async def _in_thread(call: Callable[[], T]) -> T:
    """Run `call` in a thread of its own, which nobody waits for: a name server that does not answer must neither keep
    other targets from looking up theirs nor the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = call()
        except OSError as error:
            _from_thread(loop, future, partial(future.set_exception, error))
        else:
            _from_thread(loop, future, partial(future.set_result, result))

    threading.Thread(target=run, name="look-up", daemon=True).start()
    return await future


def _from_thread(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], settle: Callable[[], None]
) -> None:
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(lambda: None if future.done() else settle())


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of the body; one of more than READ costs the connection."""
    body = bytearray()
    try:
        while len(body) < READ and (chunk := await response.content.readany()):
            body += chunk
    finally:
        response.close()
    return bytes(body[:KEPT])


def _reason(error: Exception, timeout: float) -> Reason:
    failure = next(failure for failure in _FAILURES if isinstance(error, failure.kind))
    return Reason(failure.code, one_line(failure.words.format(cause=_cause(error), timeout=timeout).encode()))


def _cause(error: Exception) -> str:
    match error:
        case aiohttp.ClientResponseError():
            return error.message
        case aiohttp.ClientConnectorCertificateError():
            return _cause(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return _cause(error.os_error)
        case ssl.SSLCertVerificationError():
            return error.verify_message
        case OSError(strerror=str(text)):
            return text
        case _:
            return str(error)
