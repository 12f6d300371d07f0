"""The role that routes events: polls, decodes, matches and mutes them, and commits the deliveries."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import cast

import structlog

from heliograph.bus.base import Bus, Consumer
from heliograph.bus.gaps import report_gaps
from router.configuration import Configuration
from router.decode import decode
from router.deliveries import Deliveries
from router.duplicates import WINDOW, Duplicates
from router.match.index import Match, Table
from router.mutes import Mutes
from router.routing import ROUTERS, routed_record
from schemas.delivery import VerdictState
from schemas.errors import InvalidNotification
from schemas.metrics import DUPLICATES, MATCHED, REJECTED, ROUTED, VERDICTS
from schemas.notification import Routing
from schemas.record import NewRecord, Position, Record, TopicPartition
from schemas.rejects import rejected_record
from schemas.role import ConsumerRole
from schemas.topics import DELIVERIES

_BATCH = 5000
_COMMIT_RECORDS = 20_000
_COMMIT_BYTES = 32 * 1024 * 1024
"""Largest commit in bytes of records, unless the deliveries of a single event are larger. All deliveries of one poll
may not fit into memory, and other writers wait while a commit is stored."""
_LONGEST_POLL = 0.2
"""Seconds until an idle router reads a new version of the subscriptions and confirms it."""

_position = cast("Callable[[Record], Position]", attrgetter("topic", "partition", "offset"))
"""Returns a record's position as a plain tuple, which takes a third of the time: every event needs it."""
_log = structlog.get_logger()


