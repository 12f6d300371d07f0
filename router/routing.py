"""Records of the topic `routing`: from which position on a router used which version of the subscriptions.

A record is written no later than the first commit of what was routed under its version, so the last record that
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
"""The group of the routers."""

_PARTITION = TopicPartition(ROUTING, 0)
_log = structlog.get_logger()


class Routed(msgspec.Struct, frozen=True):
    """`member` routes under `version` (next offset to read of `subscriptions`) from these offsets on.

    `start`: next offset to be routed, by `topic:partition`; in JSON it is called `from`. `duplicate_window`: seconds, the
    window in which it recognises duplicates; what older routers wrote has none, as they did not.
    """

    member: str
    version: int
    start: Mapping[str, int] = msgspec.field(name="from")
    duplicate_window: float = 0.0

    def covers(self, position: Position) -> bool:
        """Whether the position is one of those that this record speaks of."""
        start = self.start.get(f"{position.topic}:{position.partition}")
        return start is not None and start <= position.offset


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Routed)


def routed_record(
    member: str, version: int, start: Mapping[TopicPartition, int], duplicate_window: float
) -> NewRecord:
    """The record that says so; its key is the member."""
    offsets = {str(partition): offset for partition, offset in start.items()}
    routed = Routed(member, version, offsets, duplicate_window)
    return NewRecord(ROUTING, _encoder.encode(routed), member.encode(), ((FORMAT, FORMAT_VERSION),))


def routed_since(bus: Bus, offset: int = 0) -> Iterator[tuple[int, Routed]]:
    """What the topic says from `offset` on: each with the offset to go on reading from."""
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
