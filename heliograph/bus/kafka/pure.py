"""The cluster through kafka-python 2.3, which is always installed.

The library has no types; its answers become ours here.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from importlib import import_module
from threading import Lock, RLock
from typing import Any

from heliograph.bus.base import Extent
from heliograph.bus.kafka import client
from heliograph.bus.kafka.client import NewTopic, PartitionsMoved
from heliograph.bus.kafka.disconnects import last_disconnect, watch_disconnects
from heliograph.bus.kafka.errors import (
    MISSING,
    NOT_AUTHORIZED_TO_CREATE,
    UNDELETABLE_GROUP,
    Code,
    Problem,
    problem_of_exception,
)
from heliograph.bus.kafka.pure_reading import PureMember, PureReader
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.errors import BusError
from schemas.record import NewRecord, TopicPartition
from schemas.topics import kind_of

_kafka: Any = import_module("kafka")
_library: Any = import_module("kafka.admin")
_errors: Any = import_module("kafka.errors")
_Place: Any = _kafka.TopicPartition

_RESPONSE_BYTES = 128 * 1024 * 1024
_TIMEOUT_MS = round(client.TIMEOUT * 1000)


def base_config(settings: KafkaSettings) -> dict[str, Any]:
    """Builds what every client of the cluster is configured with, by kafka-python's names."""
    config: dict[str, Any] = {
        "bootstrap_servers": list(settings.servers),
        "security_protocol": settings.protocol,
        "request_timeout_ms": _TIMEOUT_MS,
        "reconnect_backoff_max_ms": 1000,
        "metadata_max_age_ms": round(client.LOOK_EVERY * 1000),
        "receive_message_max_bytes": _RESPONSE_BYTES,
        "api_version_auto_timeout_ms": round(client.CONNECT_WITHIN * 1000),
    }
    if settings.ca:
        config["ssl_cafile"] = settings.ca
    if settings.sasl and settings.password:
        config |= {
            "sasl_mechanism": settings.sasl,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": settings.password.reveal(),
        }
    return config


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Builds the configuration of a producer: acknowledged by all replicas in sync, in order, without repeats."""
    return base_config(settings) | {
        "enable_idempotence": True,
        "acks": "all",
        "compression_type": "lz4",
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "max_request_size": client.RECORD_BYTES,
        "max_block_ms": _TIMEOUT_MS,
        "request_timeout_ms": _TIMEOUT_MS - 1000,
        "delivery_timeout_ms": _TIMEOUT_MS,
        "retries": 8,
        "retry_backoff_ms": 500,
        "allow_auto_create_topics": False,
    }


def consumer_config(settings: KafkaSettings, name: str) -> dict[str, Any]:
    """Builds the configuration of a consumer: only we commit, and nothing is skipped."""
    return base_config(settings) | {
        "client_id": name,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "fetch_max_wait_ms": 50,
        "max_partition_fetch_bytes": client.RECORD_BYTES,
        "fetch_max_bytes": 32 * 1024 * 1024,
    }


def group_config(settings: KafkaSettings, group: str) -> dict[str, Any]:
    """Builds what only a member of a group is configured with."""
    return {
        "group_id": settings.full(group),
        "partition_assignment_strategy": [
            import_module("kafka.coordinator.assignors.range").RangePartitionAssignor
        ],
        "session_timeout_ms": round(client.SESSION * 1000),
        "heartbeat_interval_ms": round(client.HEARTBEAT * 1000),
        "max_poll_interval_ms": round(client.POLL_WITHIN * 1000),
        "request_timeout_ms": round((client.POLL_WITHIN + client.TIMEOUT) * 1000),
    }


class Translation:
    """Turns exceptions of kafka-python into ours."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def error(self, error: BaseException) -> BusError:
        """Builds our exception. An error that says little is explained by what closed the connection."""
        cause = last_disconnect()
        if cause is not None and problem_of_exception(error) in {Problem.SILENT, Problem.OTHER}:
            error = cause
        return problem_of_exception(error).error(self._settings.shown, str(error))

    @contextmanager
    def __call__(self, ignored: AbstractSet[int] = frozenset()) -> Generator[None, None, None]:
        """Translates errors of the library that the block raises; those of the codes `ignored` are swallowed."""
        try:
            yield
        except _errors.KafkaError as error:
            if getattr(error, "errno", None) not in ignored:
                raise self.error(error) from None


