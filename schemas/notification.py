"""The canonical notification: validation at the edge, the fields that the router reads, and reasons for refusals.

Ten fields: ver, id, product, resourceId, level, name, userId, eventTime, regionId, content (ECS user manual, event
notification format; CloudMonitor system events). Other fields and unknown names are kept. `ver` may be absent, as in
newer payloads. `content` is an object, or JSON text of an object or an array. If a top-level field occurs twice, the
last one counts, as in every JSON parser that a receiver is likely to use. Bytes are never re-serialised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, cast

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from schemas import arn, catalogue
from schemas.content import CHECKS, FAMILIES, field_problems
from schemas.errors import InvalidNotification
from schemas.subscription import Level
from schemas.times import EVENT_TIME, is_event_time
from schemas.topics import EVENT_LIMIT

WHOLE = "notification"
"""Field name in errors about the input as a whole."""

_SHORT = 512
_ECS_NAME = r"[A-Za-z][A-Za-z0-9]*:[A-Za-z0-9][A-Za-z0-9._-]*(?::[A-Za-z][A-Za-z0-9]*)?"
_ANY_NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]*"
_is_ecs_name: Callable[[str], object] = re.compile(_ECS_NAME).fullmatch
_is_any_name: Callable[[str], object] = re.compile(_ANY_NAME).fullmatch

_TEXT = "text of 1 to 512 characters"
EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "ver": f"{_TEXT}, as in 1.0",
        "id": f"{_TEXT}, best a UUID",
        "product": f"{_TEXT}, as in ECS",
        "resourceId": "a resource name acs:ecs:<region>:<user>:<type>/<id>",
        "level": "CRITICAL, WARN or INFO",
        "name": "<ResourceType>:<event> or <ResourceType>:<event>:<status>, as in Instance:StateChange",
        "userId": f"{_TEXT}: the account's id",
        "eventTime": "yyyyMMddTHHmmss.SSS with an offset, as in 20190409T121826.922+0800",
        "regionId": f"{_TEXT}, as in cn-hangzhou",
        "content": "an object, or JSON text of an object or an array",
    }
)
"""The expected form of each of the ten fields, for error messages."""


def _must(match: Callable[[str], object]) -> AfterValidator:
    def check_text(text: str) -> str:
        if not match(text):
            raise PydanticCustomError("form", "not of the form")
        return text

    return AfterValidator(check_text)


def _schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": _SHORT, "pattern": f"^(?:{pattern})$"}
    )


Short = Annotated[str, StringConstraints(min_length=1, max_length=_SHORT)]


class Notification(BaseModel):
    """A notification as the edge accepts it. The JSON Schema is generated from this model."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, alias_generator=to_camel)

    ver: Short = "1.0"
    id: Short
    product: Short
    resource_id: Annotated[Short, _must(re.compile(arn.PATTERN).fullmatch), _schema(arn.PATTERN)]
    level: Level
    name: Annotated[Short, _schema(_ANY_NAME)]
    user_id: Short
    event_time: Annotated[Short, _must(is_event_time), _schema(EVENT_TIME)]
    region_id: Short
    content: dict[str, Any] | str

    @field_validator("name")
    @classmethod
    def _name_has_the_form(cls, name: str, info: ValidationInfo) -> str:
        if not _names_an_event(name, info.data.get("product", "")):
            raise PydanticCustomError("form", "not of the form")
        return name

    @field_validator("content")
    @classmethod
    def _content_fits_the_name(
        cls, content: dict[str, Any] | str, info: ValidationInfo
    ) -> dict[str, Any] | str:
        members = _read_content(content) if isinstance(content, str) else content
        if isinstance(members, Mapping):
            entry = catalogue.CATALOGUE.get(info.data.get("name", ""))
            for field, expected in field_problems(entry.family, members) if entry else ():
                raise PydanticCustomError("content", "{field}", {"field": field, "expected": expected})
        return content