class Router(ConsumerRole[Consumer]):
    """Builds a delivery of each event for each target of each subscription that it matches.

    The subscriptions are read after each poll, so an event is matched with those in force when it was appended, or
    later ones. A record that is no notification, or is a duplicate within `duplicate_window` seconds, goes to
    `rejects`; a muted event becomes verdicts. All these records, and the one for `routing`, are appended in the commit
    of the events.
    """

    def __init__(self, bus: Bus, duplicate_window: float = WINDOW) -> None:
        bus.create(DELIVERIES)
        self._bus = bus
        self._duplicates = Duplicates(bus, duplicate_window)
        self._mutes = Mutes(bus)
        self._configuration = Configuration(bus)
        self._configuration.refresh()
        self._compile()
        self._recorded_version: int | None = None
        self._polled: deque[Record] = deque()
        self._originals: Mapping[Position, Position] = {}
        self._uncommitted = False
        self._consumer = bus.consumer(self.topics, self.name, gained=self._gained, lost=self._drop_partitions)

    @property
    def name(self) -> str:
        """Name of the role, and the group of all routers."""
        return ROUTERS

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics of events."""
        return ("events.*",)

    def step(self, timeout: float) -> None:
        """Routes the events of one poll, or as many of them as one commit may take. Raises BusError."""
        if not self._polled:
            polled = self._consumer.poll(_BATCH, min(timeout, _LONGEST_POLL))
            self._polled.extend(polled.records)
            self._originals = self._duplicates.find_duplicates(polled.records)
            report_gaps(self.name, polled.gaps)
        self._uncommitted = bool(self._polled)
        if self._configuration.refresh():
            self._compile()
        batch = _Batch()
        self._route(batch)
        records = [*self._routing_record(), *batch.records]
        if records or batch.events:
            self._consumer.done(map(_position, batch.events), append=records)
            self._recorded_version = self._configuration.version
        batch.count()
        self._uncommitted = bool(self._polled)

    def busy(self) -> bool:
        """True if events were polled and are not committed."""
        return self._uncommitted

    def _route(self, batch: _Batch) -> None:
        """Routes polled records until the batch is full. A record that cannot be read does not stop the others."""
        match, build, mutes = self._table.match, self._deliveries.build, self._table.mutes
        originals = self._originals
        polled, events, routed = self._polled, batch.events, batch.routed
        while polled and not batch.full:
            record = polled.popleft()
            events.append(record)
            try:
                routing = decode(record)
            except InvalidNotification as error:
                batch.reject(record, str(error))
                continue
            if originals and record.position in originals:
                batch.reject_duplicate(record, originals[record.position])
                continue
            routed.append(record.topic)
            matches = match(routing)
            if matches:
                batch.matched.append(matches)
                unmuted = self._apply_mutes(batch, record, routing, matches) if mutes else matches
                built = build(record, routing.resource_id, unmuted)
                batch.records += built
                batch.size += len(record.value) * len(built)

    def _apply_mutes(
        self, batch: _Batch, record: Record, routing: Routing, matches: Sequence[Match]
    ) -> Sequence[Match]:
        """Returns the matches that are not muted; adds verdicts of the others, and new mutes, to the batch."""
        unmuted: list[Match] = []
        for match in matches:
            muting = self._mutes.find_muting(record, routing, match) if match.mute_for else None
            if muting is not None:
                batch.records += self._deliveries.build_muted(record, routing.resource_id, match, muting)
                batch.muted.append(match)
                continue
            unmuted.append(match)
            if match.mute_for:
                batch.records.append(self._mutes.open_mute(record, routing, match))
        return unmuted

    def _compile(self) -> None:
        configuration = self._configuration
        self._table = Table(configuration.subscriptions.values())
        partitions = self._bus.topics()[DELIVERIES]
        self._deliveries = Deliveries(self._bus.log_id, configuration.version, partitions)
        _log.info(
            "subscriptions in force", version=configuration.version, count=len(configuration.subscriptions)
        )

    def _gained(self, partitions: Sequence[TopicPartition]) -> None:
        """Makes the next commit name the version under which the new partitions are routed."""
        _log.info("partitions gained", partitions=[str(partition) for partition in partitions])
        self._drop_partitions(partitions)
        self._recorded_version = None

    def _drop_partitions(self, partitions: Sequence[TopicPartition]) -> None:
        self._duplicates.drop_partitions(partitions)
        self._mutes.drop_partitions(partitions)

    def _routing_record(self) -> Sequence[NewRecord]:
        """Returns the record for `routing`, unless that topic already has the version of the next commit."""
        version = self._configuration.version
        if version == self._recorded_version:
            return ()
        cursors = self._bus.lag(self.name)
        start = {
            partition: cursors[partition].cursor if partition in cursors else 0
            for partition in sorted(self._consumer.assigned())
        }
        return (routed_record(self._consumer.member, version, start, self._duplicates.window),)


class _Batch:
    """The records to append in one commit, and the counts for the metrics after it."""

    def __init__(self) -> None:
        self.events: list[Record] = []
        self.size = 0
        self.records: list[NewRecord] = []
        self.routed: list[str] = []
        self.matched: list[Sequence[Match]] = []
        self.muted: list[Match] = []
        self.duplicates: list[str] = []
        self.rejected = 0

    @property
    def full(self) -> bool:
        """True if the batch must be committed before more events are routed."""
        return len(self.records) >= _COMMIT_RECORDS or self.size >= _COMMIT_BYTES

    def reject(self, record: Record, reason: str) -> None:
        self._append_rejected(record, reason)
        self.rejected += 1

    def reject_duplicate(self, record: Record, earlier: Position) -> None:
        self._append_rejected(record, f"duplicate of {earlier}")
        self.duplicates.append(record.topic)

    def count(self) -> None:
        for topic, events in Counter(self.routed).items():
            ROUTED.labels(topic).inc(events)
        for name, events in Counter(one.subscription for found in self.matched for one in found).items():
            MATCHED.labels(name).inc(events)
        for target, deliveries in Counter(each.id for one in self.muted for each in one.targets).items():
            VERDICTS.labels(target, VerdictState.MUTED).inc(deliveries)
        for topic, events in Counter(self.duplicates).items():
            DUPLICATES.labels(topic).inc(events)
        if self.rejected:
            REJECTED.labels(ROUTERS).inc(self.rejected)

    def _append_rejected(self, record: Record, reason: str) -> None:
        self.records.append(rejected_record(record.value, reason, f"router {record.position}"))
