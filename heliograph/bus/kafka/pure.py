"""The cluster through kafka-python 2.3, which is always there.

The library has no types; what comes out of it is given ours here.
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
from heliograph.bus.kafka.errors import Problem, pure_problem
from heliograph.bus.kafka.overheard import reason
from heliograph.bus.kafka.pure_reading import PureMember, PureReader
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.errors import BusError
from schemas.record import NewRecord, TopicPartition
from schemas.topics import kind_of

_kafka: Any = import_module("kafka")
_admin: Any = import_module("kafka.admin")
_errors: Any = import_module("kafka.errors")
_Place: Any = _kafka.TopicPartition

_EXISTS = 36
_NOT_AUTHORIZED = {29, 31}
_MISSING = {3}
_READ_COMMITTED = 1
_RESPONSE_BYTES = 128 * 1024 * 1024


def base_config(settings: KafkaSettings) -> dict[str, Any]:
    """What every client of the cluster is configured with, by kafka-python's names."""
    config: dict[str, Any] = {
        "bootstrap_servers": list(settings.servers),
        "security_protocol": settings.protocol,
        "request_timeout_ms": round(client.TIMEOUT * 1000),
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
    """Appends: acknowledged by all replicas in sync, in order, without repeats."""
    return base_config(settings) | {
        "enable_idempotence": True,
        "acks": "all",
        "compression_type": "lz4",
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "max_request_size": client.RECORD_BYTES,
        "max_block_ms": round(client.TIMEOUT * 1000),
        "request_timeout_ms": round(client.TIMEOUT * 1000) - 1000,
        "delivery_timeout_ms": round(client.TIMEOUT * 1000),
        "retries": 8,
        "retry_backoff_ms": 500,
        "allow_auto_create_topics": False,
    }


def consumer_config(settings: KafkaSettings, name: str) -> dict[str, Any]:
    """Reading: nothing is committed or skipped but by us."""
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
    """What only a member of a group needs."""
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
        """Ours; what says little is explained by what closed the connection."""
        overheard = reason()
        if overheard is not None and pure_problem(error) in {Problem.SILENT, Problem.OTHER}:
            error = overheard
        return pure_problem(error).error(self._settings.shown, str(error))

    @contextmanager
    def __call__(self, ignored: AbstractSet[int] = frozenset()) -> Generator[None, None, None]:
        """Around what may raise errors of the library; those of the codes `ignored` are swallowed."""
        try:
            yield
        except _errors.KafkaError as error:
            if getattr(error, "errno", None) not in ignored:
                raise self.error(error) from None


class PureConnection:
    """One cluster. Questions go through one administration client and one consumer without a group, each under a
    lock: neither is for several threads."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._translated = Translation(settings)
        self._lock = RLock()
        self._producer_lock = Lock()
        self._producer: Any = None
        self._administration: Any = None
        self._questions: Any = None

    def check(self) -> None:
        """Connect; the library's own attempts end with its time limit."""
        deadline = time.monotonic() + client.CONNECT_WITHIN
        while True:
            try:
                self._admin()
            except _errors.KafkaError as error:
                told = reason() or error
                if pure_problem(told) is Problem.LOGIN or time.monotonic() > deadline:
                    raise self._translated.error(error) from None
                time.sleep(0.1)
            else:
                return

    def append(self, records: Sequence[NewRecord], partitions: Sequence[int]) -> Sequence[int]:
        """Send all, flush, and look at the result of each."""
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
        self, topics: Sequence[str], group: str, name: str, gained: PartitionsMoved, lost: PartitionsMoved
    ) -> PureMember:
        """Join a group."""
        config = consumer_config(self._settings, name) | group_config(self._settings, group)
        with self._translated():
            return PureMember(self._settings, self._translated, config, topics, gained=gained, lost=lost)

    def reader(self) -> PureReader:
        """A consumer that joins no group."""
        with self._translated():
            config = consumer_config(self._settings, "heliograph-reader")
            return PureReader(self._settings, self._translated, config)

    def topics(self) -> Mapping[str, int]:
        """From the cluster's metadata."""
        with self._asking() as admin:
            listed = admin.describe_topics()
        found = {self._settings.short(each["topic"]): len(each["partitions"]) for each in listed}
        return {name: count for name, count in found.items() if name is not None}

    def create(self, topic: NewTopic) -> None:
        """Make it; the broker answers once it is there."""
        wanted = _admin.NewTopic(
            self._settings.full(topic.name),
            topic.partitions,
            topic.replication,
            topic_configs=dict(topic.configs),
        )
        try:
            with self._lock:
                self._admin().create_topics([wanted], timeout_ms=round(client.TIMEOUT * 1000))
        except _errors.KafkaError as error:
            code = getattr(error, "errno", None)
            if code in _NOT_AUTHORIZED:
                raise Problem.NOT_CREATED.error(self._settings.shown, topic.name) from None
            if code != _EXISTS:
                raise self._translated.error(error) from None

    def extents(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Extent]:
        """Two questions for all partitions together; the library would wait for those that do not exist."""
        counts = self.topics() if partitions else dict[str, int]()
        places = [
            _Place(self._settings.full(each.topic), each.partition)
            for each in partitions
            if each.partition < counts.get(each.topic, 0)
        ]
        if not places:
            return {}
        found: dict[TopicPartition, Extent] = {}
        with self._lock, self._translated(_MISSING):
            consumer = self._asker()
            starts, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
            for place in places:
                name = TopicPartition(self._settings.short(place.topic) or "", place.partition)
                found[name] = Extent(starts[place], ends[place])
        return found

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """By the log's index of times."""
        place = _Place(self._settings.full(partition.topic), partition.partition)
        with self._lock, self._translated():
            found = self._asker().offsets_for_times({place: timestamp})[place]
            return None if found is None else int(found.offset)

    def groups(self) -> Sequence[str]:
        """Groups of the namespace, also those of other programs in it."""
        with self._asking() as admin:
            listed = admin.list_consumer_groups()
        names = (self._settings.short(each[0]) for each in listed)
        return sorted(name for name in names if name is not None)

    def commits(self, group: str) -> Mapping[TopicPartition, int]:
        """Every cursor of the group."""
        with self._asking() as admin:
            found = admin.list_consumer_group_offsets(self._settings.full(group))
        cursors: dict[TopicPartition, int] = {}
        for place, commit in found.items():
            topic = self._settings.short(place.topic)
            if topic is not None and commit.offset >= 0:
                cursors[TopicPartition(topic, place.partition)] = commit.offset
        return cursors

    def members(self, group: str) -> frozenset[str]:
        """Client ids, as the coordinator knows them."""
        with self._asking() as admin:
            (described,) = admin.describe_consumer_groups([self._settings.full(group)])
        return frozenset(member.client_id for member in described.members)

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """One request for each leader."""
        places = {_Place(self._settings.full(each.topic), each.partition): at for each, at in offsets.items()}
        if places:
            with self._lock, self._translated(_MISSING):
                self._admin().delete_records(places, timeout_ms=round(client.TIMEOUT * 1000))

    def close(self) -> None:
        """Appends have been waited for, so that nothing is lost."""
        with self._lock, self._producer_lock:
            for each in (self._administration, self._questions):
                if each is not None:
                    each.close()
            if self._producer is not None:
                self._producer.close(1.0)
            self._administration = self._questions = self._producer = None

    @contextmanager
    def _asking(self) -> Generator[Any, None, None]:
        with self._lock, self._translated():
            yield self._admin()

    def _admin(self) -> Any:  # noqa: ANN401
        if self._administration is None:
            self._administration = _admin.KafkaAdminClient(**base_config(self._settings))
        return self._administration

    def _asker(self) -> Any:  # noqa: ANN401
        if self._questions is None:
            self._questions = _kafka.KafkaConsumer(
                **consumer_config(self._settings, "heliograph-questions"),
            )
        return self._questions
