"""Records of the topic `routing`: each says which version of the subscriptions a router uses, and from which positions
on.

A record is written no later than the first commit of events that were routed under its version, so the last record that
covers a position names the version that the position was routed under.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import structlog

from heliograph.bus.base import Bus
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Position, Record, TopicPartition
from schemas.topics import ROUTING

ROUTERS = "router"
"""Consumer group of the routers."""

_PARTITION = TopicPartition(ROUTING, 0)
_log = structlog.get_logger()


class Routed(msgspec.Struct, frozen=True):
    """A record of `routing`: `member` uses `version` of the subscriptions from the offsets `start` on.

    `version`: next offset to read of `subscriptions`. `start`: next offset to route, by `topic:partition`; `from` in
    JSON. `duplicate_window`: seconds; missing in the records of older routers, which did not look for duplicates.
    """

    member: str
    version: int
    start: Mapping[str, int] = msgspec.field(name="from")
    duplicate_window: float = 0.0

    def covers(self, position: Position) -> bool:
        """Returns True if the record says how the position was routed."""
        start = self.start.get(f"{position.topic}:{position.partition}")
        return start is not None and start <= position.offset


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Routed)


def routed_record(
    member: str, version: int, start: Mapping[TopicPartition, int], duplicate_window: float
) -> NewRecord:
    """Returns the record that says which version a member uses; its key is the member."""
    offsets = {str(partition): offset for partition, offset in start.items()}
    routed = Routed(member, version, offsets, duplicate_window)
    return NewRecord(ROUTING, _encoder.encode(routed), member.encode(), ((FORMAT, FORMAT_VERSION),))


def read_routed(bus: Bus, offset: int = 0) -> Iterator[tuple[int, Routed]]:
    """Reads the topic from `offset` on; yields each record with the next offset to read."""
    while True:
        records = bus.read(_PARTITION, offset).records
        if not records:
            return
        for record in records:
            offset = record.offset + 1
            routed = _read(record)
            if routed is not None:
                yield offset, routed


def _read(record: Record) -> Routed | None:
    try:
        return _decoder.decode(record.value)
    except (msgspec.MsgspecError, RecursionError) as error:
        _log.error("routing record unreadable", position=str(record.position), error=str(error))
        return None
