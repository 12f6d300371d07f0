"""Execution records: reads them from topic and archive, counts them, delivers earlier ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice

import msgspec

from heliograph.bus.base import Bus
from heliograph.bus.reading import read_topic
from heliograph.operations.history import archived_only
from heliograph.store.base import ObjectStore
from router.configuration import Configuration
from router.deliveries import RecordDeliveries
from schemas.delivery_settings import DeliverySettings
from schemas.errors import InvalidExecution
from schemas.execution import ExecutionRecord, Key, check_execution
from schemas.record import Record
from schemas.topics import DELIVERIES, EXECUTIONS

_BATCH = 200


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Selects records; an empty field selects all. `since`: milliseconds since the epoch, by the time of the append."""

    invoke_id: str = ""
    instance_id: str = ""
    region: str = ""
    since: int | None = None

    def may_match(self, value: bytes) -> bool:
        """True if a record's bytes may match: a cheap test before they are decoded, which allows for JSON's escapes."""
        needles = (self.invoke_id, self.instance_id, self.region)
        return b"\\u" in value or all(needle.encode(errors="surrogateescape") in value for needle in needles)

    def matches(self, record: ExecutionRecord) -> bool:
        """True if the record matches."""
        return (
            self.invoke_id in {"", record.invoke_id}
            and self.instance_id in {"", record.instance_id}
            and self.region in {"", record.region_id}
        )


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """An execution record, and the record that holds it. `log_id`: id of the bus to which its position belongs."""

    execution: ExecutionRecord
    record: Record
    log_id: str


def read_records(bus: Bus, archive: ObjectStore, wanted: RecordFilter) -> list[FoundRecord]:
    """Reads one record of each (InvokeId, InstanceId, Repeats), in the order of the runs: the first final record, or
    the last record if none is final. Records that the topic no longer holds come from the archive.

    Raises BusError, StoreError.
    """
    found: dict[Key, FoundRecord] = {}
    for one in read_all_records(bus, archive, wanted):
        known = found.get(one.execution.key)
        if known is None or not known.execution.invocation_status.final:
            found[one.execution.key] = one
    return sorted(found.values(), key=_place)


def read_all_records(bus: Bus, archive: ObjectStore, wanted: RecordFilter) -> Iterator[FoundRecord]:
    """Yields every matching record, those of progress and repeats included; skips records that are not execution
    records."""
    since = wanted.since or 0
    archived = archived_only(bus, archive, EXECUTIONS, since)
    for log_id, record in chain(
        ((segment.read_header().log_id, record) for segment, record in archived),
        ((bus.log_id, record) for record in read_topic(bus, EXECUTIONS, since)),
    ):
        if wanted.may_match(record.value):
            try:
                execution = check_execution(record.value)
            except InvalidExecution:
                continue
            if wanted.matches(execution):
                yield FoundRecord(execution, record, log_id)


def deliver_since(bus: Bus, archive: ObjectStore, settings: DeliverySettings, since: int) -> int:
    """Appends the deliveries of a region's final records since a time; returns the number of records.

    Call it after the settings are in force: the router builds the deliveries of later records. If both build a delivery
    of the same record, both have the same id, and the target stores the record once.
    """
    bus.create(DELIVERIES)
    configuration = Configuration(bus)
    configuration.refresh()
    deliveries = RecordDeliveries(bus, configuration.version)
    final = (
        found
        for found in read_all_records(bus, archive, RecordFilter(region=settings.region, since=since))
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
    """Counts the records of each region in the topic `executions`, those of progress and repeats included."""
    counts = Counter[str]()
    for record in read_topic(bus, EXECUTIONS):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            counts[_decode_region(record.value).region_id] += 1
    return counts


_decode_region = msgspec.json.Decoder(_Regional).decode


def _place(found: FoundRecord) -> tuple[str, Key]:
    return found.execution.creation_time, found.execution.key
