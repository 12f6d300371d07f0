"""Kind `object`: stores each delivery as one object of the deployment's object store, under a key from a template."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from string import Formatter

from pydantic import BaseModel, ConfigDict, field_validator

from heliograph.store.base import ObjectStore
from heliograph.store.keys import key_problem
from schemas.delivery import Delivered, Delivery, Outcome, Reason, ReasonCode, Rejected, Retry
from schemas.errors import InvalidNotification, ObjectMissing, StoreRefused, StoreUnavailable
from schemas.notification import read_routing
from sinks.base import CLOSED, Sink, SinkContext, SinkKind

DEFAULT_KEY = "events/{product}/{type}/{date}/{name}/{delivery}.json"
FIELDS: tuple[str, ...] = (
    "product",
    "type",
    "name",
    "level",
    "region",
    "user",
    "resource_id",
    "id",
    "date",
    "hour",
    "source",
    "subscription",
    "target",
    "delivery",
)
"""Fields of a key template. `type` is the last part of the event's topic (`instance`, `disk` …), `resource_id` the part of
the resource name after `/`; `date` (`2019-04-09`) and `hour` (`04`) are the UTC time of the event's record."""

_UNIQUE = {"delivery", "source"}
_WORKERS = 8
_VALUE_LIMIT = 128
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999
"""Milliseconds of the years 1 to 9999: other Kafka producers may give a record any timestamp."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+@-]")


class ObjectSettings(BaseModel):
    """`key`: the template; it must hold `{delivery}` or `{source}`, so that two events never share a key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = DEFAULT_KEY

    @field_validator("key")
    @classmethod
    def _key_is_a_template(cls, key: str) -> str:
        problem = _template_problem(key)
        if problem:
            raise ValueError(problem)
        return key


class ObjectSink:
    """Puts deliveries into a store, several at once. `put` stores one delivery; several threads call it."""

    def __init__(self, put: Callable[[Delivery], Outcome]) -> None:
        self._put = put
        self._closed = False
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="object-sink")

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Calls `put` for each delivery."""
        if self._closed:
            return [CLOSED] * len(batch)
        loop = asyncio.get_running_loop()
        shares = [batch[start::_WORKERS] for start in range(min(_WORKERS, len(batch)))]
        done = await asyncio.gather(
            *(loop.run_in_executor(self._pool, self._put_all, share) for share in shares)
        )
        return [done[index % _WORKERS][index // _WORKERS] for index in range(len(batch))]

    async def close(self) -> None:
        """Waits for puts that are running; the store belongs to the deployment and stays open."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)

    def _put_all(self, share: Sequence[Delivery]) -> Sequence[Outcome]:
        return [self._put(delivery) for delivery in share]


def put_event(store: ObjectStore, template: str, delivery: Delivery) -> Outcome:
    """Stores the event unless the key is taken; the receipt is the key. A repeated delivery finds the object that it
    stored before, and is Delivered."""
    try:
        key = build_key(template, delivery)
        if store.put_new(key, delivery.event) or store.get(key) == delivery.event:
            return Delivered(key)
    except InvalidNotification as error:
        return Rejected(Reason(ReasonCode.REFUSED, f"not a notification: {error}"))
    except StoreRefused as error:
        return Rejected(Reason(ReasonCode.REFUSED, f"object store: {error}"))
    except (StoreUnavailable, ObjectMissing) as error:
        return Retry(Reason(ReasonCode.UNAVAILABLE, f"object store: {error}"))
    return Rejected(Reason(ReasonCode.REFUSED, f"object {key!r} exists already with other content"))


def build_key(template: str, delivery: Delivery) -> str:
    """Returns the key of a delivery's object. Raises InvalidNotification. Never shortens the fields that make the key
    unique."""
    values = {name: _safe(value[:_VALUE_LIMIT]) for name, value in _values(delivery).items()}
    return template.format_map(values | {"source": _safe(str(delivery.source))})


def _values(delivery: Delivery) -> Mapping[str, str]:
    routing = read_routing(delivery.event)
    moment = _EPOCH + timedelta(milliseconds=min(max(delivery.event_time, _FIRST), _LAST))
    return {
        "product": routing.product,
        "type": delivery.source.topic.rpartition(".")[2],
        "name": routing.name,
        "level": routing.level,
        "region": routing.region_id,
        "user": routing.user_id,
        "resource_id": routing.resource_id.partition("/")[2] or routing.resource_id,
        "id": routing.id,
        "date": f"{moment:%Y-%m-%d}",
        "hour": f"{moment:%H}",
        "source": str(delivery.source),
        "subscription": delivery.subscription,
        "target": delivery.target,
        "delivery": delivery.id,
    }


def _safe(value: str) -> str:
    """Returns the value as text that every store accepts as a part of a key: never empty, `.` or `..`."""
    return _UNSAFE.sub("-", value).lstrip(".") or "-"


def _template_problem(template: str) -> str:
    """Returns the problem of a template as text; empty if the template is valid."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        return f"is not a template: {error}"
    fields = {field for _, field, _, _ in parts if field is not None}
    unknown = sorted(fields - set(FIELDS))
    if unknown:
        return f"unknown field {unknown[0]!r}; known are {', '.join(FIELDS)}"
    if any(form or conversion for _, _, form, conversion in parts):
        return "write each field as a name in braces, without a format, as in {delivery}"
    if not fields & _UNIQUE:
        return "must hold {delivery} or {source}, or two events would share a key"
    return key_problem(template.format_map(dict.fromkeys(FIELDS, "x")))


def _build(settings: ObjectSettings, context: SinkContext) -> Sink:
    return ObjectSink(partial(put_event, context.objects, settings.key))


KIND = SinkKind(ObjectSettings, _build, batch=64)
