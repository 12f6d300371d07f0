"""Why an event went to some subscriptions and not to others, answered from the log as it was decided then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from heliograph.bus.base import Bus
from router.configuration import Configuration
from router.decode import decode
from router.duplicates import find_original
from router.match.explain import Clause, explain
from router.routing import ROUTERS, Routed, read_routed
from schemas.delivery import delivery_id
from schemas.errors import DuplicateEvent, NotFound
from schemas.record import Position, Record
from schemas.topics import EVENTS

_BATCH = 1000


class Made(NamedTuple):
    """A delivery that the event became: for which target, and its id."""

    target: str
    id: str


class Explanation(msgspec.Struct, frozen=True):
    """What one subscription made of the event, under `version`.

    `deliveries` is empty if it did not want the event; then `failed` is the first clause that did not hold.
    """

    subscription: str
    version: int
    deliveries: Sequence[Made]
    failed: Clause | None

    @property
    def matched(self) -> bool:
        """Whether the subscription wanted the event."""
        return self.failed is None

    @property
    def because(self) -> str:
        """One line: which clause did not hold; empty if all did."""
        return (
            f"{self.failed.name}: wanted {self.failed.wanted}, found {self.failed.found}"
            if self.failed
            else ""
        )


class _Identified(msgspec.Struct, gc=False):
    id: str = ""


_identity = msgspec.json.Decoder(_Identified)


def why(bus: Bus, position: Position, record: Record | None = None) -> list[Explanation]:
    """Each subscription's answer to the event at `position`, as it was when the event was routed. `record`: the event, of
    which the log may know no more than that it was routed.

    Raises NotFound (no such event, or not routed yet), InvalidNotification (it was rejected), DuplicateEvent.
    """
    record = record or _record_at(bus, position)
    routed = _routed_at(bus, position)
    routing = decode(record)
    earlier = find_original(bus, record, routed.duplicate_window)
    if earlier is not None:
        raise DuplicateEvent(str(position), str(earlier))
    found: list[Explanation] = []
    for one in Configuration(bus).read_subscriptions_at(routed.version).values():
        failed = next((clause for clause in explain(one, routing) if not clause.held), None)
        targets = [] if failed else [target.id for target in one.target]
        made = [Made(target, delivery_id(bus.log_id, position, one.name, target)) for target in targets]
        found.append(Explanation(one.name, routed.version, made, failed))
    return found


def find_event(bus: Bus, event_id: str) -> list[Record]:
    """Every record of the topics `events.*` whose notification has this id, the newest first; several may."""
    topics = [topic for topic in bus.topics() if topic.startswith(EVENTS)]
    found = [record for topic in topics for record in _with_id(bus, topic, event_id)]
    return sorted(found, key=lambda record: record.timestamp, reverse=True)


def _record_at(bus: Bus, position: Position) -> Record:
    if position.topic.startswith(EVENTS):
        records = bus.read(position.topic_partition, position.offset, 1).records
        if records and records[0].offset == position.offset:
            return records[0]
    raise NotFound(f"position {position}: the log holds no event there")


def _routed_at(bus: Bus, position: Position) -> Routed:
    """The last report that covers the position."""
    cursor = bus.lag(ROUTERS).get(position.topic_partition)
    reports = [routed for _, routed in read_routed(bus) if routed.covers(position)]
    if cursor is None or cursor.cursor <= position.offset or not reports:
        raise NotFound(f"event {position}: not routed yet; `heliograph run router` routes it")
    return reports[-1]


def _with_id(bus: Bus, topic: str, event_id: str) -> Iterator[Record]:
    """Read backwards in bounded batches. Only what may hold the id is decoded."""
    needle = event_id.encode()
    for partition, extent in bus.extents(topic).items():
        for end in range(extent.end, extent.start, -_BATCH):
            first = max(end - _BATCH, extent.start)
            for record in bus.read(partition, first, end - first).records:
                if record.offset < end and _may_hold(record.value, needle) and _id_of(record) == event_id:
                    yield record


def _may_hold(value: bytes, needle: bytes) -> bool:
    """Whether the text may be in there, if only behind JSON's escapes."""
    return needle in value or b"\\" in value


def _id_of(record: Record) -> str:
    try:
        return _identity.decode(record.value).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
