"""Events and subscriptions for tests of the router."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from schemas.notification import Routing, check
from schemas.record import CHECKED, NewRecord
from schemas.subscription import Subscription
from sinks.base import Sink, SinkContext, SinkKind

EVENT: dict[str, Any] = {
    "ver": "1.0",
    "id": "E-1",
    "product": "ECS",
    "resourceId": "acs:ecs:cn-hangzhou:1690:instance/i-one",
    "level": "INFO",
    "name": "Instance:StateChange",
    "userId": "1690",
    "eventTime": "20190409T121826.922+0800",
    "regionId": "cn-hangzhou",
    "content": {"resourceId": "i-one", "resourceType": "ALIYUN::ECS::Instance", "state": "Running"},
}


class Settings(BaseModel):
    """Settings of the kind `note`."""

    model_config = ConfigDict(extra="forbid")

    text: str


def _no_sink(_settings: object, _sink_context: SinkContext) -> Sink:
    raise NotImplementedError


KINDS = {"note": SinkKind(Settings, _no_sink)}


def event(**changes: object) -> bytes:
    return orjson.dumps({**EVENT, **changes})


def routing(**changes: object) -> Routing:
    return check(event(**changes))


def event_record(
    value: bytes | None = None, topic: str = "events.ecs.instance", key: bytes = b"i-one"
) -> NewRecord:
    return NewRecord(topic, event() if value is None else value, key, ((CHECKED, b"1"),))


def subscription(name: str = "all", **fields: object) -> Subscription:
    target = [{"id": f"{name}-target", "kind": "note", "text": "hello"}]
    return Subscription.model_validate({"name": name, "target": target, **fields})