def _names_an_event(name: str, product: str) -> bool:
    """True if `name` has the form of the product's names: only names of ECS must have a resource type."""
    return bool(_is_ecs_name(name) if product.upper() == "ECS" else _is_any_name(name))


def _read_content(text: str) -> dict[str, Any] | list[Any]:
    try:
        _decode_anything(text.encode())
        content = json.loads(text, parse_int=float)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        content = None
    if not isinstance(content, (dict, list)):
        raise PydanticCustomError("form", "not JSON text of an object or an array")
    return cast("dict[str, Any] | list[Any]", content)


class Routing(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Fields of a notification that the router reads. `id` is empty if the notification has none."""

    product: str
    level: str
    name: str
    resource_id: str
    region_id: str
    user_id: str
    id: str = ""


_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=_SHORT)]


class _Edge(msgspec.Struct, gc=False, rename="camel", kw_only=True):
    """A fast form of `Notification`; a test checks that both accept the same input."""

    ver: _Short = "1.0"
    id: _Short
    product: _Short
    resource_id: Annotated[str, msgspec.Meta(max_length=_SHORT, pattern=rf"^{arn.PATTERN}\Z")]
    level: Level
    name: _Short
    user_id: _Short
    event_time: Annotated[str, msgspec.Meta(pattern=rf"^{EVENT_TIME}\Z")]
    region_id: _Short
    content: msgspec.Raw


class _AnyObject(msgspec.Struct, gc=False):
    pass


_CHECKS = {name: CHECKS[entry.family] for name, entry in catalogue.CATALOGUE.items()}
_decode_edge = msgspec.json.Decoder(_Edge).decode
_decode_routing = msgspec.json.Decoder(Routing).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_object_or_array = msgspec.json.Decoder(_AnyObject | list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(_AnyObject).decode
_decode_anything = msgspec.json.Decoder(msgspec.Raw).decode


class _BadName(Exception):  # noqa: N818
    pass


_REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _BadName)


def check(value: bytes) -> Routing:
    """Validates the bytes of one notification in full. Raises InvalidNotification for the first wrong field."""
    if len(value) > EVENT_LIMIT:
        raise InvalidNotification(WHOLE, f"has {len(value)} bytes; at most {EVENT_LIMIT} are accepted")
    try:
        edge = _decode_edge(value)
        if not value.isascii():
            value.decode()
        content_check = _CHECKS.get(edge.name)
        if content_check is None:
            if not _names_an_event(edge.name, edge.product):
                raise _BadName
            content_check = _decode_object
        _check_content(edge.content, content_check)
    except _REFUSALS as refusal:
        raise explain(value) or _translated(refusal) from None
    return Routing(
        edge.product, edge.level, edge.name, edge.resource_id, edge.region_id, edge.user_id, edge.id
    )


def _check_content(content: msgspec.Raw, object_check: Callable[[msgspec.Raw | bytes], object]) -> None:
    try:
        object_check(content)
    except msgspec.ValidationError:
        text = _decode_text(content).encode()
        if type(_decode_object_or_array(text)) is _AnyObject:
            object_check(text)


def explain(value: bytes) -> InvalidNotification | None:
    """Returns the wrong field of `value` with the reason; None if `value` is a notification. Slower than `check`, which
    calls it only for refused input."""
    try:
        text = value.decode()
        _decode_anything(value)
        members = json.loads(text, parse_int=float)
    except UnicodeDecodeError as error:
        return InvalidNotification(
            WHOLE, f"not UTF-8 at byte {error.start}; encode the notification in UTF-8"
        )
    except (msgspec.MsgspecError, ValueError) as error:
        problem = (
            str(error)
            .replace("Input data was truncated", "it ends too early")
            .removeprefix("JSON is malformed: ")
        )
        return InvalidNotification(WHOLE, f"not JSON: {problem}; write one JSON object")
    except RecursionError:
        return InvalidNotification(WHOLE, "nested too deeply; use fewer levels of objects and arrays")
    if not isinstance(members, dict):
        return InvalidNotification(WHOLE, f"is {_kind(members)}; write one JSON object")
    try:
        Notification.model_validate(members)
    except ValidationError as error:
        return _first_problem(error.errors(include_url=False))
    return None


def _first_problem(problems: Sequence[ErrorDetails]) -> InvalidNotification:
    order = list(EXPECTED)
    problem = min(problems, key=lambda problem: order.index(str(problem["loc"][0])))
    field = str(problem["loc"][0])
    if problem["type"] == "content":
        inner = problem.get("ctx", {})
        return InvalidNotification(f"content.{inner['field']}", f"expected {inner['expected']}")
    if problem["type"] == "missing":
        return InvalidNotification(field, f"missing; expected {EXPECTED[field]}")
    return InvalidNotification(field, f"{_shown(problem['input'])}; expected {EXPECTED[field]}")


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return f"is {_kind(value)}"
    return f"{value[:60]!r}{'…' if len(value) > 60 else ''} is not accepted"


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case _:
            return "an object"


def _translated(refusal: Exception) -> InvalidNotification:
    """Builds the error from msgspec's text. Needed only for a field that occurs twice, first with a wrong value and
    last with a valid one, since `explain` accepts that."""
    problem, _, path = str(refusal).partition(" - at `$.")
    return InvalidNotification(path.rstrip("`") or WHOLE, f"{problem}; write each field once")


def read_routing(value: bytes) -> Routing:
    """Reads the routing fields of a notification that the edge has accepted. Raises InvalidNotification, with the wrong
    field, for any other value."""
    try:
        return _decode_routing(value)
    except _REFUSALS as refusal:
        raise explain(value) or _translated(refusal) from None


def warnings(value: bytes) -> list[str]:
    """Returns a line for each suspicious field of a notification that `check` accepts."""
    routing = check(value)
    content: dict[str, Any] | str = json.loads(value, parse_int=float)["content"]
    members = _read_content(content) if isinstance(content, str) else content
    entry = catalogue.CATALOGUE.get(routing.name)
    if entry is None:
        known = routing.product.upper() != "ECS" or routing.name in catalogue.ELSEWHERE
        return (
            [] if known else [f"name: {routing.name!r} is not in the catalogue{catalogue.hint(routing.name)}"]
        )
    return [
        *_level_warnings(routing, entry),
        *_resource_warnings(routing, entry),
        *(_content_warnings(entry, members) if isinstance(members, dict) else ()),
    ]


def _level_warnings(routing: Routing, entry: catalogue.Entry) -> list[str]:
    if routing.level in entry.levels:
        return []
    return [f"level: {routing.level}, but the levels of {entry.name} are {' or '.join(entry.levels)}"]


def _resource_warnings(routing: Routing, entry: catalogue.Entry) -> list[str]:
    kind = arn.parse(routing.resource_id).type
    expected = arn.RESOURCE_TYPES[entry.resource_type]
    if kind == expected:
        return []
    return [f"resourceId: names a {kind}, but {entry.name} is an event of a {expected}"]


def _content_warnings(entry: catalogue.Entry, content: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    status = content.get("eventStatus")
    if isinstance(status, str) and entry.status and status != entry.status:
        found.append(
            f"content.eventStatus: {status!r} contradicts {entry.status} in the name; "
            "the status in the content is the valid one"
        )
    if entry.family == "stalled" and entry.status == "Executing" and "executeFinishTime" in content:
        found.append("content.executeFinishTime: a finish time contradicts the status Executing in the name")
    try:
        FAMILIES[entry.family].model_validate(content)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            field = to_camel(str(problem["loc"][0]))
            found.append(f"content.{field}: {problem['msg'][:1].lower()}{problem['msg'][1:]}")
    return found
