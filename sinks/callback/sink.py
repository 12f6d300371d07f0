"""Kind `callback`: a URL is called for each event, as CloudMonitor's URL callback of event alert rules does.

`webhook-id` (Standard Webhooks 1.0) tells a repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from yarl import URL

from schemas.clock import Clock, SystemClock
from schemas.delivery import Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.errors import InputError
from sinks.base import SinkContext, SinkKind
from sinks.callback import cloudevents
from sinks.callback.credentials import Credentials, Ready, covered, without
from sinks.callback.query import query_url
from sinks.callback.settings import CallbackSettings, Format
from sinks.http.client import GuardedClient
from sinks.http.outcomes import answered, unanswered
from sinks.http.tls import TlsSettings
from sinks.http.url import origin, parse_url

BATCH_BYTES = 1024 * 1024
"""Bytes of one call for several deliveries; one that is larger by itself is a call of its own."""


class Message(NamedTuple):
    """What a call says. `lines`: of its head, beyond those of every call; `target`: of its first line, if not that of
    every call."""

    id: str
    body: bytes
    lines: bytes = b""
    target: str = ""


class CallbackSink:
    """Calls once for each delivery, one after the other: how many run at once is the lane's affair."""

    def __init__(self, settings: CallbackSettings, client: GuardedClient, clock: Clock | None = None) -> None:
        self._settings = settings
        self._url = parse_url(settings.url)
        self._client = client
        self._clock = clock or SystemClock()
        self._credentials = Credentials(settings)
        self._ready: Ready | None = None
        self._head = b""
        self._shape = _shape(settings, self._url)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Delivered, with the first line of the answer as receipt, when the answer is 2xx. Deliveries that share a call
        share its outcome."""
        if self._settings.format == "cloudevents-batch":
            return await self._deliver_together(batch)
        return [await self._deliver_one(delivery) for delivery in batch]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _deliver_one(self, delivery: Delivery) -> Outcome:
        try:
            message = self._shape(delivery)
        except ValueError as error:
            return _not_sendable(error)
        return await self._call(message)

    async def _deliver_together(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        outcomes: dict[str, Outcome] = {}
        bodies: dict[str, bytes] = {}
        for delivery in batch:
            try:
                bodies[delivery.id] = cloudevents.structured(delivery)
            except ValueError as error:
                outcomes[delivery.id] = _not_sendable(error)
        for ids in _calls(bodies):
            body = b"[%b]" % b",".join(bodies[one] for one in ids)
            outcomes |= dict.fromkeys(ids, await self._call(Message(batch_id(ids), body)))
        return [outcomes[delivery.id] for delivery in batch]

    async def _call(self, message: Message) -> Outcome:
        try:
            ready = self._credentials.ready(self._clock.monotonic())
        except InputError as error:
            return Retry(Reason(ReasonCode.MISCONFIGURED, str(error)))
        if ready is not self._ready:
            self._head = _head(self._settings, self._url, ready)
            self._ready = ready
        result = await self._client.send(self._request(message, ready))
        if isinstance(result, Reason):
            return unanswered(Reason(result.code, covered(result.detail, ready.covered), 0, result.address))
        return answered(without(result, ready.covered) if ready.covered else result, self._clock.now())

    def _request(self, message: Message, ready: Ready) -> bytes:
        """The whole request, head and body."""
        one = message.id.encode()
        lines = message.lines
        if ready.signers:
            at = b"%d" % (self._clock.now() // 1000)
            signed = b"%b.%b.%b" % (one, at, message.body)
            signatures = b" ".join([sign(signed) for sign in ready.signers])
            lines += b"webhook-timestamp: %b\r\nwebhook-signature: %b\r\n" % (at, signatures)
        if self._settings.method == "GET":
            first = f"GET {message.target} HTTP/1.1\r\n".encode()
            return b"%b%bwebhook-id: %b\r\n%b\r\n" % (first, self._head, one, lines)
        length = len(message.body)
        return b"%bwebhook-id: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            self._head,
            one,
            lines,
            length,
            message.body,
        )


def batch_id(ids: Sequence[str]) -> str:
    """`webhook-id` of a call for several deliveries: the same for the same ones in the same order."""
    return f"batch-{blake2b(' '.join(ids).encode(), digest_size=16).hexdigest()}"


def _calls(bodies: dict[str, bytes]) -> list[list[str]]:
    """The ids of deliveries, in order, as they share calls."""
    calls: list[list[str]] = []
    size = BATCH_BYTES
    for one, body in bodies.items():
        size += len(body)
        if size > BATCH_BYTES:
            calls.append([])
            size = len(body)
        calls[-1].append(one)
    return calls


_CONTENT_TYPE: dict[Format, str] = {
    "event": "application/json",
    "cloudevents-binary": "application/json",
    "cloudevents-structured": "application/cloudevents+json",
    "cloudevents-batch": "application/cloudevents-batch+json",
}


def _head(settings: CallbackSettings, url: URL, ready: Ready) -> bytes:
    """The head of every call, as far as it is the same: by POST with its first line."""
    host = url.host_subcomponent if url.is_default_port() else f"{url.host_subcomponent}:{url.port}"
    headers = {"host": host, "user-agent": "heliograph", "accept": "*/*", "accept-encoding": "identity"}
    lines = [] if settings.method == "GET" else [f"POST {url.raw_path_qs} HTTP/1.1"]
    if settings.method == "POST":
        headers["content-type"] = _CONTENT_TYPE[settings.format]
    lines += [f"{name}: {value}" for name, value in (headers | ready.headers).items()]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _shape(settings: CallbackSettings, url: URL) -> Callable[[Delivery], Message]:
    """What makes the message of one delivery. It raises ValueError for what cannot be sent."""
    if settings.method == "GET":
        return partial(_get, url)
    match settings.format:
        case "event":
            return _event
        case "cloudevents-binary":
            return _binary
        case "cloudevents-structured" | "cloudevents-batch":
            return _structured


def _event(delivery: Delivery) -> Message:
    return Message(delivery.id, delivery.event, _source(delivery))


def _binary(delivery: Delivery) -> Message:
    return Message(delivery.id, delivery.event, _source(delivery) + cloudevents.binary(delivery))


def _structured(delivery: Delivery) -> Message:
    return Message(delivery.id, cloudevents.structured(delivery), _source(delivery))


def _get(url: URL, delivery: Delivery) -> Message:
    target = query_url(url, delivery.event).raw_path_qs
    return Message(delivery.id, b"", _source(delivery), target)


def _source(delivery: Delivery) -> bytes:
    """ValueError where what the log holds would be more than one line."""
    source = str(delivery.source)
    if not (source.isprintable() and delivery.id.isprintable()):
        raise ValueError("its id or its position is not printable")
    return f"heliograph-source: {source}\r\n".encode()


def _not_sendable(error: ValueError) -> Outcome:
    return Rejected(Reason(ReasonCode.REFUSED, f"not a notification: {error}"))


def _build(settings: CallbackSettings, context: SinkContext) -> CallbackSink:
    where = origin(parse_url(settings.url))
    tls = settings.tls or TlsSettings()
    client = GuardedClient(where, context.allow_networks, settings.timeout, tls)
    return CallbackSink(settings, client)


def _examine(settings: CallbackSettings, context: Callable[[], SinkContext]) -> None:
    """Looks up every secret. Raises InputError that names the setting."""
    Credentials(settings).ready(0.0)


KIND = SinkKind(CallbackSettings, _build, examine=_examine)