class PureConnection:
    """One cluster. Requests go through one administration client, questions for offsets through one consumer without a
    group. One lock guards both, since neither is safe to use from several threads."""

    def __init__(self, settings: KafkaSettings) -> None:
        watch_disconnects()
        self._settings = settings
        self._translated = Translation(settings)
        self._lock = RLock()
        self._producer_lock = Lock()
        self._producer: Any = None
        self._admin: Any = None
        self._offsets: Any = None

    def check(self) -> None:
        """Connects, in as many attempts of the library as the time limit allows."""
        deadline = time.monotonic() + client.CONNECT_WITHIN
        while True:
            try:
                self._shared_admin()
            except _errors.KafkaError as error:
                cause = last_disconnect() or error
                if problem_of_exception(cause) is Problem.LOGIN or time.monotonic() > deadline:
                    raise self._translated.error(error) from None
                time.sleep(0.1)
            else:
                return

    def append(self, records: Sequence[NewRecord], partitions: Sequence[int]) -> Sequence[int]:
        """Sends all records, flushes, and takes the result of each."""
        full = {topic: self._settings.full(topic) for topic in {record.topic for record in records}}
        compacted = {topic for topic in full if kind_of(topic).compacted}
        with self._translated():
            send = self._shared_producer().send
            futures = [
                send(
                    full[record.topic],
                    record.value or (None if record.topic in compacted and record.key is not None else b""),
                    record.key,
                    list(record.headers),
                    partition,
                )
                for record, partition in zip(records, partitions, strict=True)
            ]
            self._producer.flush(client.TIMEOUT * 1.5)
            return [future.get(0).offset for future in futures]

    def _shared_producer(self) -> Any:  # noqa: ANN401
        with self._producer_lock:
            if self._producer is None:
                self._producer = _kafka.KafkaProducer(**producer_config(self._settings))
            return self._producer

    def member(
        self, topics: Sequence[str], group: str, name: str, *, gained: PartitionsMoved, lost: PartitionsMoved
    ) -> PureMember:
        """Joins a group."""
        config = consumer_config(self._settings, name) | group_config(self._settings, group)
        with self._translated():
            return PureMember(self._settings, self._translated, config, topics, gained=gained, lost=lost)

    def reader(self) -> PureReader:
        """Makes a consumer that joins no group."""
        with self._translated():
            config = consumer_config(self._settings, "heliograph-reader")
            return PureReader(self._settings, self._translated, config)

    def topics(self) -> Mapping[str, int]:
        """Lists topics from the cluster's metadata."""
        with self._administering() as admin:
            listed = admin.describe_topics()
        found = {self._settings.short(each["topic"]): len(each["partitions"]) for each in listed}
        return {name: count for name, count in found.items() if name is not None}

    def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Reads all settings of topics in one request."""
        if not topics:
            return {}
        resources = [_library.ConfigResource("TOPIC", self._settings.full(topic)) for topic in topics]
        with self._administering() as admin:
            responses = admin.describe_configs(resources)
        return {
            self._settings.short(name) or "": {entry[0]: entry[1] for entry in entries}
            for response in responses
            for _, _, _, name, entries in response.resources
        }

    def create(self, topic: NewTopic) -> None:
        """Creates a topic; the broker answers once the topic exists."""
        try:
            with self._lock:
                self._create(topic, validate_only=False)
        except _errors.KafkaError as error:
            code = getattr(error, "errno", None)
            if code in NOT_AUTHORIZED_TO_CREATE:
                raise Problem.NOT_CREATED.error(self._settings.shown, topic.name) from None
            if code != Code.TOPIC_ALREADY_EXISTS:
                raise self._translated.error(error) from None

    def check_creation(self, topic: NewTopic) -> None:
        """Has the broker validate the creation."""
        with self._lock, self._translated():
            self._create(topic, validate_only=True)

    def _create(self, topic: NewTopic, *, validate_only: bool) -> None:
        wanted = _library.NewTopic(
            self._settings.full(topic.name),
            topic.partitions,
            topic.replication,
            topic_configs=dict(topic.configs),
        )
        self._shared_admin().create_topics([wanted], timeout_ms=_TIMEOUT_MS, validate_only=validate_only)

    def delete_topics(self, topics: Sequence[str]) -> None:
        """Deletes topics; those that have gone meanwhile are no error."""
        if topics:
            with self._administering(MISSING) as admin:
                admin.delete_topics([self._settings.full(topic) for topic in topics], timeout_ms=_TIMEOUT_MS)

    def extents(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Extent]:
        """Asks for the starts, then for the ends, of all partitions that exist; the library would wait for others."""
        counts = self.topics() if partitions else dict[str, int]()
        places = [
            _Place(self._settings.full(each.topic), each.partition)
            for each in partitions
            if each.partition < counts.get(each.topic, 0)
        ]
        if not places:
            return {}
        found: dict[TopicPartition, Extent] = {}
        with self._lock, self._translated(MISSING):
            consumer = self._shared_consumer()
            starts, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
            for place in places:
                name = TopicPartition(self._settings.short(place.topic) or "", place.partition)
                found[name] = Extent(starts[place], ends[place])
        return found

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """Looks into the broker's index of times."""
        place = _Place(self._settings.full(partition.topic), partition.partition)
        with self._lock, self._translated():
            found = self._shared_consumer().offsets_for_times({place: timestamp})[place]
            return None if found is None else int(found.offset)

    def groups(self) -> Sequence[str]:
        """Lists the groups of the namespace, those of other programs included."""
        with self._administering() as admin:
            listed = admin.list_consumer_groups()
        names = (self._settings.short(each[0]) for each in listed)
        return sorted(name for name in names if name is not None)

    def commits(self, group: str) -> Mapping[TopicPartition, int]:
        """Reads every cursor of the group from its coordinator."""
        with self._administering() as admin:
            found = admin.list_consumer_group_offsets(self._settings.full(group))
        cursors: dict[TopicPartition, int] = {}
        for place, commit in found.items():
            topic = self._settings.short(place.topic)
            if topic is not None and commit.offset >= 0:
                cursors[TopicPartition(topic, place.partition)] = commit.offset
        return cursors

    def members(self, group: str) -> frozenset[str]:
        """Lists the client ids that the group's coordinator knows."""
        with self._administering() as admin:
            (described,) = admin.describe_consumer_groups([self._settings.full(group)])
        return frozenset(member.client_id for member in described.members)

    def delete_groups(self, groups: Sequence[str]) -> None:
        """Deletes groups that have no members."""
        if not groups:
            return
        with self._administering() as admin:
            answers = admin.delete_consumer_groups([self._settings.full(group) for group in groups])
        for _, error in answers:
            if error is not _errors.NoError and error.errno not in UNDELETABLE_GROUP:
                raise self._translated.error(error())

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Removes records in one request for each leader; partitions that have gone meanwhile are no error."""
        places = {_Place(self._settings.full(each.topic), each.partition): at for each, at in offsets.items()}
        if places:
            with self._administering(MISSING) as admin:
                admin.delete_records(places, timeout_ms=_TIMEOUT_MS)

    def close(self) -> None:
        """Closes all clients. Every append waited for its results, so nothing is lost."""
        with self._lock, self._producer_lock:
            for each in (self._admin, self._offsets):
                if each is not None:
                    each.close()
            if self._producer is not None:
                self._producer.close(1.0)
            self._admin = self._offsets = self._producer = None

    @contextmanager
    def _administering(self, ignored: AbstractSet[int] = frozenset()) -> Generator[Any, None, None]:
        """Lends the administration client, and translates its errors but for those of the codes `ignored`."""
        with self._lock, self._translated(ignored):
            yield self._shared_admin()

    def _shared_admin(self) -> Any:  # noqa: ANN401
        if self._admin is None:
            self._admin = _library.KafkaAdminClient(**base_config(self._settings))
        return self._admin

    def _shared_consumer(self) -> Any:  # noqa: ANN401
        """Makes, at first use, the consumer that asks for offsets."""
        if self._offsets is None:
            self._offsets = _kafka.KafkaConsumer(**consumer_config(self._settings, "heliograph-questions"))
        return self._offsets
