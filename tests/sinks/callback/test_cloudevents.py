"""Deliveries as CloudEvents, read by the official library."""

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from producers.examples import EXAMPLES
from schemas.delivery import Delivered, Delivery
from sinks.callback import cloudevents
from tests.sinks.callback.calling import call_replying, deliveries
from tests.sinks.receiver import EVENT, Request, answer, delivery

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


def sent(format: str, *batch: Delivery) -> list[Request]:
    outcomes, receiver = call_replying(answer(200), batch or [delivery()], format=format)
    assert {type(outcome) for outcome in outcomes} == {Delivered}
    return receiver.requests


def check_attributes(event: BaseCloudEvent, number: int = 1) -> None:
    assert event.get_specversion() == "1.0"
    assert event.get_id() == f"id{number}"
    assert event.get_source() == "acs.ecs"
    assert event.get_type() == "ecs:Disk:Stalled:Executing"
    assert event.get_subject() == "acs:ecs:cn-hangzhou:1690:disk/d-1"
    assert event.get_time() == datetime(2019, 4, 9, 12, 18, 26, 922000, timezone(timedelta(hours=8)))
    assert event.get_datacontenttype() == "application/json"


def test_binary_mode_is_read_by_the_library_and_its_body_is_the_events_bytes() -> None:
    (request,) = sent("cloudevents-binary")
    assert request.headers["content-type"] == "application/json"
    assert request.body == EVENT
    event = from_binary_event(HTTPMessage(request.headers, request.body))
    check_attributes(event)
    assert event.get_data() == json.loads(EVENT)


def test_structured_mode_is_read_by_the_library_and_holds_the_events_bytes() -> None:
    (request,) = sent("cloudevents-structured")
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.body.endswith(b',"data":' + EVENT + b"}")
    event = from_structured_event(HTTPMessage(request.headers, request.body))
    check_attributes(event)
    assert event.get_data() == json.loads(EVENT)


def test_batched_mode_is_read_by_the_library() -> None:
    (request,) = sent("cloudevents-batch", *deliveries(3))
    assert request.headers["content-type"] == "application/cloudevents-batch+json"
    assert request.body.count(EVENT) == 3
    for number, one in enumerate(json.loads(request.body), 1):
        event = JSONFormat().read(CloudEvent, json.dumps(one))
        check_attributes(event, number)
        assert event.get_data() == json.loads(EVENT)


@pytest.mark.parametrize("event", EXAMPLES)
def test_the_official_notifications_are_cloudevents_byte_for_byte(event: bytes) -> None:
    (request,) = sent("cloudevents-binary", delivery(1, event))
    assert request.body == event
    read = from_binary_event(HTTPMessage(request.headers, request.body))
    (request,) = sent("cloudevents-structured", delivery(1, event))
    assert event in request.body
    again = from_structured_event(HTTPMessage(request.headers, request.body))
    assert again.get_attributes() == read.get_attributes()
    assert again.get_data() == read.get_data() == json.loads(event)


@given(product=TEXT, name=TEXT, resource=TEXT)
def test_any_text_survives_the_headers(product: str, name: str, resource: str) -> None:
    event = json.dumps({"product": product, "name": name}).encode()
    headers = cloudevents.encode_binary(msgspec.structs.replace(delivery(1, event), resource=resource))
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    read = from_binary_event(HTTPMessage(headers | {"content-type": "application/json"}, event))
    assert read.get_type().endswith(f":{name}")
    assert read.get_subject() == resource


def test_without_an_event_time_the_time_of_the_record_is_used() -> None:
    event = b'{"product":"ECS","name":"A:B","eventTime":"yesterday"}'
    attributes = json.loads(cloudevents.encode_structured(delivery(1, event)))
    assert datetime.fromisoformat(attributes["time"]) == datetime.fromtimestamp(1_554_783_506.922, UTC)


def test_without_a_resource_there_is_no_subject() -> None:
    nameless = msgspec.structs.replace(delivery(), resource="")
    assert "subject" not in json.loads(cloudevents.encode_structured(nameless))
    assert "ce-subject" not in cloudevents.encode_binary(nameless)


@pytest.mark.parametrize("event", [b"", b"[]", b"{}", b'{"product":1,"name":"a"}', b'{"a":' + b"[" * 100_000])
def test_an_event_that_is_no_notification_is_an_error(event: bytes) -> None:
    for shape in (cloudevents.encode_binary, cloudevents.encode_structured):
        with pytest.raises(ValueError):  # noqa: PT011 - the decoder's words
            shape(delivery(1, event))
