"""`KafkaBus`: the seam of the bus over a Kafka cluster."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from itertools import count
from threading import Lock

from heliograph.bus.admission import check_sizes, check_topic
from heliograph.bus.base import Extent, Lag, PartitionsChanged, Polled
from heliograph.bus.kafka.client import TIMEOUT, Connection, NewTopic
from heliograph.bus.kafka.consumer import KafkaConsumer
from heliograph.bus.kafka.layout import new_topic
from heliograph.bus.kafka.partitions import Reader
from heliograph.bus.kafka.settings import LOG_TOPIC, KafkaSettings
from heliograph.bus.partition import place
from schemas.clock import Clock, SystemClock
from schemas.errors import BusUnavailable, TopicMissing
from schemas.record import NewRecord, Position, TopicPartition
from schemas.topics import kind_of

_TRUSTED = 30.0
"""Seconds for which the known topics and their numbers of partitions are trusted."""


class KafkaBus:
    """A bus on the cluster that `connection` reaches.

    `partitions`: of a topic that says nothing else. `retention`: seconds, after which the broker removes records even if
    no group has read them; None keeps everything. Raises BusUnavailable.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        connection: Connection,
        *,
        partitions: int = 12,
        retention: float | None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._partitions = partitions
        self._retention = retention
        self._clock = clock or SystemClock()
        self._topics: dict[str, int] = {}
        self._trusted_until = 0.0
        self._asked_at = 0.0
        self._turn = count()
        self._reader = Reader(connection)
        self._lock = Lock()
        connection.check()
        self._log_id = self._read_log_id()

    @property
    def log_id(self) -> str:
        """Identity of the topics: the first record of the topic `LOG_TOPIC`."""
        return self._log_id

    def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Appends; if it fails, some records may have been appended."""
        if not records:
            return ()
        check_sizes(records)
        partitions = self._place(records)
        try:
            offsets = self._connection.append(records, partitions)
        except (BusUnavailable, TopicMissing):
            self._trusted_until = 0.0  # the topic may be gone, or have fewer partitions now
            raise
        return [
            Position(record.topic, partition, offset)
            for record, partition, offset in zip(records, partitions, offsets, strict=True)
        ]

    def consumer(
        self,
        topics: Sequence[str],
        group: str,
        *,
        gained: PartitionsChanged | None = None,
        lost: PartitionsChanged | None = None,
    ) -> KafkaConsumer:
        """Joins a group; the new member's share comes with its next polls."""
        name = f"{group}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        return KafkaConsumer(
            self._connection,
            append=self.append,
            clock=self._clock,
            join=lambda gain, lose: self._connection.member(topics, group, name, gained=gain, lost=lose),
            name=name,
            gained=gained,
            lost=lost,
        )

    def read(self, partition: TopicPartition, offset: int, limit: int = 5000) -> Polled:
        """Reads records outside any group; nothing of a partition that does not exist."""
        extent = self._extent(partition)
        return self._reader.read(partition, offset, limit, extent) if extent is not None else Polled()

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """Finds the first offset whose record is not older than `timestamp` (milliseconds)."""
        extent = self._extent(partition)
        if extent is None:
            return 0
        found = self._connection.offset_at(partition, timestamp)
        return extent.end if found is None else found

    def create(self, topic: str, partitions: int | None = None) -> None:
        """Creates a topic and waits until it is usable. Raises TopicMissing if that is not permitted."""
        check_topic(topic)
        if topic not in self._known(fresh=True):
            self._create(self._new_topic(topic, partitions))

    def topics(self) -> Mapping[str, int]:
        """Lists every topic with its number of partitions."""
        known = self._known(fresh=True)
        return {topic: partitions for topic, partitions in known.items() if topic != LOG_TOPIC}

    def extents(self, topic: str) -> Mapping[TopicPartition, Extent]:
        """Returns the extent of each partition of a topic."""
        partitions = self._known(fresh=True).get(topic, 0)
        return self._connection.extents([TopicPartition(topic, number) for number in range(partitions)])

    def lag(self, group: str) -> Mapping[TopicPartition, Lag]:
        """Returns cursor and end of each partition that the group has a cursor for."""
        commits = self._connection.commits(group)
        extents = self._connection.extents(list(commits))
        return {
            partition: Lag(cursor, extents[partition].end)
            for partition, cursor in commits.items()
            if partition in extents
        }

    def groups(self) -> Sequence[str]:
        """Lists every group that has a cursor."""
        return [group for group in self._connection.groups() if self._connection.commits(group)]

    def members(self, group: str) -> frozenset[str]:
        """Lists the members that the broker counts as live, by their session time-out."""
        return self._connection.members(group)

    def maintain(self) -> None:
        """Removes old records that every known group has finished, in topics that are kept until consumed. The broker itself
        keeps to the settings of all other topics."""
        if self._retention is None:
            return
        oldest = self._clock.now() - round(self._retention * 1000)
        lowest: dict[TopicPartition, int] = {}
        for group in self._connection.groups():
            for partition, cursor in self._connection.commits(group).items():
                if kind_of(partition.topic).until_consumed:
                    lowest[partition] = min(cursor, lowest.get(partition, cursor))
        starts = self._connection.extents(list(lowest))
        unwanted = {
            each: min(at, self.offset_at(each, oldest))
            for each, at in lowest.items()
            if each in starts and starts[each].start < at
        }
        self._connection.delete_before({each: at for each, at in unwanted.items() if starts[each].start < at})

    def close(self) -> None:
        """Closes all connections."""
        self._reader.close()
        self._connection.close()

    def _read_log_id(self) -> str:
        """Reads the log id, after writing one if the topic is empty. Of several writers the first record counts."""
        partition = TopicPartition(LOG_TOPIC, 0)
        extent = self._extent(partition)
        if extent is None or extent.end == 0:
            self.append([NewRecord(LOG_TOPIC, uuid.uuid4().hex.encode(), partition=0)])
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            for record in self.read(partition, 0, 1).records:
                return record.value.decode()
        raise BusUnavailable(f"{self._settings.shown}: the log id cannot be read from topic {LOG_TOPIC}")

    def _extent(self, partition: TopicPartition) -> Extent | None:
        if not 0 <= partition.partition < self._known().get(partition.topic, 0):
            return None
        return self._connection.extents([partition]).get(partition)

    def _known(self, *, fresh: bool = False) -> Mapping[str, int]:
        """Returns topics and their numbers of partitions, at most `_TRUSTED` seconds old."""
        if fresh or time.monotonic() >= self._trusted_until:
            asked_at = time.monotonic()
            topics = dict(self._connection.topics())
            with self._lock:
                if (
                    asked_at >= self._asked_at
                ):  # else another thread asked later, perhaps for a topic that it created
                    self._topics, self._asked_at = topics, asked_at
                    self._trusted_until = time.monotonic() + _TRUSTED
        return self._topics

    def _place(self, records: Sequence[NewRecord]) -> Sequence[int]:
        """Chooses a partition for each record, and creates missing topics. Records without a key go to one partition for each
        batch."""
        counts = self._counts({record.topic for record in records})
        turn = next(self._turn)
        return [place(record, counts[record.topic], turn) for record in records]

    def _counts(self, topics: set[str]) -> Mapping[str, int]:
        for topic in topics:
            check_topic(topic)
        known = self._known()
        if not topics <= known.keys():
            known = self._known(fresh=True)
        missing = [self._new_topic(topic) for topic in sorted(topics - known.keys())]
        for wanted in missing:
            self._create(wanted)
        return known if not missing else self._known()

    def _new_topic(self, topic: str, partitions: int | None = None) -> NewTopic:
        return new_topic(
            self._settings, topic, partitions=self._partitions, retention=self._retention, wanted=partitions
        )

    def _create(self, topic: NewTopic) -> None:
        """Creates a topic and waits until its partitions have leaders."""
        self._connection.create(topic)
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            partitions = self._known(fresh=True).get(topic.name, 0)
            places = [TopicPartition(topic.name, number) for number in range(partitions)]
            if places and len(self._connection.extents(places)) == partitions:
                return
            time.sleep(0.02)
        raise BusUnavailable(
            f"{self._settings.shown}: topic {topic.name} was created, but is not visible after {TIMEOUT:.0f} s; see the broker's log"
        )
