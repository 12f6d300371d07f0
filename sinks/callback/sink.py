"""Kind `callback`: calls a URL for each event, as CloudMonitor's URL callback of event alert rules does.

The header `webhook-id` (Standard Webhooks 1.0) is the same for each repeat of a delivery.
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
from sinks.base import CLOSED, SinkContext, SinkKind
from sinks.callback import cloudevents
from sinks.callback.credentials import Credentials, Resolved, mask, mask_response
from sinks.callback.query import query_url
from sinks.callback.settings import CallbackSettings, Format
from sinks.http.client import GuardedClient
from sinks.http.outcomes import judge_failure, judge_response
from sinks.http.request import Request, RequestHead, build_head
from sinks.http.tls import TlsSettings
from sinks.http.url import find_origin, parse_url

BATCH_BYTES = 1024 * 1024
"""Most bytes in the body of one call for several deliveries; a larger delivery is a call of its own."""


class Call(NamedTuple):
    """The variable parts of one call. `headers`: beside those of every call; `url`: if the query depends on the event."""

    id: str
    body: bytes
    headers: dict[str, str]
    url: URL | None = None


class CallbackSink:
    """Calls the URL once for each delivery, one after the other; the lane makes several calls at once."""

    def __init__(self, settings: CallbackSettings, client: GuardedClient, clock: Clock | None = None) -> None:
        self._settings = settings
        self._url = parse_url(settings.url)
        self._client = client
        self._clock = clock or SystemClock()
        self._credentials = Credentials(settings)
        self._resolved: Resolved | None = None
        self._head = build_head(settings.method, self._url)
        self._prepare = _choose_format(settings, self._url)
        self._closed = False

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Calls the URL. A 2xx response is Delivered, with the beginning of its body as receipt. Deliveries that share
        a call share its outcome."""
        if self._closed:
            return [CLOSED] * len(batch)
        if self._settings.format == "cloudevents-batch":
            return await self._deliver_together(batch)
        return [await self._deliver_one(delivery) for delivery in batch]

    async def close(self) -> None:
        """Closes the connections; a connection in use is closed when its call ends."""
        self._closed = True
        await self._client.close()

    async def _deliver_one(self, delivery: Delivery) -> Outcome:
        try:
            call = self._prepare(delivery)
        except ValueError as error:
            return _reject(error)
        return await self._send(call)

    async def _deliver_together(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        outcomes: dict[str, Outcome] = {}
        bodies: dict[str, bytes] = {}
        for delivery in batch:
            try:
                bodies[delivery.id] = cloudevents.encode_structured(delivery)
            except ValueError as error:
                outcomes[delivery.id] = _reject(error)
        for ids in _group_by_size(bodies):
            body = b"[%b]" % b",".join(bodies[one] for one in ids)
            outcomes |= dict.fromkeys(ids, await self._send(Call(batch_id(ids), body, {})))
        return [outcomes[delivery.id] for delivery in batch]

    async def _send(self, call: Call) -> Outcome:
        try:
            resolved = self._credentials.resolve(self._clock.monotonic())
        except InputError as error:
            return Retry(Reason(ReasonCode.MISCONFIGURED, str(error)))
        if resolved is not self._resolved:
            self._head = _build_head(self._settings, self._url, resolved)
            self._resolved = resolved
        result = await self._client.send(self._build_request(call, resolved))
        if isinstance(result, Reason):
            return judge_failure(Reason(result.code, mask(result.detail, resolved.hidden), 0, result.address))
        response = mask_response(result, resolved.hidden) if resolved.hidden else result
        return judge_response(response, self._clock.now())

    def _build_request(self, call: Call, resolved: Resolved) -> Request:
        headers = {"webhook-id": call.id, **call.headers}
        if resolved.signers:
            at = str(self._clock.now() // 1000)
            signed = b"%b.%b.%b" % (call.id.encode(), at.encode(), call.body)
            signatures = b" ".join([sign(signed) for sign in resolved.signers])
            headers |= {"webhook-timestamp": at, "webhook-signature": signatures.decode()}
        head = self._head if call.url is None else self._head.with_target_of(call.url)
        return Request(head, headers, call.body)


def batch_id(ids: Sequence[str]) -> str:
    """Returns the `webhook-id` of a call for several deliveries: the same for the same ids in the same order."""
    return f"batch-{blake2b(' '.join(ids).encode(), digest_size=16).hexdigest()}"


def _group_by_size(bodies: dict[str, bytes]) -> list[list[str]]:
    """Groups the ids of deliveries, in order, into calls of at most BATCH_BYTES."""
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


def _build_head(settings: CallbackSettings, url: URL, resolved: Resolved) -> RequestHead:
    """Returns the part of the requests that all calls share."""
    shaped = {} if settings.method == "GET" else {"content-type": _CONTENT_TYPE[settings.format]}
    return build_head(settings.method, url, shaped | resolved.headers)


def _choose_format(settings: CallbackSettings, url: URL) -> Callable[[Delivery], Call]:
    """Returns the function that builds the call for a delivery; it raises ValueError for a delivery that cannot be
    sent."""
    if settings.method == "GET":
        return partial(_call_with_query, url)
    match settings.format:
        case "event":
            return _call_with_event
        case "cloudevents-binary":
            return _call_with_binary
        case "cloudevents-structured" | "cloudevents-batch":
            return _call_with_structured


def _call_with_event(delivery: Delivery) -> Call:
    return Call(delivery.id, delivery.event, _source(delivery))


def _call_with_binary(delivery: Delivery) -> Call:
    return Call(delivery.id, delivery.event, _source(delivery) | cloudevents.encode_binary(delivery))


def _call_with_structured(delivery: Delivery) -> Call:
    return Call(delivery.id, cloudevents.encode_structured(delivery), _source(delivery))


def _call_with_query(url: URL, delivery: Delivery) -> Call:
    return Call(delivery.id, b"", _source(delivery), query_url(url, delivery.event))


def _source(delivery: Delivery) -> dict[str, str]:
    """Returns the header with the event's position. Raises ValueError if it or the id cannot be in a header."""
    source = str(delivery.source)
    if not (source.isprintable() and delivery.id.isprintable()):
        raise ValueError("its id or its position is not printable")
    return {"heliograph-source": source}


def _reject(error: ValueError) -> Outcome:
    return Rejected(Reason(ReasonCode.REFUSED, f"not a notification: {error}"))


def _build(settings: CallbackSettings, context: SinkContext) -> CallbackSink:
    client = GuardedClient(
        find_origin(parse_url(settings.url)),
        context.allow_networks,
        timeout=settings.timeout,
        tls=settings.tls or TlsSettings(),
    )
    return CallbackSink(settings, client)


def _examine(settings: CallbackSettings, context: Callable[[], SinkContext]) -> None:
    """Looks up every secret. Raises InputError that names the setting."""
    Credentials(settings).resolve(0.0)


KIND = SinkKind(CallbackSettings, _build, examine=_examine)
