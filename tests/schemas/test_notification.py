"""Validation of notifications."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.examples import EXAMPLES
from schemas.errors import InvalidNotification
from schemas.notification import (
    EXPECTED,
    Notification,
    Routing,
    check,
    explain,
    read_routing,
    warnings,
)
from schemas.topics import EVENT_LIMIT

OFFICIAL = sorted((Path(__file__).parents[3] / "shared" / "spec" / "examples").glob("*.json"))
VALID: dict[str, Any] = json.loads(EXAMPLES[1])
ABSENT = object()


def changed(**fields: object) -> bytes:
    members = {**VALID, **fields}
    return json.dumps({key: value for key, value in members.items() if value is not ABSENT}).encode()


def refused(value: bytes) -> InvalidNotification:
    with pytest.raises(InvalidNotification) as error:
        check(value)
    assert "\n" not in str(error.value)
    return error.value


@pytest.mark.skipif(not OFFICIAL, reason="the official examples are not beside this checkout")
def test_the_official_examples_are_accepted() -> None:
    assert len(OFFICIAL) == 14
    for path in OFFICIAL:
        value = path.read_bytes()
        members = json.loads(value)
        routing = check(value)
        assert (routing.name, routing.resource_id) == (members["name"], members["resourceId"])
        assert Notification.model_validate(members).level == routing.level


@pytest.mark.parametrize("value", EXAMPLES)
def test_every_reader_of_notifications_accepts_the_examples(value: bytes) -> None:
    assert check(value) == read_routing(value)
    assert explain(value) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"ver": ABSENT},
        {"instanceName": "web-1", "traceId": None, "groupId": 0, "nested": {"a": [1]}},
        {"content": json.dumps(VALID["content"])},
        {"content": "[]"},
        {"content": {}},
        {"content": {**VALID["content"], "notBefore": "2024-03-06T18:00Z", "reason": {"code": 1}}},
        {"name": "Instance:Unheard.Of:Paused", "content": {"notBefore": 5}},
        {"name": "Instance:Unheard"},
        {
            "product": "RDS",
            "name": "Instance_Failover",
            "resourceId": "acs:rds:cn-hangzhou:1:dbinstance/rm-1",
        },
        {"eventTime": "20240304T020000.480-0130"},
        {"resourceId": "acs:ecs:cn-shanghai:1690****30:instance/<resource-id>"},
        {"userId": "1" * 512},
        {"id": "☀"},
    ],
)
def test_top_level_fields_of_real_notifications_are_accepted(fields: dict[str, object]) -> None:
    check(changed(**fields))


@pytest.mark.parametrize("field", [field for field in EXPECTED if field != "ver"])
def test_each_of_the_nine_fields_is_required(field: str) -> None:
    error = refused(changed(**{field: ABSENT}))
    assert error.field == field
    assert error.problem == f"missing; expected {EXPECTED[field]}"


@pytest.mark.parametrize("field", EXPECTED)
@pytest.mark.parametrize("value", [None, True, 5, 1.5, []])
def test_a_field_that_is_not_text_is_refused(field: str, value: object) -> None:
    assert refused(changed(**{field: value})).field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("level", "critical"),
        ("level", "ERROR"),
        ("name", "StateChange"),
        ("name", "Instance:"),
        ("name", ":StateChange"),
        ("name", "Instance:StateChange:"),
        ("name", "Instance:State Change"),
        ("name", "Instance:StateChange\n"),
        ("name", "Instance:A:B:C"),
        ("eventTime", "2024-03-04T10:00:00Z"),
        ("eventTime", "20240230T100000.480+0800"),
        ("resourceId", "i-2ze000000000000heli"),
        ("resourceId", "acs:ecs:cn-hangzhou:1:instance"),
        ("content", "hello"),
        ("content", "5"),
        ("content", ""),
        ("content", '{"a": NaN}'),
        ("product", ""),
        ("userId", "1" * 513),
    ],
)
def test_a_wrong_field_is_refused_with_the_expected_form(field: str, value: object) -> None:
    error = refused(changed(**{field: value}))
    assert error.field == field
    assert error.problem.endswith(f"expected {EXPECTED[field]}")


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("field", "value"), [("instanceId", 5), ("notBefore", "soon"), ("eventStatus", None)]
)
def test_a_documented_content_field_of_a_wrong_type_is_refused(
    field: str, value: object, as_text: bool
) -> None:
    content = {**VALID["content"], field: value}
    assert refused(changed(content=json.dumps(content) if as_text else content)).field == f"content.{field}"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "is an array"),
        (b"null", "is null"),
        (b'{"a": NaN}', "not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (changed()[:-1] + b',"more":"\xff"}', "not UTF-8 at byte"),
        (changed() + changed(), "not JSON"),
        (b'{"content":' + b"[" * 100_000, "nested too deeply"),
        (b" " * EVENT_LIMIT + changed(), "bytes; at most 262144 are accepted"),
    ],
)
def test_bytes_that_are_no_json_object_are_refused_as_a_whole(value: bytes, problem: str) -> None:
    error = refused(value)
    assert error.field == "notification"
    assert problem in error.problem


def test_an_event_of_exactly_the_size_limit_is_accepted() -> None:
    value = changed()
    padded = value + b" " * (EVENT_LIMIT - len(value))
    check(padded)
    refused(padded + b" ")


def test_the_last_of_two_equal_fields_counts() -> None:
    assert check(changed()[:-1] + b',"level":"INFO"}').level == "INFO"
    assert refused(changed()[:-1] + b',"level":"LOW"}').field == "level"
    assert refused(b'{"level":"LOW",' + changed()[1:]).field == "level"


@given(st.data())
def test_check_and_explain_accept_the_same_input(data: st.DataObject) -> None:
    value = data.draw(NOTIFICATIONS)
    try:
        check(value)
        accepted = True
    except InvalidNotification:
        accepted = False
    assert accepted is (explain(value) is None)


def _json_values() -> st.SearchStrategy[Any]:
    scalars = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=4,
    )


@st.composite
def _changed_notification(draw: st.DrawFn) -> bytes:
    members: dict[str, Any] = json.loads(draw(st.sampled_from(EXAMPLES)))
    inside = not isinstance(members["content"], str) and draw(st.booleans())
    part = cast("dict[str, Any]", members["content"]) if inside else members
    key = draw(st.sampled_from(sorted(part)))
    match draw(st.sampled_from(["drop", "replace", "edit", "add", "as text", "nothing"])):
        case "drop":
            del part[key]
        case "replace":
            part[key] = draw(_json_values())
        case "edit" if isinstance(part[key], str):
            text: str = part[key]
            at = draw(st.integers(0, len(text)))
            part[key] = text[:at] + draw(st.text(max_size=2)) + text[at + draw(st.integers(0, 2)) :]
        case "add":
            part[draw(st.text(max_size=5))] = draw(_json_values())
        case "as text":
            members["content"] = json.dumps(members["content"])
        case _:
            pass
    return json.dumps(members, ensure_ascii=draw(st.booleans())).encode(errors="replace")


@st.composite
def _changed_bytes(draw: st.DrawFn) -> bytes:
    value = draw(st.sampled_from(EXAMPLES))
    at = draw(st.integers(0, len(value)))
    return value[:at] + draw(st.binary(max_size=2)) + value[at + draw(st.integers(0, 2)) :]


NOTIFICATIONS = _changed_notification() | _changed_bytes()


def test_read_routing_needs_no_id_and_names_a_missing_field() -> None:
    assert read_routing(changed(id=ABSENT)).id == ""
    with pytest.raises(InvalidNotification) as error:
        read_routing(changed(name=ABSENT))
    assert error.value.field == "name"
    with pytest.raises(InvalidNotification):
        read_routing(b"nonsense")


def test_routing_has_the_fields_of_the_notification() -> None:
    routing = check(changed())
    assert isinstance(routing, Routing)
    assert routing == Routing(
        VALID["product"],
        VALID["level"],
        VALID["name"],
        VALID["resourceId"],
        VALID["regionId"],
        VALID["userId"],
        VALID["id"],
    )


def test_a_correct_notification_has_no_warnings() -> None:
    assert warnings(changed()) == []
    assert warnings(changed(product="RDS", name="Instance_Failover")) == []
    assert warnings(changed(name="Instance:VSwitchChanged")) == []


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        (
            {"content": {**VALID["content"], "eventStatus": "Avoided"}},
            "content.eventStatus: 'Avoided' contradicts Scheduled in the name",
        ),
        ({"level": "INFO"}, "level: INFO, but the levels of .* are CRITICAL"),
        ({"resourceId": "acs:ecs:cn-hangzhou:1:disk/d-1"}, "resourceId: names a disk"),
        ({"name": "Instance:StateChanged"}, "name: .* did you mean Instance:StateChange"),
        ({"content": {"eventStatus": "Scheduled"}}, "content.eventId: field required"),
        ({"content": json.dumps({**VALID["content"], "eventStatus": "Paused"})}, "content.eventStatus"),
    ],
)
def test_suspicious_fields_of_an_accepted_notification_have_warnings(
    fields: dict[str, object], pattern: str
) -> None:
    assert any(re.match(pattern, warning) for warning in warnings(changed(**fields)))


def test_a_finish_time_under_the_status_executing_has_a_warning() -> None:
    assert [w for w in warnings(EXAMPLES[11]) if w.startswith("content.executeFinishTime")]
