"""Publishes notifications: checks and appends them, or only checks them."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import UnsupportedOperation
from typing import BinaryIO, NamedTuple

import msgspec

from heliograph.app.deployment import Deployment
from producers.builder import build
from producers.edge import Edge, Submitted
from producers.reading import read_notifications
from schemas.errors import InvalidNotification
from schemas.notification import check, warnings
from schemas.record import Position


class NotificationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that a notification of the catalogue is built from.

    `resource`: an id or an ARN. `level`: empty for the catalogue's. `content`: fields of the content that the
    other fields do not determine.
    """

    name: str
    resource: str
    region: str = "cn-hangzhou"
    user: str = "100000000000"
    level: str = ""
    content: Mapping[str, str] = {}


class Published(NamedTuple):
    """A notification that was appended, and its position."""

    position: Position
    value: bytes


class Checked(NamedTuple):
    """The result of checking one notification of an input.

    `number` counts from 1; `problem` is empty if it is valid.
    """

    number: int
    problem: str
    warnings: Sequence[str]


def publish_built(deployment: Deployment, request: NotificationRequest) -> Published:
    """Builds one notification and appends it. Raises NotFound (unknown name), InputError, BusError."""
    value = build(
        request.name,
        request.resource,
        region=request.region,
        user=request.user,
        level=request.level or None,
        content=request.content,
        now_ms=deployment.clock.now(),
    )
    (position,) = deployment.bus.append([_open_edge(deployment).build_record(value)])
    return Published(position, value)


def publish_stream(
    deployment: Deployment, stream: BinaryIO, advance: Callable[[int], None] | None = None
) -> Submitted:
    """Checks the notifications of a stream and appends them byte for byte; returns the counts and the first problems.

    Rejected notifications are appended to `rejects` with the reason. Before the stream blocks, all notifications read
    so far are appended. `advance` is called with the number of notifications appended so far. Raises BusError.
    """
    submission = _open_edge(deployment).open_submission(advance)
    for value in read_notifications(_AppendingReader(stream, submission.append)):
        submission.add(value)
    return submission.finish()


def check_stream(stream: BinaryIO) -> Iterator[Checked]:
    """Checks each notification of a stream; appends nothing."""
    for number, value in enumerate(read_notifications(stream), 1):
        try:
            check(value)
        except InvalidNotification as error:
            yield Checked(number, str(error), ())
        else:
            yield Checked(number, "", list(warnings(value)))


class _AppendingReader:
    """A stream that calls `append` before it blocks, so that notifications that were read do not wait for further
    input."""

    def __init__(self, stream: BinaryIO, append: Callable[[], None]) -> None:
        self._stream = stream
        self._append = append

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes of the available input; empty at the end."""
        with suppress(UnsupportedOperation):  # a stream in memory never blocks
            if not select.select([self._stream], [], [], 0)[0]:
                self._append()
        return self._stream.read1(size)  # type: ignore[attr-defined, no-any-return]


def _open_edge(deployment: Deployment) -> Edge:
    return Edge(deployment.bus, deployment.config.events.topics)
