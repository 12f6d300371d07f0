"""The cluster through confluent-kafka (librdkafka)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib import import_module
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

from heliograph.bus.base import Extent
from heliograph.bus.kafka import client
from heliograph.bus.kafka.client import NewTopic, PartitionsMoved
from heliograph.bus.kafka.confluent_config import Translation, base_config, producer_config
from heliograph.bus.kafka.confluent_reading import ConfluentMember, ConfluentReader, stored_commits
from heliograph.bus.kafka.errors import MISSING, NOT_AUTHORIZED_TO_CREATE, UNDELETABLE_GROUP, Code, Problem
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.record import NewRecord, TopicPartition
from schemas.topics import kind_of

_library: Any = import_module("confluent_kafka.admin")
"""The administration module, untyped: it is public, but does not export its names for type checkers."""
_spec = _library.OffsetSpec

_FINAL = {Code.AUTHENTICATION, Code.SASL_AUTHENTICATION_FAILED, Code.UNSUPPORTED_SASL_MECHANISM}
"""Errors of a connection that no waiting mends."""
_MOVING = {
    Code.LEADER_NOT_AVAILABLE,
    Code.NOT_LEADER_OR_FOLLOWER,
    Code.FENCED_LEADER_EPOCH,
    Code.UNKNOWN_LEADER_EPOCH,
}
"""Errors of a partition whose leader is being elected, or has just been."""
_ON_BROKER = client.TIMEOUT / 2
"""Seconds that a broker may take for a change to reach the cluster."""


class ConfluentConnection:
    """One cluster. The producer and the administration client are shared by all threads; members and readers are not."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._translated = Translation(settings)
        self._lock = Lock()
        self._producer: Producer | None = None
        config: dict[str, Any] = {**base_config(settings), "error_cb": self._translated.remember}
        with self._translated():
            self._admin = _library.AdminClient(config)

    def check(self) -> None:
        """Asks for the cluster's metadata until a broker answers."""
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
        """Produces all records, then waits for the delivery report of each."""
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
            self._discard_failed(producer, failures)
            raise self._translated.error(failures[0])
        return [report.take() for report in sent]

    def _await(self, producer: Producer, reports: Iterable[_Reports]) -> None:
        deadline = time.monotonic() + client.TIMEOUT * 1.5
        for report in reports:
            while report.reported < report.expected:
                producer.flush(0.01)
                if time.monotonic() > deadline:
                    raise Problem.SILENT.error(self._settings.shown, "no delivery report")

    def _shared_producer(self) -> Producer:
        with self._lock:
            if self._producer is None:
                config = producer_config(self._settings)
                self._producer = Producer({**config, "error_cb": self._translated.remember})
            return self._producer

    def _discard_failed(self, producer: Producer, failures: Sequence[KafkaError]) -> None:
        """Discards a producer after a fatal error; the next append makes another."""
        if any(failure.fatal() for failure in failures):
            with self._lock:
                if self._producer is producer:
                    self._producer = None

    def member(
        self, topics: Sequence[str], group: str, name: str, *, gained: PartitionsMoved, lost: PartitionsMoved
    ) -> ConfluentMember:
        """Joins a group."""
        with self._translated():
            return ConfluentMember(self._settings, topics, group, name, gained=gained, lost=lost)

    def reader(self) -> ConfluentReader:
        """Makes a consumer that joins no group."""
        with self._translated():
            return ConfluentReader(self._settings)

    def topics(self) -> Mapping[str, int]:
        """Lists topics from the cluster's metadata."""
        with self._translated():
            listed = self._admin.list_topics(timeout=client.TIMEOUT).topics
        found = {self._settings.short(name): len(topic.partitions) for name, topic in listed.items()}
        return {name: count for name, count in found.items() if name is not None}

    def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Reads all settings of topics in one request."""
        if not topics:
            return {}
        resources = {
            _library.ConfigResource(_library.ResourceType.TOPIC, self._settings.full(topic)): topic
            for topic in topics
        }
        with self._translated():
            futures = self._admin.describe_configs(list(resources), request_timeout=client.TIMEOUT)
            return {
                resources[resource]: {name: entry.value for name, entry in future.result().items()}
                for resource, future in futures.items()
            }

    def create(self, topic: NewTopic) -> None:
        """Creates a topic, and waits until the controller has it."""
        try:
            self._create(topic, validate_only=False)
        except KafkaException as error:
            code = error.args[0].code()
            if code in NOT_AUTHORIZED_TO_CREATE:
                raise Problem.NOT_CREATED.error(self._settings.shown, topic.name) from None
            if code != Code.TOPIC_ALREADY_EXISTS:
                raise self._translated.error(error.args[0]) from None

    def check_creation(self, topic: NewTopic) -> None:
        """Has the broker validate the creation."""
        with self._translated():
            self._create(topic, validate_only=True)

    def _create(self, topic: NewTopic, *, validate_only: bool) -> None:
        wanted = _library.NewTopic(
            self._settings.full(topic.name),
            num_partitions=topic.partitions,
            replication_factor=topic.replication,
            config=dict(topic.configs),
        )
        (future,) = self._admin.create_topics(
            [wanted],
            operation_timeout=_ON_BROKER,
            request_timeout=client.TIMEOUT,
            validate_only=validate_only,
        ).values()
        future.result(client.TIMEOUT * 1.5)

    def delete_topics(self, topics: Sequence[str]) -> None:
        """Deletes topics; those that have gone meanwhile are no error."""
        if topics:
            self._wait(
                self._admin.delete_topics(
                    [self._settings.full(topic) for topic in topics],
                    operation_timeout=_ON_BROKER,
                    request_timeout=client.TIMEOUT,
                ),
                MISSING,
            )

    def _wait(self, futures: Mapping[Any, Any], ignored: AbstractSet[int]) -> None:
        """Waits for all futures; errors of the codes `ignored` are swallowed."""
        for future in futures.values():
            with self._translated(ignored):
                future.result()

    def extents(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Extent]:
        """Asks for the starts and the ends of all partitions at the same time."""
        asked = [self._request_offsets(partitions, spec) for spec in (_spec.earliest(), _spec.latest())]
        starts = self._await_offsets(partitions, _spec.earliest(), asked[0])
        ends = self._await_offsets(partitions, _spec.latest(), asked[1])
        return {each: Extent(starts[each], ends[each]) for each in partitions if each in starts.keys() & ends}

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """Looks into the broker's index of times."""
        spec = _spec.for_timestamp(timestamp)
        asked = self._request_offsets([partition], spec)
        found = self._await_offsets([partition], spec, asked).get(partition, -1)
        return None if found < 0 else found

    def _request_offsets(self, partitions: Sequence[TopicPartition], spec: object) -> Mapping[Place, Any]:
        """Asks for an offset of each partition; returns futures."""
        places = {Place(self._settings.full(topic), number): spec for topic, number in partitions}
        if not places:
            return {}
        asked: Mapping[Place, Any] = self._admin.list_offsets(
            places, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=client.TIMEOUT
        )
        return asked

    def _await_offsets(
        self, partitions: Sequence[TopicPartition], spec: object, asked: Mapping[Place, Any]
    ) -> dict[TopicPartition, int]:
        """Waits for offsets; partitions whose leader is being elected are asked again."""
        found: dict[TopicPartition, int] = {}
        left = set(partitions)
        deadline = time.monotonic() + client.TIMEOUT
        while left:
            moving = _MOVING if time.monotonic() < deadline else frozenset[int]()
            for place, future in asked.items():
                partition = TopicPartition(self._settings.short(place.topic) or "", place.partition)
                with self._translated(MISSING | moving):
                    error = future.exception()
                    if error is None or error.args[0].code() not in moving:
                        left.discard(partition)
                    found[partition] = future.result().offset
            if left:
                time.sleep(0.02)
                asked = self._request_offsets(sorted(left), spec)
        return found

    def groups(self) -> Sequence[str]:
        """Lists the groups of the namespace, those of other programs included."""
        with self._translated():
            listed = self._admin.list_consumer_groups(request_timeout=client.TIMEOUT).result()
        names = (self._settings.short(each.group_id) for each in listed.valid)
        return sorted(name for name in names if name is not None)

    def commits(self, group: str) -> Mapping[TopicPartition, int]:
        """Reads every cursor of the group from its coordinator."""
        name = self._settings.full(group)
        found: list[Place] = []
        with self._translated({Code.GROUP_ID_NOT_FOUND}):
            asked = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(name)], request_timeout=client.TIMEOUT
            )
            found = asked[name].result().topic_partitions
        return {partition: commit.offset for partition, commit in stored_commits(self._settings, found)}

    def members(self, group: str) -> frozenset[str]:
        """Lists the client ids that the group's coordinator knows."""
        name = self._settings.full(group)
        members: Sequence[Any] = []
        with self._translated({Code.GROUP_ID_NOT_FOUND}):
            asked = self._admin.describe_consumer_groups([name], request_timeout=client.TIMEOUT)
            members = asked[name].result().members
        return frozenset(member.client_id for member in members)

    def delete_groups(self, groups: Sequence[str]) -> None:
        """Deletes groups that have no members."""
        if groups:
            names = [self._settings.full(group) for group in groups]
            futures = self._admin.delete_consumer_groups(names, request_timeout=client.TIMEOUT)
            self._wait(futures, UNDELETABLE_GROUP)

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Removes records in one request; partitions that have gone meanwhile are no error."""
        places = [Place(self._settings.full(each.topic), each.partition, at) for each, at in offsets.items()]
        if places:
            self._wait(self._admin.delete_records(places, request_timeout=client.TIMEOUT), MISSING)

    def close(self) -> None:
        """Closes the producer. Every append waited for its reports, so nothing is lost."""
        with self._lock:
            if self._producer is not None:
                self._producer.flush(1.0)
            self._producer = None


class _Reports:
    """The delivery reports of one append for one partition, which come in the order of the records."""

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
        """Returns the offset of the next record."""
        self._taken += 1
        return self._offsets[self._taken - 1]


def _produce(producer: Producer, record: NewRecord, partition: int, report: _Reports) -> None:
    value: bytes | None = record.value
    if not value and kind_of(record.topic).compacted:
        value = None  # in a compacted topic only a null value removes a key
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
