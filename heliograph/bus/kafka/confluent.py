"""The cluster through confluent-kafka (librdkafka)."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from threading import Lock
from typing import Any

import structlog
from confluent_kafka import (
    Consumer,
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
from heliograph.bus.kafka.client import Commit, Fenced, Fetched, NewTopic, PartitionsMoved
from heliograph.bus.kafka.errors import FENCED, Problem, confluent_problem
from heliograph.bus.kafka.settings import KafkaSettings
from schemas.errors import BusError
from schemas.record import NewRecord, Record, TopicPartition
from schemas.topics import kind_of

log = structlog.get_logger()

_spec: Any = OffsetSpec  # its makers have no types

_EXISTS = 36
_NOT_AUTHORIZED = {29, 31}
_MISSING = {3, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001 - how the library names it
_MOVING = {5, 6, 74, 75}
"""Leaders that are being elected, or have just been."""
_NO_GROUP = {69}
_END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001
_OUT_OF_RANGE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
_ASK = client.TIMEOUT / 2

_silent = logging.getLogger("heliograph.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def base_config(settings: KafkaSettings) -> dict[str, Any]:
    """What every client of the cluster is configured with, by librdkafka's names."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": settings.protocol,
        "socket.timeout.ms": round(client.TIMEOUT * 1000),
        "socket.connection.setup.timeout.ms": 5000,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": round(client.LOOK_EVERY * 1000),
        "allow.auto.create.topics": False,
        "logger": _silent,
    }
    if settings.ca:
        config["ssl.ca.location"] = settings.ca
    if settings.sasl and settings.password:
        config |= {
            "sasl.mechanism": settings.sasl,
            "sasl.username": settings.username,
            "sasl.password": settings.password.reveal(),
        }
    return config


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Appends: acknowledged by all replicas in sync, in order, without repeats."""
    return base_config(settings) | {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.num.messages": 10000,
        "message.max.bytes": client.RECORD_BYTES,
        "message.timeout.ms": round(client.TIMEOUT * 1000),
        "message.send.max.retries": 8,
        "retry.backoff.max.ms": 1000,
    }


def consumer_config(settings: KafkaSettings, group: str, name: str) -> dict[str, Any]:
    """Reading: nothing is committed or skipped but by us."""
    return base_config(settings) | {
        "group.id": settings.full(group),
        "client.id": name,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": round(client.SESSION * 1000),
        "heartbeat.interval.ms": round(client.HEARTBEAT * 1000),
        "max.poll.interval.ms": round(client.POLL_WITHIN * 1000),
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        "fetch.message.max.bytes": client.RECORD_BYTES,
        "queued.max.messages.kbytes": 32 * 1024,
    }


class ConfluentConnection:
    """One cluster. `producer` and administration are shared by all threads; members and readers are not."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._translated = Translation(settings)
        self._lock = Lock()
        self._producer: Producer | None = None
        config = base_config(settings) | {"error_cb": self._translated.remember}
        self._admin = AdminClient(config)

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
        """Two questions for all partitions together."""
        starts = self._offsets(partitions, _spec.earliest())
        ends = self._offsets(partitions, _spec.latest())
        return {each: Extent(starts[each], ends[each]) for each in partitions if each in starts.keys() & ends}

    def offset_at(self, partition: TopicPartition, timestamp: int) -> int | None:
        """By the log's index of times."""
        found = self._offsets([partition], _spec.for_timestamp(timestamp)).get(partition, -1)
        return None if found < 0 else found

    def _offsets(self, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        found: dict[TopicPartition, int] = {}
        left = {Place(self._settings.full(topic), number): spec for topic, number in partitions}
        deadline = time.monotonic() + client.TIMEOUT
        while left:
            moving = _MOVING if time.monotonic() < deadline else frozenset[int]()
            asked = self._admin.list_offsets(
                left, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=client.TIMEOUT
            )
            for place, future in asked.items():
                with self._translated(_MISSING | moving):
                    error = future.exception()
                    if error is None or error.args[0].code() not in moving:
                        del left[place]
                    topic = self._settings.short(place.topic) or ""
                    found[TopicPartition(topic, place.partition)] = future.result().offset
            if left:
                time.sleep(0.02)
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
        return {partition: commit.offset for partition, commit in _commits(self._settings, found)}

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


_FINAL = {KafkaError._AUTHENTICATION, 58, 33}  # noqa: SLF001


class Translation:
    """Turns errors of librdkafka into ours. What its threads tell meanwhile says more than a timeout does."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.last: KafkaError | None = None
        self._told: dict[int, float] = {}

    def remember(self, error: KafkaError) -> None:
        """Called by the library with what happens between requests."""
        now = time.monotonic()
        code = error.code()
        if confluent_problem(code) is not Problem.SILENT or self.last is None:
            self.last = error
        if now - self._told.get(code, -60.0) >= 60.0:
            self._told[code] = now
            log.warning("kafka", servers=self._settings.bootstrap, problem=error.str())

    def error(self, error: KafkaError) -> BusError:
        """Ours."""
        problem, told = confluent_problem(error.code()), error
        if problem is Problem.SILENT and self.last is not None:
            problem, told = confluent_problem(self.last.code()), self.last
        self.last = None
        return problem.error(self._settings.shown, told.str())

    @contextmanager
    def __call__(self, ignored: AbstractSet[int] = frozenset()) -> Generator[None, None, None]:
        """Around what may raise errors of the library; those of the codes `ignored` are swallowed."""
        try:
            yield
        except KafkaException as error:
            inner = error.args[0]
            if inner.code() not in ignored:
                raise self.error(inner) from None


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


class _Reading:
    """What members and readers share: turning messages into records."""

    def __init__(self, settings: KafkaSettings, config: Mapping[str, Any]) -> None:
        self._settings = settings
        self._translated = Translation(settings)
        self._consumer = Consumer({**config, "error_cb": self._translated.remember})
        self._names: dict[tuple[str, int], TopicPartition] = {}

    def poll(self, limit: int, timeout: float) -> Fetched:
        """What librdkafka has fetched; the first message is waited for, the others are not."""
        with self._translated():
            messages = self._consumer.consume(limit, 0)
            if not messages and timeout > 0:
                first = self._consumer.poll(timeout)
                if first is not None:
                    messages = [first, *self._consumer.consume(limit - 1, 0)] if limit > 1 else [first]
        return self._sorted(messages)

    def _sorted(self, messages: Sequence[Any]) -> Fetched:
        fetched = Fetched({}, {}, set())
        records = fetched.records
        names = self._names
        for message in messages:
            error = message.error()
            if error is not None:
                self._event(message, error, fetched)
                continue
            place = (message.topic(), message.partition())
            at = names.get(place) or self._name(place)
            headers = message.headers()
            record = Record(
                at[0],
                at[1],
                message.offset(),
                message.timestamp()[1],
                message.key(),
                tuple([(name, value or b"") for name, value in headers]) if headers else (),
                message.value() or b"",
            )
            found = records.get(at)
            if found is None:
                records[at] = [record]
            else:
                found.append(record)
        return fetched

    def _name(self, place: tuple[str, int]) -> TopicPartition:
        name = TopicPartition(self._settings.short(place[0]) or place[0], place[1])
        self._names[place] = name
        return name

    def _event(self, message: Message, error: KafkaError, fetched: Fetched) -> None:
        place = (message.topic() or "", message.partition() or 0)
        match error.code():
            case code if code == _END_OF_PARTITION:
                fetched.positions[self._name(place)] = message.offset() or 0
            case code if code == _OUT_OF_RANGE:
                fetched.out_of_range.add(self._name(place))
            case _ if error.fatal() or confluent_problem(error.code()) in _TOLD:
                raise self._translated.error(error)
            case _:
                self._translated.remember(error)

    def _place(self, partition: TopicPartition, offset: int, note: str = "") -> Place:
        return Place(self._settings.full(partition.topic), partition.partition, offset, note)


_TOLD = {Problem.FORBIDDEN, Problem.LOGIN}
"""What a poll raises; everything else mends itself."""


class ConfluentMember(_Reading):
    """A consumer in a group."""

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        group: str,
        name: str,
        gained: PartitionsMoved,
        lost: PartitionsMoved,
    ) -> None:
        super().__init__(settings, consumer_config(settings, group, name))
        self._gained = gained
        self._lost = lost
        self._closing = False
        patterns = [pattern(settings, topic) for topic in topics]
        self._consumer.subscribe(
            patterns, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """All that was gained at once: an assignment replaces the one before."""
        places = [self._place(partition, offset) for partition, offset in offsets.items()]
        with self._translated():
            self._consumer.assign(places)
            self._consumer.resume(places)  # librdkafka keeps them paused from an assignment before

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Drop what was fetched and read on there."""
        with self._translated():
            self._consumer.seek(self._place(partition, offset))

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """What librdkafka has fetched is fetched again later."""
        with self._translated():
            self._consumer.pause([self._place(each, 0) for each in partitions])

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on."""
        with self._translated():
            self._consumer.resume([self._place(each, 0) for each in partitions])

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Commit]:
        """Asked of the coordinator."""
        with self._translated():
            places = [self._place(each, -1001) for each in partitions]
            return dict(_commits(self._settings, self._consumer.committed(places, timeout=client.TIMEOUT)))

    def commit(self, commits: Mapping[TopicPartition, Commit]) -> None:
        """Synchronous."""
        places = [self._place(each, commit.offset, commit.note) for each, commit in commits.items()]
        try:
            done = self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            raise self._commit_error(error.args[0]) from None
        for place in done:
            if place.error is not None:
                raise self._commit_error(place.error)

    def _commit_error(self, error: KafkaError) -> Exception:
        return Fenced(error.str()) if error.code() in FENCED else self._translated.error(error)

    def close(self) -> None:
        """Leaves the group before it returns."""
        self._closing = True
        self._consumer.close()

    def _assigned(self, consumer: Consumer, places: list[Place]) -> None:
        consumer.assign([])  # they rest until `start`
        if not self._closing:
            self._gained([self._name((place.topic, place.partition)) for place in places])

    def _revoked(self, consumer: Consumer, places: list[Place]) -> None:
        try:
            if not self._closing:
                self._lost([self._name((place.topic, place.partition)) for place in places])
        finally:
            consumer.unassign()


class ConfluentReader(_Reading):
    """A consumer outside of groups: its group id is never used."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, consumer_config(settings, "__reader", "heliograph-reader"))

    def assign(self, partition: TopicPartition, offset: int) -> None:
        """Drop what was fetched of another."""
        with self._translated():
            self._consumer.assign([self._place(partition, offset)])

    def close(self) -> None:
        """Let go."""
        self._consumer.close()


def pattern(settings: KafkaSettings, topic: str) -> str:
    """A name or `*` pattern as a regular expression of what it is on the broker. Names, too: a topic that is not
    there yet is then nothing to complain of."""
    return f"^{settings.full(topic).replace('.', '[.]').replace('*', '.*')}$"


def _commits(settings: KafkaSettings, places: Sequence[Any]) -> Iterator[tuple[TopicPartition, Commit]]:
    for place in places:
        topic = settings.short(place.topic)
        if place.error is not None:
            raise KafkaException(place.error)
        if topic is not None and place.offset >= 0:
            yield TopicPartition(topic, place.partition), Commit(place.offset, place.metadata or "")
