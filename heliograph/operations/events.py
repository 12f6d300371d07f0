"""Events: lists the events on the bus, and finds an event by its id or position."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import NamedTuple, get_args

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_on
from heliograph.operations.history import History
from heliograph.operations.times import OPEN_END
from schemas.errors import InputError, InvalidNotification, NotFound
from schemas.notification import Routing, read_routing
from schemas.record import Position, Record
from schemas.subscription import Level
from schemas.topics import EVENTS

_BATCH = 1000


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects events; an empty field selects all.

    `resource`: an id or an ARN. `name`: a pattern with `*`. `since` (inclusive) and `until` (exclusive): time at which
    the event was appended, in milliseconds since the epoch. Raises InputError for an unknown level.
    """

    resource: str = ""
    level: str = ""
    name: str = ""
    since: int = 0
    until: int = OPEN_END

    def __post_init__(self) -> None:
        if self.level and self.level not in get_args(Level):
            raise InputError(f"level {self.level!r}: expected {', '.join(get_args(Level))}")

    def selects(self, routing: Routing) -> bool:
        """True if the event matches level, name and resource; does not compare the time."""
        return (
            self.level in {"", routing.level}
            and (not self.name or fnmatchcase(routing.name, self.name))
            and (
                not self.resource
                or self.resource in {routing.resource_id, routing.resource_id.rpartition("/")[2]}
            )
        )


ALL = EventFilter()
"""The filter that selects every event."""


class Event(NamedTuple):
    """An event's record, and the fields that routing reads."""

    record: Record
    routing: Routing


class _Identified(msgspec.Struct, gc=False):
    id: str = ""


_identity = msgspec.json.Decoder(_Identified)


def list_events(bus: Bus, selection: EventFilter = ALL) -> Iterator[Event]:
    """Lists the selected events on the bus, topic by topic. Raises BusError.

    Records that are no notifications are skipped: the router rejects them with the reason.
    """
    for record in _read_between(bus, selection.since, selection.until):
        try:
            routing = read_routing(record.value)
        except InvalidNotification:
            continue
        if selection.selects(routing):
            yield Event(record, routing)


def find_events(history: History, event: str) -> list[Record]:
    """Finds the events with an id on the bus, the newest first; or the event at a position, on the bus or in the
    archive.

    `event`: an id, or `topic:partition:offset`. Raises NotFound, BusError.
    """
    try:
        position = Position.parse(event)
    except InputError:
        found = find_by_id(history.bus, event)
    else:
        if not position.topic.startswith(EVENTS):
            raise NotFound(
                f"event {event!r}: topic {position.topic!r} holds no events; name a position in a topic `events.*`"
            )
        record = history.find(position)
        found = [] if record is None else [record]
    if not found:
        remedy = (
            f"the archive cannot be read: {history.problem}"
            if history.problem
            else "find an archived event by its position, which the view `events` of `heliograph query` shows"
        )
        raise NotFound(f"event {event!r}: not in the topics; {remedy}")
    return found


def find_by_id(bus: Bus, event_id: str) -> list[Record]:
    """Finds every record of the topics `events.*` whose notification has this id, the newest first. Raises BusError."""
    topics = [topic for topic in bus.topics() if topic.startswith(EVENTS)]
    found = [record for topic in topics for record in _read_with_id(bus, topic, event_id)]
    return sorted(found, key=lambda record: record.timestamp, reverse=True)


def _read_between(bus: Bus, since: int, until: int) -> Iterator[Record]:
    for topic in sorted(bus.topics()):
        if topic.startswith(EVENTS):
            for partition, extent in bus.extents(topic).items():
                records = read_on(bus, partition, bus.offset_at(partition, since), extent.end)
                yield from takewhile(lambda record: record.timestamp < until, records)


def _read_with_id(bus: Bus, topic: str, event_id: str) -> Iterator[Record]:
    """Reads a topic backwards in batches, and decodes only records that may hold the id."""
    needle = event_id.encode()
    for partition, extent in bus.extents(topic).items():
        for end in range(extent.end, extent.start, -_BATCH):
            first = max(end - _BATCH, extent.start)
            for record in bus.read(partition, first, end - first).records:
                if record.offset < end and _may_hold(record.value, needle) and _read_id(record) == event_id:
                    yield record


def _may_hold(value: bytes, needle: bytes) -> bool:
    """True if the text may be in the JSON value, in plain or escaped form."""
    return needle in value or b"\\" in value


def _read_id(record: Record) -> str:
    try:
        return _identity.decode(record.value).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
