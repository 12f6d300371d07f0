"""The edge: validates each notification once in full and appends it; appends other input to `rejects`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import msgspec

from heliograph.bus.base import Bus
from schemas import arn
from schemas.errors import BusError, InvalidNotification
from schemas.metrics import REJECTED
from schemas.notification import Routing, check
from schemas.record import CHECKED, FORMAT, FORMAT_VERSION, Headers, NewRecord
from schemas.rejects import rejected_record
from schemas.topics import event_topic

_BATCH_RECORDS = 5000
_BATCH_BYTES = 4 * 1024 * 1024
_SAMPLE = 20
_TYPE_NAMES = {in_arn: in_name for in_name, in_arn in arn.RESOURCE_TYPES.items()}


class Submitted(msgspec.Struct, frozen=True):
    """The result of one input: the number of accepted and rejected values, and a line for each of the first
    rejections."""

    accepted: int = 0
    rejected: int = 0
    problems: tuple[str, ...] = ()


class Edge:
    """Validates notifications and appends them to the bus. `extra_topics`: names and patterns of event topics beside
    the four of ECS."""

    def __init__(self, bus: Bus, extra_topics: Sequence[str] = ()) -> None:
        self._bus = bus
        self._extra_topics = tuple(extra_topics)
        self._topic = lru_cache(4096)(self._find_topic)

    def build_record(self, value: bytes) -> NewRecord:
        """Validates one notification and builds its record. Raises InvalidNotification, which names the wrong field."""
        routing = check(value)
        topic = self._topic(routing.product, _resource_type(routing))
        headers = _headers(routing.product, routing.level, routing.name)
        return NewRecord(topic, value, routing.resource_id.encode(), headers)

    def submit(self, values: Iterable[bytes], progress: Callable[[int], None] | None = None) -> Submitted:
        """Validates all values and appends them in order; they are durable on return. Raises errors as
        `Submission.append` does."""
        submission = self.open_submission(progress)
        for value in values:
            submission.add(value)
        return submission.finish()

    def open_submission(self, progress: Callable[[int], None] | None = None) -> Submission:
        """Opens a submission for input that arrives piece by piece. After each batch it calls `progress` with the
        number of values appended so far."""
        return Submission(self, self._bus, progress)

    def _find_topic(self, product: str, resource_type: str) -> str:
        return event_topic(product, resource_type, self._extra_topics)


def _resource_type(routing: Routing) -> str:
    """Returns the resource type of the event's name, or that of its resource if the name has none."""
    in_name, colon, _ = routing.name.partition(":")
    if colon:
        return in_name
    in_arn = arn.parse(routing.resource_id).type
    return _TYPE_NAMES.get(in_arn, in_arn)


@lru_cache(4096)
def _headers(product: str, level: str, name: str) -> Headers:
    return (
        (FORMAT, FORMAT_VERSION),
        (CHECKED, b"1"),
        ("product", product.encode()),
        ("level", level.encode()),
        ("name", name.encode()),
    )


class Submission:
    """Appends the values of one input in batches, and counts the accepted and the rejected ones."""

    def __init__(self, edge: Edge, bus: Bus, progress: Callable[[int], None] | None) -> None:
        self._edge = edge
        self._bus = bus
        self._progress = progress
        self._records: list[NewRecord] = []
        self._bytes = 0
        self._rejected_here = 0
        self._rejected = 0
        self._problems: list[str] = []
        self._appended = 0

    def add(self, value: bytes) -> None:
        """Validates one value, and appends the batch when it is full."""
        try:
            record = self._edge.build_record(value)
        except InvalidNotification as error:
            record = self._reject(value, str(error))
        self._records.append(record)
        self._bytes += len(record.value)
        if len(self._records) >= _BATCH_RECORDS or self._bytes >= _BATCH_BYTES:
            self.append()

    def append(self) -> None:
        """Appends the values added so far. Raises BusError, such as BusFull, with the number of values appended
        before."""
        if not self._records:
            return
        try:
            self._bus.append(self._records)
        except BusError as error:
            raise type(error)(
                f"{error}; the first {self._appended} values of the input were appended; resume after them"
            ) from error
        if self._rejected_here:
            REJECTED.labels("edge").inc(self._rejected_here)
        self._appended += len(self._records)
        self._rejected += self._rejected_here
        self._records, self._bytes, self._rejected_here = [], 0, 0
        if self._progress:
            self._progress(self._appended)

    def finish(self) -> Submitted:
        """Appends the last batch; returns the result of the whole input."""
        self.append()
        return Submitted(self._appended - self._rejected, self._rejected, tuple(self._problems))

    def _reject(self, value: bytes, reason: str) -> NewRecord:
        number = self._appended + len(self._records) + 1
        self._rejected_here += 1
        if len(self._problems) < _SAMPLE:
            self._problems.append(f"item {number}: {reason}")
        return rejected_record(value, reason, f"edge, item {number}")
