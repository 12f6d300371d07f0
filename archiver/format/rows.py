"""Converts archived records to rows, with the columns that queries read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from archiver.format.canonical import HeaderBytes
from archiver.format.parquet import Columns
from schemas.errors import InvalidNotification
from schemas.notification import Routing, read_routing
from schemas.record import Record
from schemas.topics import DEAD_LETTERS, EVENTS

_ROUTED = ("product", "name", "level", "resourceId", "regionId", "userId", "id")
RECORDS: Columns = {
    "time": "TIMESTAMP",
    "topic": "VARCHAR",
    "partition": "INTEGER",
    "epoch": "INTEGER",
    "offset": "BIGINT",
    "key": "BLOB",
    "headers": "MAP(VARCHAR, BLOB)",
    "value": "BLOB",
    **dict.fromkeys(_ROUTED, "VARCHAR"),
}
"""Columns that queries read. `time` is UTC; of headers with the same name the first is kept; the fields of an event are
null for other records."""
COMPACTED: Columns = {**RECORDS, "canonical_headers": "BLOB"}
"""Columns of compacted files: also the headers in canonical form (`archiver.format.canonical`), since a mapping cannot
hold two headers of one name."""


def record_row(record: Record, epoch: int) -> tuple[Any, ...]:
    """Returns a record in the columns of RECORDS."""
    routing = _routing(record.value) if _holds_event(record.topic) else None
    return (
        record.timestamp,
        record.topic,
        record.partition,
        epoch,
        record.offset,
        record.key,
        dict(reversed(record.headers)),
        record.value,
        *(_NOT_ROUTED if routing is None else _routed(routing)),
    )


def compacted_row(record: Record, epoch: int, headers: HeaderBytes) -> Sequence[Any]:
    """Returns a record in the columns of COMPACTED."""
    return (*record_row(record, epoch), headers[record.headers])


_NOT_ROUTED: Final = (None,) * len(_ROUTED)


def _holds_event(topic: str) -> bool:
    return topic.startswith(EVENTS) or topic == DEAD_LETTERS


def _routed(routing: Routing) -> Sequence[str]:
    return (
        routing.product,
        routing.name,
        routing.level,
        routing.resource_id,
        routing.region_id,
        routing.user_id,
        routing.id,
    )


def _routing(value: bytes) -> Routing | None:
    if not value:
        return None
    try:
        return read_routing(value)
    except InvalidNotification:
        return None
