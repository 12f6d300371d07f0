"""Mutes: what a subscription with `mute_for` does not get again, because an event like it went out shortly before.

An event that goes out opens a mute for its subscription, name, resource and level; until it is over, by the log's times
of the events, others like it are muted. Whether an event opened one depends on all that came before it, so openers are
kept in a topic, `mutes`, appended in the commit of the events that opened them. Those of one partition of events lie in
one partition there. Who gains a partition reads the openers before its first event, and so decides what it routes as
whoever read it before (docs/decisions/0012-duplicates-and-mutes.md).
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
"""Milliseconds by which the log's time of an opener may lie before the time of the event that opened it: on a cluster
each is the time of another machine."""
REMEMBERED = 100_000
"""Openers of a partition that are remembered at least; the oldest are forgotten, and events like them go out again."""

_Kind = tuple[str, str, str, str]
_log = structlog.get_logger()


class Opener(msgspec.Struct, frozen=True, gc=False):
    """The event at `source` went out to `subscription`, and mutes others of its name, resource and level. `at`: the
    log's time of the event, milliseconds since the epoch."""

    subscription: str
    name: str
    resource: str
    level: str
    source: str
    at: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Opener)
_Opened = Recent[_Kind, tuple[int, int]]


class Mutes:
    """The openers of the partitions that are read here: offset and time of each. Belongs to one thread."""

    def __init__(self, bus: Bus) -> None:
        bus.create(MUTES)
        self._bus = bus
        self._partitions = bus.topics()[MUTES]
        self._opened: dict[tuple[str, int], _Opened] = {}

    def opener(self, record: Record, routing: Routing, match: Match) -> Position | None:
        """The event that mutes this one for the subscription; None if it goes out. Raises BusUnavailable."""
        partition = (record.topic, record.partition)
        opened = self._opened.get(partition)
        if opened is None:
            opened = self._opened[partition] = self._before(record)
        found = opened.get(_kind(routing, match))
        if found is None:
            return None
        offset, at = found
        return Position(*partition, offset) if abs(record.timestamp - at) < match.mute_for else None

    def open(self, record: Record, routing: Routing, match: Match) -> NewRecord:
        """Remember an event that goes out, in memory and by the record that is returned."""
        kind = _kind(routing, match)
        partition = TopicPartition(record.topic, record.partition)
        self._opened[partition].put(kind, (record.offset, record.timestamp), record.timestamp)
        value = _encoder.encode(Opener(*kind, str(record.position), record.timestamp))
        return NewRecord(MUTES, value, _key(partition), ((FORMAT, FORMAT_VERSION),))

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """What is known of partitions that come or go: others may have read what lies between."""
        for partition in partitions:
            self._opened.pop(partition, None)

    def _before(self, record: Record) -> _Opened:
        """The openers before a record. Those from there on were written by somebody whose commit failed, and are
        decided again."""
        partition = TopicPartition(record.topic, record.partition)
        found: dict[_Kind, tuple[int, int]] = {}
        for opener, source in self._kept(partition, record.timestamp - _SPAN - _CLOCKS_DIFFER):
            if source.topic_partition == partition and source.offset < record.offset:
                kind = (opener.subscription, opener.name, opener.resource, opener.level)
                found[kind] = max(found.get(kind, (-1, 0)), (source.offset, opener.at))
        opened = _Opened(_SPAN, REMEMBERED)
        for kind, (offset, at) in sorted(found.items(), key=lambda one: one[1]):
            opened.put(kind, (offset, at), at)
        return opened

    def _kept(self, partition: TopicPartition, since: int) -> Iterator[tuple[Opener, Position]]:
        """What lies in the topic where a partition's openers are."""
        place = TopicPartition(MUTES, partition_for(_key(partition), self._partitions))
        offset = self._bus.offset_at(place, since)
        while records := self._bus.read(place, offset).records:
            for record in records:
                try:
                    opener = _decoder.decode(record.value)
                    yield opener, Position.parse(opener.source)
                except (msgspec.MsgspecError, RecursionError, InputError) as error:
                    _log.error("opener unreadable", position=str(record.position), error=str(error))
            offset = records[-1].offset + 1


def _key(partition: TopicPartition) -> bytes:
    return str(partition).encode()


def _kind(routing: Routing, match: Match) -> _Kind:
    return match.subscription, routing.name, routing.resource_id, routing.level
