"""Explanations why an event matched a subscription or not, by the configuration under which it was routed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from heliograph.bus.base import Bus
from heliograph.operations.deliveries import DeliveryState, read_states
from heliograph.operations.events import find_events
from heliograph.operations.history import History
from router.configuration import Configuration
from router.decode import decode
from router.duplicates import find_original
from router.match.explain import Clause, explain
from router.routing import ROUTERS, Routed, read_routed
from schemas.delivery import delivery_id
from schemas.errors import DuplicateEvent, NotFound
from schemas.record import Position, Record
from schemas.topics import EVENTS


class EventDelivery(NamedTuple):
    """One delivery of an event. `target`: id of its target; `id`: id of the delivery."""

    target: str
    id: str


class Explanation(msgspec.Struct, frozen=True):
    """One subscription's answer to an event, by version `version` of the configuration.

    `deliveries` is empty if the subscription did not match; `failed` is then the first clause that did not hold.
    """

    subscription: str
    version: int
    deliveries: Sequence[EventDelivery]
    failed: Clause | None

    @property
    def matched(self) -> bool:
        """True if the subscription matched the event."""
        return self.failed is None

    @property
    def because(self) -> str:
        """The clause that did not hold, in one line; empty if all did."""
        return describe_clause(self.failed) if self.failed else ""


class EventAnswer(NamedTuple):
    """The answer of each subscription to one event, and the state of each delivery by its id.

    `duplicate_of`: position of the earlier event with the same bytes, empty if there is none; a duplicate is not
    routed.
    """

    position: Position
    explanations: Sequence[Explanation]
    states: Mapping[str, DeliveryState]
    duplicate_of: str = ""


def describe_clause(clause: Clause) -> str:
    """Formats a clause that did not hold, in one line."""
    return f"{clause.name}: wanted {clause.wanted}, found {clause.found}"


def answer_why(history: History, event: str) -> Iterator[EventAnswer]:
    """Yields the answers of all subscriptions to each event with an id, or to the event at a position.

    Raises NotFound (no such event, or not routed yet), InvalidNotification (it was rejected), BusError;
    `history.problem` says if the archive could not be read.
    """
    for record in find_events(history, event):
        try:
            explanations = explain_routing(history.bus, record.position, record)
        except DuplicateEvent as error:
            yield EventAnswer(record.position, (), {}, error.earlier)
            continue
        ids = [delivery.id for one in explanations for delivery in one.deliveries]
        yield EventAnswer(record.position, explanations, read_states(history, ids, record.timestamp))


def explain_routing(bus: Bus, position: Position, record: Record | None = None) -> list[Explanation]:
    """Returns each subscription's answer to the event at `position`, as it was when the event was routed.

    `record`: the event, for one that the bus may no longer hold. Raises NotFound (no such event, or not routed yet),
    InvalidNotification (it was rejected), DuplicateEvent, BusError.
    """
    record = record or _read_event(bus, position)
    routed = _find_routed(bus, position)
    routing = decode(record)
    earlier = find_original(bus, record, routed.duplicate_window)
    if earlier is not None:
        raise DuplicateEvent(str(position), str(earlier))
    found: list[Explanation] = []
    for one in Configuration(bus).read_subscriptions_at(routed.version).values():
        failed = next((clause for clause in explain(one, routing) if not clause.held), None)
        targets = [] if failed else [target.id for target in one.target]
        deliveries = [
            EventDelivery(target, delivery_id(bus.log_id, position, one.name, target)) for target in targets
        ]
        found.append(Explanation(one.name, routed.version, deliveries, failed))
    return found


def _read_event(bus: Bus, position: Position) -> Record:
    record = History(bus).find(position) if position.topic.startswith(EVENTS) else None
    if record is None:
        raise NotFound(f"event {position}: the bus has no event at this position")
    return record


def _find_routed(bus: Bus, position: Position) -> Routed:
    """Finds the last record of the topic `routing` that covers the position."""
    cursor = bus.lag(ROUTERS).get(position.topic_partition)
    reports = [routed for _, routed in read_routed(bus) if routed.covers(position)]
    if cursor is None or cursor.cursor <= position.offset or not reports:
        raise NotFound(f"event {position}: not routed yet; start a router with `heliograph run router`")
    return reports[-1]
