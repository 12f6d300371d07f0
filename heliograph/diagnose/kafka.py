"""Checks of `heliograph doctor` that only a deployment on Kafka and S3 needs."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from uuid import uuid4

from heliograph.app.config import Config
from heliograph.bus.base import Bus
from heliograph.bus.kafka.administration import Administration
from heliograph.bus.kafka.client import NewTopic
from heliograph.bus.kafka.layout import new_topic
from heliograph.bus.kafka.settings import LOG_TOPIC, KafkaSettings, parse
from heliograph.bus.open import KAFKA_PARTITIONS
from heliograph.diagnose.finding import Finding, State, clock_finding
from heliograph.diagnose.kafka_plan import KNOWN_TOPICS
from heliograph.store.base import ObjectStore
from schemas.clock import Clock
from schemas.errors import BusError, InvalidConfiguration, StoreError
from schemas.record import NewRecord, TopicPartition
from schemas.topics import TopicKind, kind_of

REACHED_WITHIN = 3.0
"""Time limit in seconds for a connection to one server."""
PLAN = "`heliograph topics --plan` prints what to create"


def servers(config: Config) -> Iterator[Finding]:
    """Checks that each server of the URL accepts connections.

    Yields nothing for a wrong URL, which opening the bus reports.
    """
    try:
        settings = parse(config.bus_url, config.bus.namespace)
    except InvalidConfiguration:
        return
    for server in settings.servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN).close()
        except OSError as error:
            remedy = "correct bus.url, start the broker, or allow connections from this machine"
            yield Finding(f"broker {server}", State.FAILED, f"{error.strerror or error}; {remedy}")
        else:
            yield Finding(f"broker {server}", State.OK, "accepts connections")


def examine_bus(config: Config, bus: Bus, clock: Clock) -> Iterator[Finding]:
    """Checks the namespace, permissions, the broker's clock, and the settings of topics."""
    settings = parse(config.bus_url, config.bus.namespace)
    yield Finding("namespace", State.OK, f"{settings.namespace}: names of topics and groups begin with it")
    yield _check_append(bus, clock)
    try:
        with Administration(settings) as administration:
            there = administration.topics()
            yield _check_creation(administration, _wanted(settings, config, "doctor"), there)
            yield from _check_settings(settings, config, there, administration.configs(list(there)))
    except BusError as error:
        yield Finding("topics", State.FAILED, str(error))


def store_clock(store: ObjectStore, clock: Clock) -> Finding:
    """Compares the clock of an object store with ours by the modification time of a new object.

    The store gives this time in whole seconds, rounded down.
    """
    key = f"probe/{uuid4().hex}"
    began = clock.now()
    try:
        store.put(key, b"")
        ended = clock.now()
        found = store.head(key)
    except StoreError as error:
        return Finding("store clock", State.FAILED, str(error))
    finally:
        with suppress(StoreError):
            store.delete(key)
    if found is None:
        return Finding("store clock", State.FAILED, "a new object does not exist; see the store's log")
    return clock_finding("store clock", found.modified - ended, found.modified + 1000 - began)


def _check_append(bus: Bus, clock: Clock) -> Finding:
    """Appends a record, reads it back, and compares its timestamp, which is the broker's, with our clock.

    Uses the topic of the log id, in which every record but the first is ignored.
    """
    began = clock.now()
    try:
        (position,) = bus.append([NewRecord(LOG_TOPIC, b"doctor", partition=0)])
        ended = clock.now()
        place = TopicPartition(position.topic, position.partition)
        records = bus.read(place, position.offset, 1).records
    except BusError as error:
        return Finding("append and read", State.FAILED, str(error))
    if not records:
        return Finding(
            "append and read",
            State.FAILED,
            f"{LOG_TOPIC}: the appended record cannot be read back; see the broker's log",
        )
    return clock_finding("append, read, clock", records[0].timestamp - ended, records[0].timestamp - began)


def _check_creation(administration: Administration, wanted: NewTopic, there: Mapping[str, int]) -> Finding:
    missing = [topic for topic in KNOWN_TOPICS if topic not in there]
    try:
        administration.check_creation(wanted)
    except BusError as error:
        if not missing:
            return Finding("create topics", State.OK, "not permitted, but all topics exist")
        return Finding("create topics", State.FAILED, f"{error}; missing: {', '.join(missing)}; {PLAN}")
    return Finding("create topics", State.OK, "permitted")


def _check_settings(
    settings: KafkaSettings,
    config: Config,
    there: Mapping[str, int],
    configs: Mapping[str, Mapping[str, str]],
) -> Iterator[Finding]:
    """Yields a finding for each difference of a topic from the plan, or a single finding if there is none."""
    differing = False
    for topic in KNOWN_TOPICS:
        if topic in there:
            wanted = _wanted(settings, config, topic)
            for finding in _differences(
                settings, topic, wanted, partitions=there[topic], configs=configs.get(topic, {})
            ):
                differing = True
                yield finding
    if not differing:
        yield Finding("topics", State.OK, f"{len(there)} exist, as planned")


def _differences(
    settings: KafkaSettings, topic: str, wanted: NewTopic, *, partitions: int, configs: Mapping[str, str]
) -> Iterator[Finding]:
    """Yields a finding for each difference of a topic from the plan.

    For a topic with its own retention the difference is a failure, since records that must stay could be lost; for a
    topic of events it is a warning.
    """
    check = f"topic {topic}"
    kept_specially = kind_of(topic) != TopicKind() or topic == LOG_TOPIC
    wrong = {name: value for name, value in wanted.configs.items() if configs.get(name) != value}
    if wrong:
        alter = ",".join(f"{name}={value}" for name, value in wrong.items())
        found = ", ".join(f"{name}={configs.get(name, '')}" for name in wrong)
        command = f"kafka-configs.sh --bootstrap-server {settings.servers[0]} --alter --topic {settings.full(topic)}"
        yield Finding(
            check,
            State.FAILED if kept_specially else State.WARNING,
            f"has {found}: {command} --add-config {alter}",
        )
    if partitions != wanted.partitions:
        single = kind_of(topic).partitions == 1 or topic == LOG_TOPIC
        remedy = (
            "it must have one; delete it, and Heliograph creates it again"
            if single
            else "set bus.partitions to what the topics have; adding partitions moves keys, and so breaks their order"
        )
        text = f"has {partitions} partitions, {wanted.partitions} are planned: {remedy}"
        yield Finding(check, State.FAILED if single else State.WARNING, text)


def _wanted(settings: KafkaSettings, config: Config, topic: str) -> NewTopic:
    section = config.bus
    return new_topic(
        settings,
        topic,
        partitions=section.partitions or KAFKA_PARTITIONS,
        retention=section.retention_hours * 3600,
    )
