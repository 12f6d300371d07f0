"""Kind `callback`: a URL is called for each event, as CloudMonitor's URL callback of event alert rules does.

POST carries the event's bytes. GET carries its fields as query parameters; their names are those of the event, since
the vendor documents none. `webhook-id` (Standard Webhooks 1.0) tells a repeat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.clock import Clock, SystemClock
from schemas.delivery import Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.errors import InputError
from schemas.secrets import Secret
from sinks.base import SinkKind, Surroundings
from sinks.outcomes import Answer, answered, unanswered

if TYPE_CHECKING:
    from yarl import URL

    from sinks.http.client import GuardedClient

QUERY = ("ver", "id", "product", "resourceId", "level", "name", "userId", "eventTime", "regionId", "content")
"""Fields of the event that GET sends, in this order; one that the event lacks is left out."""

_OURS = frozenset(
    {"webhook-id", "heliograph-source", "host", "content-length", "transfer-encoding", "connection"}
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\U0010ffff]+")
_SECRET_NAME = re.compile(
    r"authorization|cookie|token|secret|passw|credential|signature|api-?key|access-?key|auth-?key|(^|-)auth$",
    re.IGNORECASE,
)
"""Names of headers whose values are secrets."""
_WORD = 8
"""Characters of the shortest word of a secret that is covered by itself."""
_AS_WRITTEN = "/%:@!$&'()*+,;=?-._~[]"
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CallbackSettings(BaseModel):
    """`timeout`: seconds for a whole call. `headers`: sent with each call; a value may be `env:NAME` or `file:PATH`,
    and must be one where the header's name says that it is secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    method: Literal["POST", "GET"] = "POST"
    timeout: float = Field(default=5.0, gt=0, le=60)
    headers: dict[str, Secret] = {}

    @field_validator("url")
    @classmethod
    def _callable(cls, url: str) -> str:
        parse_url(url)
        return url

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a header")
            if name.lower() in _OURS:
                raise ValueError(f"{name} is set by heliograph; leave it out")
            if not value.is_reference:
                _check_value(name, value.reveal())
                _check_written_out(name)
        return headers


class CallbackSink:
    """Calls once for each delivery, one after the other: how many run at once is the lane's affair."""

    def __init__(self, settings: CallbackSettings, client: GuardedClient, clock: Clock | None = None) -> None:
        self._url = parse_url(settings.url)
        self._method = settings.method
        self._secrets = settings.headers
        self._client = client
        self._clock = clock or SystemClock()
        self._headers = {"user-agent": "heliograph", "accept": "*/*", "accept-encoding": "identity"}
        if settings.method == "POST":
            self._headers["content-type"] = "application/json"

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Delivered, with the first line of the answer as receipt, when the answer is 2xx."""
        return [await self._call(delivery) for delivery in batch]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(self, delivery: Delivery) -> Outcome:
        try:
            own = reveal_headers(self._secrets)
        except InputError as error:
            return Retry(Reason(ReasonCode.MISCONFIGURED, f"headers: {error}"))
        headers = self._headers | own
        headers["webhook-id"] = delivery.id
        headers["heliograph-source"] = str(delivery.source)
        if self._method == "POST":
            result = await self._client.send("POST", self._url, headers, delivery.event)
        else:
            try:
                url = query_url(self._url, delivery.event)
            except (ValueError, RecursionError) as error:
                return Rejected(Reason(ReasonCode.REFUSED, f"not a notification: {error}"))
            result = await self._client.send("GET", url, headers)
        if isinstance(result, Reason):
            return unanswered(Reason(result.code, covered(result.detail, own.values()), result.status))
        return answered(without(result, own.values()), self._clock.now())


def parse_url(text: str) -> URL:
    """The URL of a receiver, its path and query escaped as they were written: receivers may have signed them.

    Raises ValueError, never with the URL itself: it may hold a secret.
    """
    from yarl import URL

    from sinks.http.guard import literal

    if not text.isprintable() or " " in text:
        raise ValueError("has white space or characters that cannot be printed")
    url = URL(text)
    if url.scheme not in {"http", "https"}:
        raise ValueError("must begin with http:// or https://")
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError(
            "must not hold a user or password; set the header Authorization to env:NAME or file:PATH"
        )
    if url.raw_host is None or url.host_subcomponent is None:
        raise ValueError("names no host")
    if not url.port:
        raise ValueError("port 0 cannot be called")
    literal(url.raw_host)
    parts = urlsplit(text)
    return URL.build(
        scheme=url.scheme,
        host=url.host_subcomponent,
        port=url.explicit_port,
        path=quote(parts.path or "/", safe=_AS_WRITTEN),
        query_string=quote(parts.query, safe=_AS_WRITTEN),
        encoded=True,
    )


def query_url(url: URL, event: bytes) -> URL:
    """The URL with the event's fields as query parameters: text as it is, `content` and all else as JSON text."""
    fields = _fields_decoder.decode(event)
    query = urlencode([(name, _text(fields[name])) for name in QUERY if name in fields], quote_via=quote)
    joined = f"{url.raw_query_string}&{query}" if url.raw_query_string else query
    return type(url)(f"{url.with_query(None)}?{joined}", encoded=True)


def reveal_headers(secrets: Mapping[str, Secret]) -> dict[str, str]:
    """The headers, named in lower case, with their values as they are now. Raises InputError that names the secret."""
    revealed: dict[str, str] = {}
    for name, secret in secrets.items():
        value = secret.reveal()
        try:
            _check_value(name, value)
        except ValueError as error:
            raise InputError(f"{secret}: {error}") from None
        revealed[name.lower()] = value
    return revealed


def without(answer: Answer, secrets: Iterable[str]) -> Answer:
    """The answer with every secret that the receiver repeats covered."""
    beginning = covered(answer.beginning.decode(errors="surrogateescape"), secrets)
    return Answer(answer.status, beginning.encode(errors="surrogateescape"), answer.retry_after)


def covered(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, and without the words of one, as the token of `Bearer token`."""
    for secret in secrets:
        words = (word for word in secret.split() if len(word) >= _WORD)
        for part in sorted({secret, *words}, key=len, reverse=True):
            text = text.replace(part, "***")
    return text


def _check_value(name: str, value: str) -> None:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} is empty, or has a line break or another control character")


def _check_written_out(name: str) -> None:
    """Settings are kept readable in the log and in its archive, so that a secret may only be named in them."""
    if _SECRET_NAME.search(name):
        raise ValueError(
            f"{name} is a secret, and would be kept readable in the log; write env:NAME or file:PATH"
        )


def _text(raw: msgspec.Raw) -> str:
    text = bytes(raw)
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()


def _build(settings: CallbackSettings, surroundings: Surroundings) -> CallbackSink:
    from sinks.http.client import GuardedClient

    return CallbackSink(settings, GuardedClient(surroundings.allow_networks, settings.timeout))


KIND = SinkKind(CallbackSettings, _build)
