"""Builds notifications from a name of the catalogue, a resource, and the content fields that cannot be derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, get_args, get_origin
from uuid import uuid4

import msgspec
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from schemas import arn
from schemas.catalogue import Entry, lookup
from schemas.content import FAMILIES, TIMES, fields_of
from schemas.errors import InputError
from schemas.notification import check
from schemas.times import content_time, event_time

_START, _FINISH = "executeStartTime", "executeFinishTime"
_TIMES_OF_STATUS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Executing": (_START,),
        "Executed": (_START, _FINISH),
        "Avoided": (_START, _FINISH),
        "Canceled": (_START, _FINISH),
    }
)
_NOW_OF_STATUS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Executing": (_START,),
        "Executed": (_FINISH,),
        "Avoided": (_START, _FINISH),
        "Canceled": (_START, _FINISH),
    }
)
"""Times that are set to the current time, by status. The caller must give all other times of the status."""


def build(
    name: str,
    resource: str,
    *,
    region: str,
    user: str,
    level: str | None = None,
    content: Mapping[str, str],
    now_ms: int,
    id: str | None = None,
) -> bytes:
    """Builds a valid notification as compact JSON.

    `resource` is an id, or a whole resource name, which then replaces `region` and `user`. `content` holds the fields
    that cannot be derived; further fields are kept. The default of `level` is that of the catalogue. Raises NotFound
    for an unknown name, InputError with all missing or wrong content fields, and InvalidNotification.
    """
    entry = lookup(name)
    named = _resource(entry, resource, region, user)
    held = _content(entry, named.id, content, now_ms)
    value = msgspec.json.encode(
        {
            "ver": "1.0",
            "id": id or str(uuid4()).upper(),
            "product": "ECS",
            "resourceId": str(named),
            "level": level or _level(entry, held),
            "name": name,
            "userId": named.user,
            "eventTime": event_time(now_ms),
            "regionId": named.region,
            "content": held,
        }
    )
    check(value)
    return value


def _resource(entry: Entry, resource: str, region: str, user: str) -> arn.Arn:
    text = resource if ":" in resource else arn.build(entry.resource_type, resource, region=region, user=user)
    named = arn.parse(text)
    expected = arn.RESOURCE_TYPES[entry.resource_type]
    if named.type != expected:
        raise InputError(
            f"resource: names a {named.type}, but {entry.name} is an event of a {expected}; give a resource of that type"
        )
    return named


def _level(entry: Entry, content: Mapping[str, str]) -> str:
    return (
        entry.level_on_failure
        if entry.level_on_failure and content.get("result") == "failed"
        else entry.level
    )


def _content(entry: Entry, resource_id: str, given: Mapping[str, str], now_ms: int) -> dict[str, str]:
    held = {**_derived(entry, resource_id, given, content_time(now_ms)), **given}
    if missing := [field for field in _required(entry, held) if field not in held]:
        wanted = ", ".join(f"{field} ({_form(entry.family, field)})" for field in missing)
        raise InputError(f"{entry.name}: content lacks {wanted}; give each as --content FIELD=VALUE")
    try:
        FAMILIES[entry.family].model_validate(held)
    except ValidationError as error:
        wrong = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        listed = ", ".join(f"{field} must be {_form(entry.family, field)}" for field in wrong)
        raise InputError(f"{entry.name}: content: {listed}") from None
    documented = [field for field in fields_of(entry.family) if field in held]
    return {field: held[field] for field in dict.fromkeys([*documented, *held])}


def _derived(entry: Entry, resource_id: str, given: Mapping[str, str], now: str) -> dict[str, str]:
    """Returns the fields that follow from the name, the resource and the current time."""
    fields = {FAMILIES[entry.family].resource_field: resource_id}
    derive = _DERIVED.get(entry.family)
    return fields | (derive(entry, given, now) if derive else {})


def _system_event(entry: Entry, _: Mapping[str, str], now: str) -> dict[str, str]:
    return {"publishTime": now, "eventStatus": entry.status, **_stalled(entry, _, now)}


def _stalled(entry: Entry, _: Mapping[str, str], now: str) -> dict[str, str]:
    times = dict.fromkeys(_NOW_OF_STATUS.get(entry.status, ()), now)
    return {"eventId": f"e-{uuid4().hex[:20]}", "eventType": entry.code, **times}


def _live_migration(_: Entry, given: Mapping[str, str], now: str) -> dict[str, str]:
    return {"startTime": now} if given.get("status") == "started" else {"endTime": now}


_DERIVED: Mapping[str, Callable[[Entry, Mapping[str, str], str], dict[str, str]]] = MappingProxyType(
    {
        "system-event": _system_event,
        "stalled": _stalled,
        "live-migration": _live_migration,
        "state-change": lambda _entry, _given, _now: {"resourceType": "ALIYUN::ECS::Instance"},
        "preemptible-interruption": lambda _entry, _given, _now: {"action": "delete"},
        "snapshot": lambda _entry, _given, now: {"endTime": now},
    }
)


def _required(entry: Entry, held: Mapping[str, str]) -> list[str]:
    required = [field for field, needed in fields_of(entry.family).items() if needed]
    if entry.family in {"system-event", "stalled"}:
        required += [field for field in _TIMES_OF_STATUS.get(entry.status, ()) if field not in required]
    if entry.category == "scheduled-maintenance":
        required.append("notBefore")
    if entry.family == "live-migration" and held.get("status", "started") != "started":
        required.append("endTime")
    return required


def _form(family: str, field: str) -> str:
    """Describes the values of a content field for a person: `a or b`, `a UTC time …` or `text`."""
    if field in TIMES:
        return "a UTC time, as in 2026-01-01T00:00:00Z"
    for name, known in FAMILIES[family].model_fields.items():
        if to_camel(name) == field and get_origin(known.annotation) is Literal:
            return " or ".join(get_args(known.annotation))
    return "text"
