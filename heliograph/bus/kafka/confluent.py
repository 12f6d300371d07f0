"""The cluster through confluent-kafka (librdkafka)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._group import MemberDescription
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic as AdminTopic

from heliograph.bus.base import Extent
from heliograph.bus.kafka import client
from heliograph.bus.kafka.client import NewTopic, PartitionsMoved
from heliograph.bus.kafka.confluent_config import Translation, base_config, producer_config
from heliograph.bus.kafka.confluent_reading import ConfluentMember, ConfluentReader, stored_commits
from heliograph.bus.kafka.errors import Problem
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.record import NewRecord, TopicPartition
from schemas.topics import kind_of

_FINAL = {KafkaError._AUTHENTICATION, 58, 33}  # noqa: SLF001
"""What waiting does not mend."""
_spec: Any = OffsetSpec  # its makers have no types

_EXISTS = 36
_NOT_AUTHORIZED = {29, 31}
_MISSING = {3, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001
_MOVING = {5, 6, 74, 75}
"""Leaders that are being elected, or have just been."""
_NO_GROUP = {69}
_ASK = client.TIMEOUT / 2


class ConfluentConnection:
    """One cluster. `producer` and administration are shared by all threads; members and readers are not."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._translated = Translation(settings)
        self._lock = Lock()
        self._producer: Producer | None = None
        config: dict[str, Any] = {**base_config(settings), "error_cb": self._translated.remember}
        with self._translated():
            self._admin: Any = AdminClient(config)  # its futures have no types

    def check(self) -> None:
        """Ask for the cluster until it answers."""
        deadline = time.monotonic() + client.CONNECT_WITHIN
        while True:
            try:
                self._admin.list_topics(timeout=0.5)
            except KafkaException as error:
                self._admin.poll(0)
                last = self._translated.last
                if time.monotonic() > deadline or (last is not None and last.code() in _FINAL):
                    raise self._translated.error(error.args[0]) from None
            else:
                return

    def append(self, records: Sequence[NewRecord], partitions: Sequence[int]) -> Sequence[int]:
        """Produce all, then wait for the report of each."""
        producer = self._shared_producer()
        reports: dict[tuple[str, int], _Reports] = {}
        sent: list[_Reports] = []
        failures: list[KafkaError] = []
        with self._translated():
            for record, partition in zip(records, partitions, strict=True):
                place = (record.topic, partition)
                report = reports.get(place)
                if report is None:
                    report = reports[place] = _Reports(self._settings.full(record.topic), failures)
                _produce(producer, record, partition, report)
                report.expected += 1
                sent.append(report)
            self._await(producer, reports.values())
        if failures:
            self._dismiss(producer, failures)
            raise self._translated.error(failures[0])
        return [report.take() for report in sent]

    def _await(self, producer: Producer, reports: Iterable[_Reports]) -> None:
        deadline = time.monotonic() + client.TIMEOUT * 1.5
        for report in reports:
            while report.reported < report.expected:
                producer.flush(0.01)
                if time.monotonic() > deadline:
                    raise Problem.SILENT.error(self._settings.shown, "no report of delivery")

    def _shared_producer(self) -> Producer:
        with self._lock:
            if self._producer is None:
                config = producer_config(self._settings)
                self._producer = Producer({**config, "error_cb": self._translated.remember})
            return self._producer

    def _dismiss(self, producer: Producer, failures: Sequence[KafkaError]) -> None:
        """A producer that failed for good is made anew by the next append."""
        if any(failure.fatal() for failure in failures):
            with self._lock:
                if self._producer is producer:
                    self._producer = None

    def member(
        self, topics: Sequence[str], group: str, name: str, gained: PartitionsMoved, lost: PartitionsMoved
    ) -> ConfluentMember:
        """Join a group."""
        with self._translated():
            return ConfluentMember(self._settings, topics, group, name, gained, lost)

    def reader(self) -> ConfluentReader:
        """A consumer that joins no group."""
        with self._translated():
            return ConfluentReader(self._settings)

    def topics(self) -> Mapping[str, int]:
        """From the cluster's metadata."""
        with self._translated():
            listed = self._admin.list_topics(timeout=client.TIMEOUT).topics
        found = {self._settings.short(name): len(topic.partitions) for name, topic in listed.items()}
        return {name: count for name, count in found.items() if name is not None}

    def create(self, topic: NewTopic) -> None:
        """Make it, and wait until the broker shows it."""
        wanted = AdminTopic(
            self._settings.full(topic.name),
            num_partitions=topic.partitions,
            replication_factor=topic.replication,
            config=dict(topic.configs),
        )
        asked = self._admin.create_topics([wanted], operation_timeout=_ASK, request_timeout=client.TIMEOUT)
        try:
            asked[wanted.topic].result(client.TIMEOUT * 1.5)
        except KafkaException as error:
            code = error.args[0].code()
            if code in _NOT_AUTHORIZED:
                raise Problem.NOT_CREATED.error(self._settings.shown, topic.name) from None
            if code != _EXISTS:
                raise self._translated.error(error.args[0]) from None

    def extents(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Extent]:
        """Two questions for all partitions together, asked at once."""
        asked = [self._ask(partitions, spec) for spec in (_spec.earliest(), _spec.latest())]
        starts = self._offsets(partitions, _spec.earliest(), asked[0])
        ends = self._offsets(partitions, _spec.latest(), asked[1])
        return {each: Extent(starts[each], ends[each]) for each in partitions if each in starts.keys() & ends}

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """By the log's index of times."""
        spec = _spec.for_timestamp(timestamp)
        found = self._offsets([partition], spec, self._ask([partition], spec)).get(partition, -1)
        return None if found < 0 else found

    def _ask(self, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> Mapping[Place, Any]:
        """Futures of offsets."""
        places = {Place(self._settings.full(topic), number): spec for topic, number in partitions}
        if not places:
            return {}
        asked: Mapping[Place, Any] = self._admin.list_offsets(
            places, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=client.TIMEOUT
        )
        return asked

    def _offsets(
        self, partitions: Sequence[TopicPartition], spec: OffsetSpec, asked: Mapping[Place, Any]
    ) -> dict[TopicPartition, int]:
        """What was asked for; where a leader is just being elected it is asked again."""
        found: dict[TopicPartition, int] = {}
        left = set(partitions)
        deadline = time.monotonic() + client.TIMEOUT
        while left:
            moving = _MOVING if time.monotonic() < deadline else frozenset[int]()
            for place, future in asked.items():
                partition = TopicPartition(self._settings.short(place.topic) or "", place.partition)
                with self._translated(_MISSING | moving):
                    error = future.exception()
                    if error is None or error.args[0].code() not in moving:
                        left.discard(partition)
                    found[partition] = future.result().offset
            if left:
                time.sleep(0.02)
                asked = self._ask(sorted(left), spec)
        return found

    def groups(self) -> Sequence[str]:
        """Groups of the namespace, also those of other programs in it."""
        with self._translated():
            listed = self._admin.list_consumer_groups(request_timeout=client.TIMEOUT).result()
        names = (self._settings.short(each.group_id) for each in listed.valid)
        return sorted(name for name in names if name is not None)

    def commits(self, group: str) -> Mapping[TopicPartition, int]:
        """Every cursor of the group."""
        name = self._settings.full(group)
        found: list[Place] = []
        with self._translated(_NO_GROUP):
            asked = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(name)], request_timeout=client.TIMEOUT
            )
            found = asked[name].result().topic_partitions
        return {partition: commit.offset for partition, commit in stored_commits(self._settings, found)}

    def members(self, group: str) -> frozenset[str]:
        """Client ids, as the coordinator knows them."""
        name = self._settings.full(group)
        members: list[MemberDescription] = []
        with self._translated(_NO_GROUP):
            asked = self._admin.describe_consumer_groups([name], request_timeout=client.TIMEOUT)
            members = asked[name].result().members
        return frozenset(member.client_id for member in members)

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """One request; a partition that is gone meanwhile is nothing to tell."""
        places = [Place(self._settings.full(each.topic), each.partition, at) for each, at in offsets.items()]
        if not places:
            return
        for future in self._admin.delete_records(places, request_timeout=client.TIMEOUT).values():
            with self._translated(_MISSING):
                future.result()

    def close(self) -> None:
        """Appends have been waited for, so that nothing is lost."""
        with self._lock:
            if self._producer is not None:
                self._producer.flush(1.0)
            self._producer = None


class _Reports:
    """What became of the records of one append for one partition: reports come in the order of the records."""

    __slots__ = ("_failures", "_offsets", "_taken", "expected", "reported", "topic")

    def __init__(self, topic: str, failures: list[KafkaError]) -> None:
        self.topic = topic
        self.expected = self.reported = self._taken = 0
        self._offsets: list[int] = []
        self._failures = failures

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._offsets.append(message.offset() or 0)
        else:
            self._failures.append(error)
        self.reported += 1

    def take(self) -> int:
        """The next record's offset."""
        self._taken += 1
        return self._offsets[self._taken - 1]


def _produce(producer: Producer, record: NewRecord, partition: int, report: _Reports) -> None:
    value: bytes | None = record.value
    if not value and kind_of(record.topic).compacted:
        value = None  # nothing for a key is what removes it from a compacted topic
    while True:
        try:
            producer.produce(
                report.topic,
                value,
                record.key,
                partition,
                on_delivery=report,
                headers=list(record.headers) if record.headers else None,
            )
        except BufferError:
            producer.poll(0.05)
        else:
            return
