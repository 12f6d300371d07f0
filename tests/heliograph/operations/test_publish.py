"""Publishing notifications: built ones, those of a stream, and checks that append nothing."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from threading import Thread

import pytest

from heliograph.app.deployment import Deployment
from heliograph.bus.reading import read_topic
from heliograph.operations.publish import (
    NotificationRequest,
    check_stream,
    publish_built,
    publish_stream,
)
from producers.examples import EXAMPLES
from schemas.errors import InputError, NotFound
from schemas.notification import check
from tests.router.events import event

TOPIC = "events.ecs.instance"


def read(deployment: Deployment, topic: str) -> list[bytes]:
    return [record.value for record in read_topic(deployment.bus, topic)]


def test_a_built_notification_is_appended_as_returned(deployment: Deployment) -> None:
    request = NotificationRequest(name="Instance:StateChange", resource="i-1", content={"state": "Running"})
    published = publish_built(deployment, request)
    assert read(deployment, TOPIC) == [published.value]
    assert published.position.topic == TOPIC
    assert check(published.value).resource_id.endswith("/i-1")


@pytest.mark.parametrize(
    ("name", "error"), [("Nope", NotFound), ("Instance:StateChange", InputError)], ids=["unknown", "lacking"]
)
def test_a_notification_that_cannot_be_built_is_not_appended(
    deployment: Deployment, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        publish_built(deployment, NotificationRequest(name=name, resource="i-1"))
    assert deployment.bus.topics() == {}


def test_a_stream_is_appended_byte_for_byte_and_counted(deployment: Deployment) -> None:
    stream = io.BytesIO(b"\n".join([event(), b"nonsense", event(id="E-2")]))
    counts: list[int] = []
    submitted = publish_stream(deployment, stream, counts.append)
    assert (submitted.accepted, submitted.rejected, len(submitted.problems)) == (2, 1, 1)
    assert submitted.problems[0].startswith("item 2: ")
    assert sorted(read(deployment, TOPIC)) == sorted([event(), event(id="E-2")])
    assert read(deployment, "rejects") == [b"nonsense"]
    assert counts == [3]


@pytest.fixture
def pipe() -> Iterator[tuple[io.BufferedReader, int]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        yield stream, writing


def test_events_of_a_pipe_are_appended_before_the_next_read_blocks(
    deployment: Deployment, pipe: tuple[io.BufferedReader, int]
) -> None:
    stream, writing = pipe
    counts: list[int] = []

    def advance(count: int) -> None:
        counts.append(count)
        if count == 1:  # the second notification is written only once the first is appended
            os.write(writing, event(id="E-2") + b"\n")
            os.close(writing)

    os.write(writing, event() + b"\n")
    publishing = Thread(target=publish_stream, args=(deployment, stream, advance))
    publishing.start()
    publishing.join(60)
    assert counts == [1, 2]


def test_a_check_reports_problems_and_warnings_and_appends_nothing(deployment: Deployment) -> None:
    stream = io.BytesIO(b"\n".join([*EXAMPLES, b'{"ver":"1.0"}']))
    checked = list(check_stream(stream))
    assert [one.number for one in checked] == list(range(1, len(EXAMPLES) + 2))
    assert [one.number for one in checked if one.problem] == [len(EXAMPLES) + 1]
    assert deployment.bus.topics() == {}
