"""Execution records, read from topic and archive alike, and delivered after the fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_topic
from heliograph.operations.delivery_settings import current
from heliograph.operations.history import archived_only
from heliograph.store.base import ObjectStore
from router.deliveries import RecordDeliveries
from schemas.delivery_settings import DeliverySettings
from schemas.errors import InvalidExecution
from schemas.execution import ExecutionRecord, Key, check_execution
from schemas.record import Record
from schemas.topics import DELIVERIES, EXECUTIONS

_BATCH = 200


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records; what is empty wants all. `since`: milliseconds since the epoch, when the log took a record."""

    invoke_id: str = ""
    instance_id: str = ""
    region: str = ""
    since: int | None = None

    def may_be(self, value: bytes) -> bool:
        """Whether a record's bytes may hold what is wanted, if only behind JSON's escapes, before they are read."""
        needles = (self.invoke_id, self.instance_id, self.region)
        return b"\\u" in value or all(needle.encode(errors="surrogateescape") in value for needle in needles)

    def takes(self, record: ExecutionRecord) -> bool:
        """Whether the record is one."""
        return (
            self.invoke_id in {"", record.invoke_id}
            and self.instance_id in {"", record.instance_id}
            and self.region in {"", record.region_id}
        )


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record, and the record of the topic that holds it. `log_id`: of the log that its position is of."""

    execution: ExecutionRecord
    record: Record
    log_id: str


def read_records(bus: Bus, archive: ObjectStore, wanted: RecordFilter) -> list[FoundRecord]:
    """One record of each (InvokeId, InstanceId, Repeats), in the order in which the runs were made: the first final
    one, while there is none the last. What the log no longer has comes from the archive.

    Raises BusError, StoreError.
    """
    found: dict[Key, FoundRecord] = {}
    for one in each_record(bus, archive, wanted):
        known = found.get(one.execution.key)
        if known is None or not known.execution.invocation_status.final:
            found[one.execution.key] = one
    return sorted(found.values(), key=_place)


def each_record(bus: Bus, archive: ObjectStore, wanted: RecordFilter) -> Iterator[FoundRecord]:
    """Every record that is wanted, progress and repeats too; what is no execution record is left out."""
    since = wanted.since or 0
    archived = archived_only(bus, archive, EXECUTIONS, since)
    for log_id, record in chain(
        ((segment.read_header().log_id, record) for segment, record in archived),
        ((bus.log_id, record) for record in read_topic(bus, EXECUTIONS, since)),
    ):
        if wanted.may_be(record.value):
            try:
                execution = check_execution(record.value)
            except InvalidExecution:
                continue
            if wanted.takes(execution):
                yield FoundRecord(execution, record, log_id)


def deliver_since(bus: Bus, archive: ObjectStore, settings: DeliverySettings, since: int) -> int:
    """Make the deliveries of a region's final records since a time; returns of how many records.

    To be called once the settings are in force: the router makes those of what comes from then on. One that is made
    twice has the same id, and finds its own object.
    """
    bus.create(DELIVERIES)
    deliveries = RecordDeliveries(bus, current(bus).version)
    final = (
        found
        for found in each_record(bus, archive, RecordFilter(region=settings.region, since=since))
        if found.execution.invocation_status.final
    )
    count = 0
    while batch := list(islice(final, _BATCH)):
        bus.append(
            [
                new
                for one in batch
                for new in deliveries.build(one.record, one.execution, settings, one.log_id)
            ]
        )
        count += len(batch)
    return count


class _Regional(msgspec.Struct, gc=False, rename="pascal"):
    region_id: str


def count_regions(bus: Bus) -> Counter[str]:
    """How many records the topic holds of each region, progress and repeats too."""
    counts = Counter[str]()
    for record in read_topic(bus, EXECUTIONS):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            counts[_decode_region(record.value).region_id] += 1
    return counts


_decode_region = msgspec.json.Decoder(_Regional).decode


def _place(found: FoundRecord) -> tuple[str, Key]:
    return found.execution.creation_time, found.execution.key
