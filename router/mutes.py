"""Mutes of subscriptions with `mute_for`: after a delivered event, others like it are not delivered for some time.

A delivered event opens a mute for its subscription, name, resource and level. Until the mute has passed, by the
timestamps of the events, others like it are muted. An event opens a mute or not depending on all events before it, so
open mutes are records of the topic `mutes`, appended in the commit of the events that opened them. All mutes of one
partition of events lie in one partition of `mutes`. A router that gains a partition reads its open mutes before its
first event, and so decides as the router before it (docs/decisions/0012-duplicates-and-mutes.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import structlog

from heliograph.bus.base import Bus
from heliograph.bus.partition import partition_for
from router.match.index import Match
from router.recent import Recent
from schemas.errors import InputError
from schemas.notification import Routing
from schemas.record import FORMAT, FORMAT_VERSION, NewRecord, Position, Record, TopicPartition
from schemas.subscription import LONGEST_MUTE
from schemas.topics import MUTES

_SPAN = round(LONGEST_MUTE * 1000)
_CLOCKS_DIFFER = 3_600_000
"""Milliseconds by which the timestamp of a mute may be earlier than that of the event that opened it: on a cluster, two
machines set them."""
REMEMBERED = 100_000
"""Least number of open mutes of a partition that are remembered.

When the oldest are dropped, events like them are delivered.
"""

_Kind = tuple[str, str, str, str]
_log = structlog.get_logger()


class OpenMute(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A mute of `subscription` for events of one name, resource and level, opened by the event at `source`.

    `at`: timestamp of that event, milliseconds since the epoch.
    """

    subscription: str
    name: str
    resource: str
    level: str
    source: str
    at: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(OpenMute)
_Opened = Recent[_Kind, tuple[int, int]]


class Mutes:
    """The open mutes of the partitions that this router reads. Belongs to one thread."""

    def __init__(self, bus: Bus) -> None:
        bus.create(MUTES)
        self._bus = bus
        self._partitions = bus.topics()[MUTES]
        self._opened: dict[tuple[str, int], _Opened] = {}

    def find_muting(self, record: Record, routing: Routing, match: Match) -> Position | None:
        """Returns the event that mutes this one for the subscription, None if it is not muted.

        Raises BusUnavailable.
        """
        partition = (record.topic, record.partition)
        opened = self._opened.get(partition)
        if opened is None:
            opened = self._opened[partition] = self._read_open(record)
        found = opened.get(_kind(routing, match))
        if found is None:
            return None
        offset, at = found
        return Position(*partition, offset) if abs(record.timestamp - at) < match.mute_for else None

    def open_mute(self, record: Record, routing: Routing, match: Match) -> NewRecord:
        """Opens a mute for an event that is delivered; returns its record."""
        kind = _kind(routing, match)
        partition = TopicPartition(record.topic, record.partition)
        self._opened[partition].put(kind, (record.offset, record.timestamp), record.timestamp)
        value = _encoder.encode(_open_mute(kind, record))
        return NewRecord(MUTES, value, _key(partition), ((FORMAT, FORMAT_VERSION),))

    def drop_partitions(self, partitions: Iterable[TopicPartition]) -> None:
        """Forgets partitions that were assigned or revoked: another router may have read records in between."""
        for partition in partitions:
            self._opened.pop(partition, None)

    def _read_open(self, record: Record) -> _Opened:
        """Reads the mutes that were opened before a record.

        Mutes of later events come from a commit that failed, and those events are routed again.
        """
        partition = TopicPartition(record.topic, record.partition)
        found: dict[_Kind, tuple[int, int]] = {}
        for mute, source in self._read(partition, record.timestamp - _SPAN - _CLOCKS_DIFFER):
            if source.topic_partition == partition and source.offset < record.offset:
                kind = (mute.subscription, mute.name, mute.resource, mute.level)
                found[kind] = max(found.get(kind, (-1, 0)), (source.offset, mute.at))
        opened = _Opened(_SPAN, REMEMBERED)
        for kind, (offset, at) in sorted(found.items(), key=lambda one: one[1]):
            opened.put(kind, (offset, at), at)
        return opened

    def _read(self, partition: TopicPartition, since: int) -> Iterator[tuple[OpenMute, Position]]:
        """Yields the mutes in the partition of `mutes` that belongs to a partition of events."""
        place = TopicPartition(MUTES, partition_for(_key(partition), self._partitions))
        offset = self._bus.offset_at(place, since)
        while records := self._bus.read(place, offset).records:
            for record in records:
                try:
                    mute = _decoder.decode(record.value)
                    yield mute, Position.parse(mute.source)
                except (msgspec.MsgspecError, RecursionError, InputError) as error:
                    _log.error("mute unreadable", position=str(record.position), error=str(error))
            offset = records[-1].offset + 1


def _key(partition: TopicPartition) -> bytes:
    return str(partition).encode()


def _open_mute(kind: _Kind, record: Record) -> OpenMute:
    subscription, name, resource, level = kind
    return OpenMute(
        subscription=subscription,
        name=name,
        resource=resource,
        level=level,
        source=str(record.position),
        at=record.timestamp,
    )


def _kind(routing: Routing, match: Match) -> _Kind:
    return match.subscription, routing.name, routing.resource_id, routing.level
